//! What is in the registers while a rule is read.

use super::constants::*;
use crate::model::End;
use crate::net::FamilyName;
use crate::netlink::constants::*;
use crate::nftables::Field;

/// How many registers of 4 bytes there are. Each of the four of 16 bytes is four of them.
const SLOTS: usize = 16;

/// What an expression loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Load {
    Meta(u32),
    Payload {
        base: u32,
        offset: usize,
    },
    State,
    Status,
    AddressType(End),
    Constant(Vec<u8>),
    /// Something else, in a word.
    Other(String),
}

/// A value in registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) load: Load,
    pub(super) length: usize,
    /// Whether its bytes were turned round, to big endian or back.
    pub(super) swapped: bool,
    /// The bits of it that were kept.
    pub(super) mask: Option<Vec<u8>>,
}

impl Value {
    pub(super) fn new(load: Load, length: usize) -> Self {
        Self { load, length, swapped: false, mask: None }
    }

    /// One that nothing is known of but a word.
    pub(super) fn other(word: &str, length: usize) -> Self {
        Self::new(Load::Other(word.to_owned()), length)
    }
}

/// The registers.
#[derive(Debug, Default)]
pub(super) struct Registers {
    values: Vec<Value>,
    /// Which value is in each, and which piece of it.
    slots: [Option<(usize, usize)>; SLOTS],
}

impl Registers {
    /// Puts a value into a register, and those behind it as far as it is long.
    pub(super) fn set(&mut self, register: u32, value: Value) {
        let Some(first) = slot(register) else { return };
        let pieces = value.length.max(1).div_ceil(4);
        self.values.push(value);
        for (piece, slot) in self.slots.iter_mut().skip(first).take(pieces).enumerate() {
            *slot = Some((self.values.len() - 1, piece));
        }
    }

    /// The values in so many bytes from a register on, each from its beginning; `None` if it is not known what is there.
    pub(super) fn get(&self, register: u32, length: usize) -> Option<Vec<Value>> {
        let mut at = slot(register)?;
        let end = at + length.max(1).div_ceil(4);
        let mut found = Vec::new();
        while at < end {
            let (index, 0) = (*self.slots.get(at)?)? else { return None };
            let value = &self.values[index];
            let pieces = value.length.max(1).div_ceil(4).min(end - at);
            let whole = (0..pieces).all(|piece| self.slots.get(at + piece) == Some(&Some((index, piece))));
            found.push(whole.then(|| value.clone())?);
            at += pieces;
        }
        Some(found)
    }

    /// The only value in so many bytes from a register on.
    pub(super) fn one(&self, register: u32, length: usize) -> Option<Value> {
        match &self.get(register, length)?[..] {
            [one] => Some(one.clone()),
            _ => None,
        }
    }
}

fn slot(register: u32) -> Option<usize> {
    match register {
        NFT_REG_1..=NFT_REG_4 => Some((register - NFT_REG_1) as usize * 4),
        NFT_REG32_00..=NFT_REG32_15 => Some((register - NFT_REG32_00) as usize),
        _ => None,
    }
}

/// What some bytes of a value are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Bytes of a field, from this one on.
    Field(Field, usize),
    Interface {
        out: bool,
    },
    /// The number of an interface.
    Index {
        out: bool,
    },
    Protocol,
    Flags,
    State,
    Status,
    AddressType(End),
    Constant(Vec<u8>),
    Unknown,
}

/// What the bytes of a value are for a packet of a family: how many bytes, and what.
pub(super) fn pieces(value: &Value, family: FamilyName) -> Vec<(usize, What)> {
    let whole = |what| vec![(value.length, what)];
    match &value.load {
        Load::Meta(NFT_META_IIFNAME) => whole(What::Interface { out: false }),
        Load::Meta(NFT_META_OIFNAME) => whole(What::Interface { out: true }),
        Load::Meta(NFT_META_IIF) => whole(What::Index { out: false }),
        Load::Meta(NFT_META_OIF) => whole(What::Index { out: true }),
        Load::Meta(NFT_META_SKUID) => whole(What::Field(Field::User, 0)),
        Load::Meta(NFT_META_SKGID) => whole(What::Field(Field::Group, 0)),
        Load::Meta(NFT_META_L4PROTO) => whole(What::Protocol),
        Load::Meta(NFT_META_NFPROTO) => whole(What::Constant(vec![match family {
            FamilyName::V4 => NFPROTO_IPV4,
            FamilyName::V6 => NFPROTO_IPV6,
        }])),
        Load::Meta(NFT_META_PROTOCOL) => {
            let number = match family {
                FamilyName::V4 => ETH_P_IP,
                FamilyName::V6 => ETH_P_IPV6,
            };
            whole(What::Constant(number.to_be_bytes().to_vec()))
        }
        Load::Meta(_) | Load::Other(_) => whole(What::Unknown),
        Load::State => whole(What::State),
        Load::Status => whole(What::Status),
        Load::AddressType(end) => whole(What::AddressType(*end)),
        Load::Constant(bytes) => whole(What::Constant(bytes.clone())),
        Load::Payload { base, offset } => {
            let fields = headers(*base, family);
            let (mut at, end) = (*offset, offset + value.length);
            let mut found = Vec::new();
            while at < end {
                let here = fields.iter().find(|(from, length, _)| (*from..from + length).contains(&at));
                let next = fields.iter().map(|(from, ..)| *from).filter(|from| *from > at).min().unwrap_or(end);
                let (until, what) = match here {
                    Some((from, length, What::Field(field, _))) => (from + length, What::Field(*field, at - from)),
                    Some((from, length, what)) => (from + length, what.clone()),
                    None => (next, What::Unknown),
                };
                let until = until.min(end);
                found.push((until - at, what));
                at = until;
            }
            found
        }
    }
}

/// What is where in a header: the first byte, how many, and what.
fn headers(base: u32, family: FamilyName) -> Vec<(usize, usize, What)> {
    let address = |field: Field, at| (at, field.width(family), What::Field(field, 0));
    match (base, family) {
        (NFT_PAYLOAD_NETWORK_HEADER, FamilyName::V4) => {
            vec![(9, 1, What::Protocol), address(Field::SourceAddress, 12), address(Field::DestinationAddress, 16)]
        }
        // The next header is the protocol where there are no extension headers, as in packets here.
        (NFT_PAYLOAD_NETWORK_HEADER, FamilyName::V6) => {
            vec![(6, 1, What::Protocol), address(Field::SourceAddress, 8), address(Field::DestinationAddress, 24)]
        }
        (NFT_PAYLOAD_TRANSPORT_HEADER, _) => {
            vec![address(Field::SourcePort, 0), address(Field::DestinationPort, 2), (13, 1, What::Flags)]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(base: u32, offset: usize, length: usize) -> Value {
        Value::new(Load::Payload { base, offset }, length)
    }

    #[test]
    fn values_are_where_they_were_put() {
        let mut registers = Registers::default();
        let (address, protocol, port) = (
            payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 4),
            Value::new(Load::Meta(NFT_META_L4PROTO), 1),
            payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2),
        );
        registers.set(NFT_REG_1, address.clone());
        registers.set(NFT_REG32_00 + 1, protocol.clone());
        registers.set(NFT_REG32_00 + 2, port.clone());
        assert_eq!(registers.get(NFT_REG_1, 12), Some(vec![address.clone(), protocol, port]));
        assert_eq!(registers.one(NFT_REG_1, 4), Some(address.clone()));
        assert_eq!(registers.one(NFT_REG_1, 8), None);
        assert_eq!(registers.get(NFT_REG_1, 16), None);
        assert_eq!(registers.get(NFT_REG_4, 4), None);
        assert_eq!(registers.get(0, 4), None);
        // What is in the way of a longer value ends it.
        registers.set(NFT_REG_1, Value::new(Load::Meta(NFT_META_IIFNAME), 16));
        registers.set(NFT_REG32_00 + 3, address);
        assert_eq!(registers.get(NFT_REG_1, 16), None);
    }

    #[test]
    fn one_load_may_be_of_several_fields() {
        let both = payload(NFT_PAYLOAD_NETWORK_HEADER, 12, 8);
        assert_eq!(
            pieces(&both, FamilyName::V4),
            [(4, What::Field(Field::SourceAddress, 0)), (4, What::Field(Field::DestinationAddress, 0))]
        );
        assert_eq!(pieces(&both, FamilyName::V6), [(8, What::Field(Field::SourceAddress, 4))]);
        let odd = payload(NFT_PAYLOAD_NETWORK_HEADER, 8, 3);
        assert_eq!(pieces(&odd, FamilyName::V4), [(1, What::Unknown), (1, What::Protocol), (1, What::Unknown)]);
    }
}

//! Expressions: what the rules of nf_tables are made of.

use super::constants::*;
use super::wire::{Attributes, Writer};
use crate::model::{CtState, End};
use crate::net::{FamilyName, InterfacePattern, Protocol};
use crate::nftables::{Action, Condition, Field, Rule, Span, Values};

/// One expression. All work on register 1, as those that nft makes of such rules do; a port beside an address is in register 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// Load a piece of what the kernel knows of the packet.
    Meta(u32),
    /// Load bytes of a header.
    Payload { base: u32, offset: u32, length: u32 },
    /// Load the connection-tracking state, in the byte order of the host.
    CtState,
    /// Load what happened to the connection, in the byte order of the host.
    CtStatus,
    /// Load the type of the packet's source or destination address (`NFTA_FIB_F_*`), in the byte order of the host.
    AddressType(u32),
    /// Load whether the packet's socket is bound to no address.
    Wildcard,
    /// Keep the bits of a mask.
    Mask(Vec<u8>),
    /// From the byte order of the host to big endian, 4 bytes.
    BigEndian,
    /// Go on if the comparison holds.
    Compare { operation: u32, value: Vec<u8> },
    /// Go on if the value is outside.
    Outside { first: Vec<u8>, last: Vec<u8> },
    /// Go on if the value is in the set, or is not in it.
    Lookup { set: String, inverted: bool },
    /// Load a value.
    Immediate(Vec<u8>),
    /// Load a port beside an address.
    Port(Vec<u8>),
    /// Redirect to the loaded port.
    Redirect,
    /// Translate the destination: to the loaded port, or to the loaded address and the port beside it. With the family.
    Translate { family: u32, address: bool },
    /// Track in the loaded zone.
    Zone,
    /// Log.
    Log { prefix: String, level: u32 },
    /// End the rule.
    Verdict { code: i32, chain: Option<String> },
    /// Anything else, which we never make.
    Other(String),
}

impl Expression {
    /// The expressions of a rule.
    pub(super) fn of(rule: &Rule, family: FamilyName) -> Vec<Self> {
        let mut list = Vec::new();
        let tcp = Condition::Protocol { protocol: Protocol::Tcp, negated: false };
        for condition in &rule.conditions {
            match condition {
                Condition::InInterface { interface, negated } => {
                    list.extend([Self::Meta(NFT_META_IIFNAME), Self::equal(name(interface), *negated)]);
                }
                Condition::OutInterface { interface, negated } => {
                    list.extend([Self::Meta(NFT_META_OIFNAME), Self::equal(name(interface), *negated)]);
                }
                Condition::Protocol { protocol, negated } => {
                    list.extend([Self::Meta(NFT_META_L4PROTO), Self::equal(vec![protocol.number()], *negated)]);
                }
                Condition::Value { field, values, negated } => push_value(&mut list, *field, values, *negated, family),
                Condition::MidStream => {
                    if !rule.conditions.contains(&tcp) {
                        list.extend([Self::Meta(NFT_META_L4PROTO), Self::equal(vec![Protocol::Tcp.number()], false)]);
                    }
                    const SYN: u8 = 0x02;
                    const FIN_SYN_RST_ACK: u8 = 0x01 | SYN | 0x04 | 0x10;
                    list.extend([
                        Self::Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: 13, length: 1 },
                        Self::Mask(vec![FIN_SYN_RST_ACK]),
                        Self::equal(vec![SYN], true),
                    ]);
                }
                Condition::Local { end, negated } => {
                    let flag = match end {
                        End::Source => NFTA_FIB_F_SADDR,
                        End::Destination => NFTA_FIB_F_DADDR,
                    };
                    list.extend([Self::AddressType(flag), Self::equal(RTN_LOCAL.to_ne_bytes().to_vec(), *negated)]);
                }
                Condition::BoundSocket => list.extend([Self::Wildcard, Self::equal(vec![0], false)]),
                Condition::Translated => list.extend([
                    Self::CtStatus,
                    Self::Mask(IPS_DST_NAT.to_ne_bytes().to_vec()),
                    // "Was translated" is "the bit is not zero".
                    Self::equal(vec![0; 4], true),
                ]),
                Condition::CtState { state, negated } => {
                    let bit = match state {
                        CtState::Invalid => NF_CT_STATE_INVALID_BIT,
                    };
                    list.extend([
                        Self::CtState,
                        Self::Mask(bit.to_ne_bytes().to_vec()),
                        // "Is in the state" is "the bit is not zero".
                        Self::equal(vec![0; 4], !*negated),
                    ]);
                }
            }
        }
        push_action(&mut list, &rule.action, family);
        list
    }

    fn equal(value: Vec<u8>, negated: bool) -> Self {
        Self::Compare { operation: if negated { NFT_CMP_NEQ } else { NFT_CMP_EQ }, value }
    }

    /// Its name in the kernel, which is also what its module is called after (`nft_redir`).
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Meta(_) => "meta",
            Self::Payload { .. } => "payload",
            Self::CtState | Self::CtStatus | Self::Zone => "ct",
            Self::AddressType(_) => "fib",
            Self::Wildcard => "socket",
            Self::Mask(_) => "bitwise",
            Self::BigEndian => "byteorder",
            Self::Compare { .. } => "cmp",
            Self::Outside { .. } => "range",
            Self::Lookup { .. } => "lookup",
            Self::Immediate(_) | Self::Port(_) | Self::Verdict { .. } => "immediate",
            Self::Redirect => "redir",
            Self::Translate { .. } => "nat",
            Self::Log { .. } => "log",
            Self::Other(name) => name,
        }
    }

    /// Writes the attributes. A set of the same batch is also named by its id.
    pub(super) fn write(&self, writer: &mut Writer, set_id: impl FnOnce(&str) -> Option<u32>) {
        writer.nest(NFTA_LIST_ELEM, |writer| {
            writer.text(NFTA_EXPR_NAME, self.name());
            writer.nest(NFTA_EXPR_DATA, |writer| self.write_data(writer, set_id));
        });
    }

    fn write_data(&self, w: &mut Writer, set_id: impl FnOnce(&str) -> Option<u32>) {
        let data = |w: &mut Writer, kind, value: &[u8]| w.nest(kind, |w| w.bytes(NFTA_DATA_VALUE, value));
        match self {
            Self::Meta(key) => {
                w.number(NFTA_META_KEY, *key);
                w.number(NFTA_META_DREG, NFT_REG_1);
            }
            Self::Payload { base, offset, length } => {
                w.number(NFTA_PAYLOAD_DREG, NFT_REG_1);
                w.number(NFTA_PAYLOAD_BASE, *base);
                w.number(NFTA_PAYLOAD_OFFSET, *offset);
                w.number(NFTA_PAYLOAD_LEN, *length);
            }
            Self::CtState => {
                w.number(NFTA_CT_KEY, NFT_CT_STATE);
                w.number(NFTA_CT_DREG, NFT_REG_1);
            }
            Self::CtStatus => {
                w.number(NFTA_CT_KEY, NFT_CT_STATUS);
                w.number(NFTA_CT_DREG, NFT_REG_1);
            }
            Self::AddressType(flag) => {
                w.number(NFTA_FIB_DREG, NFT_REG_1);
                w.number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
                w.number(NFTA_FIB_FLAGS, *flag);
            }
            Self::Wildcard => {
                w.number(NFTA_SOCKET_KEY, NFT_SOCKET_WILDCARD);
                w.number(NFTA_SOCKET_DREG, NFT_REG_1);
            }
            Self::Mask(mask) => {
                w.number(NFTA_BITWISE_SREG, NFT_REG_1);
                w.number(NFTA_BITWISE_DREG, NFT_REG_1);
                // At most the 16 bytes of an address.
                w.number(NFTA_BITWISE_LEN, mask.len() as u32);
                data(w, NFTA_BITWISE_MASK, mask);
                data(w, NFTA_BITWISE_XOR, &vec![0; mask.len()]);
            }
            Self::BigEndian => {
                w.number(NFTA_BYTEORDER_SREG, NFT_REG_1);
                w.number(NFTA_BYTEORDER_DREG, NFT_REG_1);
                w.number(NFTA_BYTEORDER_OP, NFT_BYTEORDER_HTON);
                w.number(NFTA_BYTEORDER_LEN, 4);
                w.number(NFTA_BYTEORDER_SIZE, 4);
            }
            Self::Compare { operation, value } => {
                w.number(NFTA_CMP_SREG, NFT_REG_1);
                w.number(NFTA_CMP_OP, *operation);
                data(w, NFTA_CMP_DATA, value);
            }
            Self::Outside { first, last } => {
                w.number(NFTA_RANGE_SREG, NFT_REG_1);
                w.number(NFTA_RANGE_OP, NFT_RANGE_NEQ);
                data(w, NFTA_RANGE_FROM_DATA, first);
                data(w, NFTA_RANGE_TO_DATA, last);
            }
            Self::Lookup { set, inverted } => {
                w.text(NFTA_LOOKUP_SET, set);
                w.number(NFTA_LOOKUP_SREG, NFT_REG_1);
                if let Some(id) = set_id(set) {
                    w.number(NFTA_LOOKUP_SET_ID, id);
                }
                if *inverted {
                    w.number(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
                }
            }
            Self::Immediate(value) => {
                w.number(NFTA_IMMEDIATE_DREG, NFT_REG_1);
                data(w, NFTA_IMMEDIATE_DATA, value);
            }
            Self::Port(value) => {
                w.number(NFTA_IMMEDIATE_DREG, NFT_REG_2);
                data(w, NFTA_IMMEDIATE_DATA, value);
            }
            Self::Translate { family, address } => {
                w.number(NFTA_NAT_TYPE, NFT_NAT_DNAT);
                w.number(NFTA_NAT_FAMILY, *family);
                if *address {
                    w.number(NFTA_NAT_REG_ADDR_MIN, NFT_REG_1);
                }
                w.number(NFTA_NAT_REG_PROTO_MIN, if *address { NFT_REG_2 } else { NFT_REG_1 });
            }
            Self::Redirect => {
                w.number(NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1);
                w.number(NFTA_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
            }
            Self::Zone => {
                w.number(NFTA_CT_KEY, NFT_CT_ZONE);
                w.number(NFTA_CT_SREG, NFT_REG_1);
            }
            Self::Log { prefix, level } => {
                w.text(NFTA_LOG_PREFIX, prefix);
                w.number(NFTA_LOG_LEVEL, *level);
            }
            Self::Verdict { code, chain } => {
                w.number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
                w.nest(NFTA_IMMEDIATE_DATA, |w| {
                    w.nest(NFTA_DATA_VERDICT, |w| {
                        w.bytes(NFTA_VERDICT_CODE, &code.to_be_bytes());
                        if let Some(chain) = chain {
                            w.text(NFTA_VERDICT_CHAIN, chain);
                        }
                    });
                });
            }
            // Never made, so never written.
            Self::Other(_) => {}
        }
    }

    /// Reads an expression. One that we would not make, as it uses another register or operation, is
    /// [`Other`](Self::Other). Attributes that this version does not know are passed over: a later
    /// kernel may tell more.
    pub(super) fn read(attributes: &Attributes<'_>) -> Self {
        let name = attributes.text(NFTA_EXPR_NAME).unwrap_or_default();
        let data = attributes.nest(NFTA_EXPR_DATA).unwrap_or_default();
        Self::read_data(name, &data).unwrap_or_else(|| Self::Other(name.to_owned()))
    }

    fn read_data(name: &str, data: &Attributes<'_>) -> Option<Self> {
        // `Some` if the attribute has this value, and the value if it is not there.
        let is = |kind, value: u32| (data.number(kind)? == value).then_some(());
        let absent_or = |kind, value: u32| (data.number(kind).unwrap_or(value) == value).then_some(());
        let value = |kind| data.nest(kind)?.get(NFTA_DATA_VALUE).map(<[u8]>::to_vec);
        Some(match name {
            "meta" => {
                is(NFTA_META_DREG, NFT_REG_1)?;
                Self::Meta(data.number(NFTA_META_KEY)?)
            }
            "payload" => {
                is(NFTA_PAYLOAD_DREG, NFT_REG_1)?;
                Self::Payload {
                    base: data.number(NFTA_PAYLOAD_BASE)?,
                    offset: data.number(NFTA_PAYLOAD_OFFSET)?,
                    length: data.number(NFTA_PAYLOAD_LEN)?,
                }
            }
            "ct" => match (data.number(NFTA_CT_KEY)?, data.get(NFTA_CT_DIRECTION)) {
                (NFT_CT_STATE, None) => {
                    is(NFTA_CT_DREG, NFT_REG_1)?;
                    Self::CtState
                }
                (NFT_CT_STATUS, None) => {
                    is(NFTA_CT_DREG, NFT_REG_1)?;
                    Self::CtStatus
                }
                (NFT_CT_ZONE, None) => {
                    is(NFTA_CT_SREG, NFT_REG_1)?;
                    Self::Zone
                }
                _ => return None,
            },
            "bitwise" => {
                is(NFTA_BITWISE_SREG, NFT_REG_1)?;
                is(NFTA_BITWISE_DREG, NFT_REG_1)?;
                absent_or(NFTA_BITWISE_OP, 0)?;
                let mask = value(NFTA_BITWISE_MASK)?;
                value(NFTA_BITWISE_XOR)?.iter().all(|byte| *byte == 0).then_some(())?;
                Self::Mask(mask)
            }
            "byteorder" => {
                is(NFTA_BYTEORDER_SREG, NFT_REG_1)?;
                is(NFTA_BYTEORDER_DREG, NFT_REG_1)?;
                is(NFTA_BYTEORDER_OP, NFT_BYTEORDER_HTON)?;
                is(NFTA_BYTEORDER_LEN, 4)?;
                is(NFTA_BYTEORDER_SIZE, 4)?;
                Self::BigEndian
            }
            "cmp" => {
                is(NFTA_CMP_SREG, NFT_REG_1)?;
                Self::Compare { operation: data.number(NFTA_CMP_OP)?, value: value(NFTA_CMP_DATA)? }
            }
            "range" => {
                is(NFTA_RANGE_SREG, NFT_REG_1)?;
                is(NFTA_RANGE_OP, NFT_RANGE_NEQ)?;
                Self::Outside { first: value(NFTA_RANGE_FROM_DATA)?, last: value(NFTA_RANGE_TO_DATA)? }
            }
            "lookup" => {
                is(NFTA_LOOKUP_SREG, NFT_REG_1)?;
                if data.get(NFTA_LOOKUP_DREG).is_some() {
                    return None;
                }
                let inverted = match data.number(NFTA_LOOKUP_FLAGS).unwrap_or(0) {
                    0 => false,
                    NFT_LOOKUP_F_INV => true,
                    _ => return None,
                };
                Self::Lookup { set: data.text(NFTA_LOOKUP_SET)?.to_owned(), inverted }
            }
            "immediate" => match data.number(NFTA_IMMEDIATE_DREG)? {
                NFT_REG_1 => Self::Immediate(value(NFTA_IMMEDIATE_DATA)?),
                NFT_REG_2 => Self::Port(value(NFTA_IMMEDIATE_DATA)?),
                NFT_REG_VERDICT => {
                    let verdict = data.nest(NFTA_IMMEDIATE_DATA)?.nest(NFTA_DATA_VERDICT)?;
                    Self::Verdict {
                        // The same bits, signed.
                        code: verdict.number(NFTA_VERDICT_CODE)? as i32,
                        chain: verdict.text(NFTA_VERDICT_CHAIN).map(str::to_owned),
                    }
                }
                _ => return None,
            },
            "fib" => {
                is(NFTA_FIB_DREG, NFT_REG_1)?;
                is(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE)?;
                Self::AddressType(data.number(NFTA_FIB_FLAGS)?)
            }
            "socket" => {
                is(NFTA_SOCKET_KEY, NFT_SOCKET_WILDCARD)?;
                is(NFTA_SOCKET_DREG, NFT_REG_1)?;
                Self::Wildcard
            }
            "nat" => {
                is(NFTA_NAT_TYPE, NFT_NAT_DNAT)?;
                let address = data.number(NFTA_NAT_REG_ADDR_MIN).is_some();
                if address {
                    is(NFTA_NAT_REG_ADDR_MIN, NFT_REG_1)?;
                    absent_or(NFTA_NAT_REG_ADDR_MAX, NFT_REG_1)?;
                }
                let port = if address { NFT_REG_2 } else { NFT_REG_1 };
                is(NFTA_NAT_REG_PROTO_MIN, port)?;
                absent_or(NFTA_NAT_REG_PROTO_MAX, port)?;
                // Those that follow from the registers; the kernel tells them, and need not be told.
                let implied = NF_NAT_RANGE_PROTO_SPECIFIED | if address { NF_NAT_RANGE_MAP_IPS } else { 0 };
                absent_or(NFTA_NAT_FLAGS, implied)?;
                Self::Translate { family: data.number(NFTA_NAT_FAMILY)?, address }
            }
            "redir" => {
                is(NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1)?;
                absent_or(NFTA_REDIR_REG_PROTO_MAX, NFT_REG_1)?;
                is(NFTA_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED)?;
                Self::Redirect
            }
            "log" => {
                absent_or(NFTA_LOG_FLAGS, 0)?;
                if data.get(NFTA_LOG_GROUP).is_some() {
                    return None;
                }
                Self::Log { prefix: data.text(NFTA_LOG_PREFIX)?.to_owned(), level: data.number(NFTA_LOG_LEVEL)? }
            }
            _ => return None,
        })
    }
}

fn push_action(list: &mut Vec<Expression>, action: &Action, family: FamilyName) {
    let verdict = |code, chain: Option<&crate::nftables::Name>| Expression::Verdict {
        code,
        chain: chain.map(ToString::to_string),
    };
    match action {
        Action::Accept => list.push(verdict(NF_ACCEPT, None)),
        Action::Drop => list.push(verdict(NF_DROP, None)),
        Action::Return => list.push(verdict(NFT_RETURN, None)),
        Action::Jump { chain } => list.push(verdict(NFT_JUMP, Some(chain))),
        Action::Goto { chain } => list.push(verdict(NFT_GOTO, Some(chain))),
        Action::Redirect { port } => {
            list.extend([Expression::Immediate(port.number().to_be_bytes().to_vec()), Expression::Redirect]);
        }
        Action::Translate { to, port } => {
            let port = port.number().to_be_bytes().to_vec();
            let number = u32::from(match family {
                FamilyName::V4 => NFPROTO_IPV4,
                FamilyName::V6 => NFPROTO_IPV6,
            });
            match to {
                End::Source => list.extend([load(Field::SourceAddress, family), Expression::Port(port)]),
                // Which it has.
                End::Destination => list.push(Expression::Immediate(port)),
            }
            list.push(Expression::Translate { family: number, address: *to == End::Source });
        }
        Action::Log { prefix, level } => {
            list.push(Expression::Log { prefix: prefix.to_string(), level: level.number().into() });
        }
        // Zones are in the byte order of the host.
        Action::Zone { zone } => list.extend([Expression::Immediate(zone.to_ne_bytes().to_vec()), Expression::Zone]),
    }
}

/// A whole name is compared with its NULs, a beginning without any.
fn name(interface: &InterfacePattern) -> Vec<u8> {
    /// `IFNAMSIZ` of linux/if.h.
    const SIZE: usize = 16;
    match interface.prefix() {
        Some(prefix) => prefix.as_bytes().to_vec(),
        None => {
            let mut name = interface.as_str().as_bytes().to_vec();
            name.resize(SIZE, 0);
            name
        }
    }
}

fn push_value(list: &mut Vec<Expression>, field: Field, values: &Values, negated: bool, family: FamilyName) {
    let width = field.width(family);
    let (address, owner) = (
        matches!(field, Field::SourceAddress | Field::DestinationAddress),
        matches!(field, Field::User | Field::Group),
    );
    let load = load(field, family);
    let Some(set) = &values.set else {
        // Never empty, says `Values`.
        let Some(span) = values.spans.first().copied() else { return };
        match span.prefix(8 * width as u32) {
            _ if span.is_single() && owner => {
                // An id as the kernel has it: 4 bytes in the order of the host.
                list.extend([load, Expression::equal((span.first as u32).to_ne_bytes().to_vec(), negated)]);
            }
            _ if span.is_single() => list.extend([load, Expression::equal(bytes(span.first, width), negated)]),
            Some(bits) if address && bits > 0 => push_prefix(list, load, span, bits as usize, width, negated),
            _ => {
                list.push(load);
                if owner {
                    list.push(Expression::BigEndian);
                }
                let (first, last) = (bytes(span.first, width), bytes(span.last, width));
                match negated {
                    true => list.push(Expression::Outside { first, last }),
                    false => list.extend([
                        Expression::Compare { operation: NFT_CMP_GTE, value: first },
                        Expression::Compare { operation: NFT_CMP_LTE, value: last },
                    ]),
                }
            }
        }
        return;
    };
    list.push(load);
    if owner {
        list.push(Expression::BigEndian);
    }
    list.push(Expression::Lookup { set: set.to_string(), inverted: negated });
}

/// A prefix of whole bytes needs no mask: only those bytes are loaded.
fn push_prefix(list: &mut Vec<Expression>, load: Expression, span: Span, bits: usize, width: usize, negated: bool) {
    let first = bytes(span.first, width);
    match (load, bits % 8) {
        (Expression::Payload { base, offset, .. }, 0) => {
            let whole = bits / 8;
            list.push(Expression::Payload { base, offset, length: whole as u32 });
            list.push(Expression::equal(first[..whole].to_vec(), negated));
        }
        (load, _) => {
            let mask = bytes(!(span.first ^ span.last), width);
            list.extend([load, Expression::Mask(mask), Expression::equal(first, negated)]);
        }
    }
}

fn load(field: Field, family: FamilyName) -> Expression {
    let payload = |base, offset, length| Expression::Payload { base, offset, length };
    match (field, family) {
        (Field::SourceAddress, FamilyName::V4) => payload(NFT_PAYLOAD_NETWORK_HEADER, 12, 4),
        (Field::DestinationAddress, FamilyName::V4) => payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 4),
        (Field::SourceAddress, FamilyName::V6) => payload(NFT_PAYLOAD_NETWORK_HEADER, 8, 16),
        (Field::DestinationAddress, FamilyName::V6) => payload(NFT_PAYLOAD_NETWORK_HEADER, 24, 16),
        (Field::SourcePort, _) => payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2),
        (Field::DestinationPort, _) => payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2),
        (Field::User, _) => Expression::Meta(NFT_META_SKUID),
        (Field::Group, _) => Expression::Meta(NFT_META_SKGID),
    }
}

/// The low `width` bytes of a value, big endian.
pub(super) fn bytes(value: u128, width: usize) -> Vec<u8> {
    value.to_be_bytes()[16 - width..].to_vec()
}

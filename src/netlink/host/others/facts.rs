//! What a comparison says about a packet.

use std::collections::BTreeMap;

use super::registers::{Value, What, pieces};
use crate::net::{FamilyName, InterfaceName, InterfacePattern};
use crate::netlink::constants::*;
use crate::nftables::{Fact, Field, Span};

/// What comparisons are read with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) family: FamilyName,
    /// The names of network interfaces by their numbers, if they are known.
    pub(super) interfaces: Option<&'a BTreeMap<u32, String>>,
}

impl Reader<'_> {
    /// That a value is the same as these bytes: all of these facts hold.
    pub(super) fn equal(self, value: &Value, data: &[u8]) -> Vec<Fact> {
        let mut facts = Vec::new();
        let mut at = 0;
        for (length, what) in pieces(value, self.family) {
            let Some(compared) = data.get(at..data.len().min(at + length)).filter(|rest| !rest.is_empty()) else {
                break;
            };
            let mask = match &value.mask {
                Some(mask) => mask.get(at..at + compared.len()).map(<[u8]>::to_vec),
                None => Some(vec![0xff; compared.len()]),
            };
            match mask {
                Some(mask) => self.equal_piece(value, &what, &mask, compared, &mut facts),
                None => facts.push(unknown(value)),
            }
            at += length;
        }
        facts
    }

    /// The same of bytes that are one thing. Of the value, only the bits of the mask are compared.
    fn equal_piece(self, value: &Value, what: &What, mask: &[u8], data: &[u8], facts: &mut Vec<Fact>) {
        if data.iter().zip(mask).any(|(data, mask)| data & !mask != 0) {
            return facts.push(Fact::Never);
        }
        if mask.iter().all(|byte| *byte == 0) {
            return;
        }
        let whole = mask.iter().all(|byte| *byte == 0xff);
        let fact = match what {
            What::Field(field, from) => self.field(*field, *from, value.swapped, mask, data),
            What::Interface { out } if whole => interface(*out, data),
            What::Index { out } if whole && !value.swapped => self.index(*out, data),
            What::Protocol if whole => Some(Fact::Protocol { number: data[0], negated: false }),
            What::Flags => Some(Fact::Flags { mask: mask[0], flags: data[0], negated: false }),
            What::State if !value.swapped => state(mask, data),
            What::Status if !value.swapped => status(mask, data),
            What::AddressType(end) if whole && !value.swapped && native(data) == Some(RTN_LOCAL) => {
                Some(Fact::Local { end: *end, negated: false })
            }
            What::Constant(bytes) if !value.swapped => {
                if bytes.iter().zip(mask).zip(data).any(|((byte, mask), data)| byte & mask != *data) {
                    facts.push(Fact::Never);
                }
                return;
            }
            _ => None,
        };
        facts.push(fact.unwrap_or_else(|| unknown(value)));
    }

    /// That bytes of a field, from this one on, are these.
    fn field(self, field: Field, from: usize, swapped: bool, mask: &[u8], data: &[u8]) -> Option<Fact> {
        let width = field.width(self.family);
        let (mask, first) = match field {
            Field::User | Field::Group => {
                let number = |bytes: &[u8]| if swapped { number(bytes) } else { Some(native(bytes)?.into()) };
                (number(mask)?, number(data)?)
            }
            _ if swapped => return None,
            _ => {
                let behind = 8 * u32::try_from(width.checked_sub(from + data.len())?).ok()?;
                let shift = |number: u128| number.checked_shl(behind).unwrap_or(0);
                (shift(number(mask)?), shift(number(data)?))
            }
        };
        let max = field.max(self.family);
        let open = max & !mask;
        // Only a prefix is an interval.
        let is_prefix = open & open.wrapping_add(1) == 0;
        is_prefix.then(|| Fact::Value { field, spans: [Span { first, last: first | open }].into() })
    }

    fn index(self, out: bool, data: &[u8]) -> Option<Fact> {
        match self.interfaces?.get(&native(data)?) {
            Some(name) => Some(Fact::Interface { out, interface: exactly(name)?, negated: false }),
            // That interface is gone.
            None => Some(Fact::Never),
        }
    }

    /// That a value is between two others, both included.
    pub(super) fn between(self, value: &Value, first: &[u8], last: &[u8]) -> Fact {
        let found = match &pieces(value, self.family)[..] {
            [(length, What::Field(field, 0))]
                if *length == field.width(self.family) && first.len() == *length && value.mask.is_none() =>
            {
                // Values in the order of the host are not compared as numbers, unless they were turned round.
                let in_order = value.swapped == matches!(field, Field::User | Field::Group);
                let span = number(first).zip(number(last)).filter(|_| in_order);
                span.map(|(first, last)| match first <= last {
                    true => Fact::Value { field: *field, spans: [Span { first, last }].into() },
                    false => Fact::Never,
                })
            }
            _ if first == last => match &self.equal(value, first)[..] {
                [one] => Some(one.clone()),
                _ => None,
            },
            _ => None,
        };
        found.unwrap_or_else(|| unknown(value))
    }

    /// That it is not so that all these facts hold: all of those do.
    pub(super) fn not(self, facts: &[Fact]) -> Vec<Fact> {
        match facts {
            [] => vec![Fact::Never],
            [one] => self.not_one(one).into_iter().collect(),
            several if several.contains(&Fact::Never) => Vec::new(),
            _ => vec![Fact::Unknown("several values at once".into())],
        }
    }

    fn not_one(self, fact: &Fact) -> Option<Fact> {
        Some(match fact.clone() {
            Fact::Interface { out, interface, negated } => Fact::Interface { out, interface, negated: !negated },
            Fact::Protocol { number, negated } => Fact::Protocol { number, negated: !negated },
            Fact::Flags { mask, flags, negated } => Fact::Flags { mask, flags, negated: !negated },
            Fact::State { bits, negated } => Fact::State { bits, negated: !negated },
            Fact::Translated { negated } => Fact::Translated { negated: !negated },
            Fact::Local { end, negated } => Fact::Local { end, negated: !negated },
            Fact::Value { field, spans } => {
                let spans = outside(&spans, field.max(self.family));
                match spans.is_empty() {
                    true => Fact::Never,
                    false => Fact::Value { field, spans: spans.into() },
                }
            }
            Fact::Never => return None,
            Fact::Unknown(text) => Fact::Unknown(text),
        })
    }
}

/// That nothing is known of a value.
fn unknown(value: &Value) -> Fact {
    Fact::Unknown(super::text::value(value).into())
}

/// The values up to `max` that are in none of the spans, which are sorted.
fn outside(spans: &[Span], max: u128) -> Vec<Span> {
    let mut found = Vec::new();
    let mut next = Some(0);
    for span in spans {
        if let Some(first) = next.filter(|first| *first < span.first) {
            found.push(Span { first, last: span.first - 1 });
        }
        next = span.last.checked_add(1);
    }
    found.extend(next.filter(|first| *first <= max).map(|first| Span { first, last: max }));
    found
}

/// A whole name has its NULs, the beginning of one has none.
fn interface(out: bool, data: &[u8]) -> Option<Fact> {
    let interface = match data.iter().position(|byte| *byte == 0) {
        Some(end) => exactly(std::str::from_utf8(&data[..end]).ok()?)?,
        None => format!("{}+", std::str::from_utf8(data).ok()?).parse().ok()?,
    };
    Some(Fact::Interface { out, interface, negated: false })
}

/// The pattern that only this interface matches.
fn exactly(name: &str) -> Option<InterfacePattern> {
    name.parse::<InterfaceName>().ok()?.as_str().parse().ok()
}

/// A packet is in one state, so a value with several bits is none.
fn state(mask: &[u8], data: &[u8]) -> Option<Fact> {
    let (mask, bits) = (native(mask)?, native(data)?);
    Some(match bits {
        0 => Fact::State { bits: mask, negated: true },
        one if one.is_power_of_two() => Fact::State { bits: one, negated: false },
        _ => Fact::Never,
    })
}

fn status(mask: &[u8], data: &[u8]) -> Option<Fact> {
    (native(mask)? == IPS_DST_NAT).then_some(Fact::Translated { negated: native(data)? == 0 })
}

fn native(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// A number of at most 16 bytes, big endian.
pub(super) fn number(bytes: &[u8]) -> Option<u128> {
    let known = bytes.len() <= 16;
    known.then(|| bytes.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::super::constants::NFT_META_NFPROTO;
    use super::super::registers::Load;
    use super::*;

    #[test]
    fn what_is_outside() {
        let span = |first, last| Span { first, last };
        assert_eq!(outside(&[span(0, 4), span(7, 7)], 9), [span(5, 6), span(8, 9)]);
        assert_eq!(outside(&[span(3, 9)], 9), [span(0, 2)]);
        assert_eq!(outside(&[span(0, u128::MAX)], u128::MAX), []);
    }

    #[test]
    fn comparisons_become_facts() {
        let interfaces = BTreeMap::from([(7, "eth7".to_owned())]);
        let reader = Reader { family: FamilyName::V4, interfaces: Some(&interfaces) };
        let destination = |mask: Option<Vec<u8>>| {
            let load = Load::Payload { base: NFT_PAYLOAD_NETWORK_HEADER, offset: 16 };
            Value { mask, ..Value::new(load, 4) }
        };
        let to =
            |first, last| vec![Fact::Value { field: Field::DestinationAddress, spans: [Span { first, last }].into() }];
        assert_eq!(reader.equal(&destination(None), &[10, 0, 0, 1]), to(0x0a000001, 0x0a000001));
        assert_eq!(reader.equal(&destination(None), &[10, 0]), to(0x0a000000, 0x0a00ffff));
        assert_eq!(reader.equal(&destination(Some(vec![255, 254, 0, 0])), &[10, 0, 0, 0]), to(0x0a000000, 0x0a01ffff));
        assert!(matches!(reader.equal(&destination(Some(vec![0, 0, 0, 1])), &[0, 0, 0, 1])[..], [Fact::Unknown(_)]));
        assert_eq!(reader.equal(&destination(Some(vec![255, 0, 0, 0])), &[10, 1, 0, 0]), [Fact::Never]);
        let of_meta = |key, length| Value::new(Load::Meta(key), length);
        assert_eq!(reader.equal(&of_meta(NFT_META_NFPROTO, 1), &[2]), []);
        assert_eq!(reader.equal(&of_meta(NFT_META_NFPROTO, 1), &[10]), [Fact::Never]);
        assert_eq!(reader.not(&[]), [Fact::Never]);
        assert_eq!(reader.not(&[Fact::Never]), []);
        let by = |name: &str| vec![Fact::Interface { out: false, interface: name.parse().unwrap(), negated: false }];
        assert_eq!(reader.equal(&of_meta(4, 4), &7_u32.to_ne_bytes()), by("eth7"));
        assert_eq!(reader.equal(&of_meta(4, 4), &8_u32.to_ne_bytes()), [Fact::Never]);
        assert_eq!(reader.equal(&of_meta(NFT_META_IIFNAME, 2), b"br"), by("br+"));
        let user = |swapped| Value { swapped, ..of_meta(NFT_META_SKUID, 4) };
        let users = |first, last| Fact::Value { field: Field::User, spans: [Span { first, last }].into() };
        assert_eq!(reader.equal(&user(false), &5678_u32.to_ne_bytes()), [users(5678, 5678)]);
        let (first, last) = (1000_u32.to_be_bytes(), 1999_u32.to_be_bytes());
        assert_eq!(reader.between(&user(true), &first, &last), users(1000, 1999));
        assert!(matches!(reader.between(&user(false), &first, &last), Fact::Unknown(_)));
        // Two fields at once.
        let both = Value::new(Load::Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: 0 }, 4);
        assert_eq!(reader.equal(&both, &[0, 1, 0, 2]).len(), 2);
        assert!(matches!(reader.not(&reader.equal(&both, &[0, 1, 0, 2]))[..], [Fact::Unknown(_)]));
    }
}

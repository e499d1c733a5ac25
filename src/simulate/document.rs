//! Documents of packets: one or many, as text or as JSON.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use serde::de::value::MapDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use super::packet::AnyPacket;
use super::text::Parts;
use crate::error::{Error, InvalidValue, Problem};
use crate::room::with_room;

/// How many problems of a document are told; the rest are no news.
const ENOUGH: usize = 100;

/// Packets as a document has them: one, or a list.
///
/// A document is the text of a packet (see [`AnyPacket`]), or JSON: an object or a text for one packet, or a list of both.
///
/// ```
/// use kumatp::simulate::Packets;
///
/// let Packets::Many(packets) = r#"[
///     "tcp 10.1.2.3:443 uid 1000",
///     {"direction": "inbound", "protocol": "tcp", "destination": "10.0.0.5", "destinationPort": 8080}
/// ]"#.parse()? else { panic!("a list") };
/// assert_eq!(packets.len(), 2);
/// assert_eq!("inbound tcp 10.0.0.5:8080".parse(), Ok(Packets::One(packets[1].clone())));
///
/// let error = r#"["tcp 10.1.2.3:443", "tcp 10.1.2.3:70000"]"#.parse::<Packets>().unwrap_err();
/// assert_eq!(error.to_string(), "packets[1]: '70000' is not valid: expected a port from 1 to 65535");
/// # Ok::<(), kumatp::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a document has one packet or a list")]
pub enum Packets {
    /// One packet.
    One(AnyPacket),
    /// A list of packets.
    Many(Vec<AnyPacket>),
}

impl Packets {
    /// What is to be said of the packets, in the shape of the document: one answer for one packet, for a list
    /// a list in the same order. Each is made when it is written.
    pub fn answers<T: Serialize>(&self, answer: impl Fn(&AnyPacket) -> T) -> impl Serialize {
        Answers { packets: self, answer }
    }

    /// Looks whether something can be said of every packet.
    ///
    /// # Errors
    /// [`Error::Config`], which names each packet that is refused by its place: `packet`, or `packets[1]` of a list.
    ///
    /// ```
    /// use kumatp::error::InvalidValue;
    /// use kumatp::net::FamilyName;
    /// use kumatp::simulate::Packets;
    ///
    /// let packets: Packets = r#"["icmp 10.1.2.3", "icmpv6 fd00::5"]"#.parse()?;
    /// let error = packets.check(|packet| match packet.family() {
    ///     FamilyName::V4 => Ok(()),
    ///     FamilyName::V6 => Err(InvalidValue::new("fd00::5", "an address of IPv4")),
    /// });
    /// assert_eq!(error.unwrap_err().to_string(), "packets[1]: 'fd00::5' is not valid: expected an address of IPv4");
    /// # Ok::<(), kumatp::Error>(())
    /// ```
    pub fn check(&self, check: impl Fn(&AnyPacket) -> Result<(), InvalidValue>) -> Result<(), Error> {
        let problems: Vec<Problem> = match self {
            Self::One(packet) => check(packet).map_err(|error| error.at(ONE)).err().into_iter().collect(),
            Self::Many(packets) => {
                let check = |(index, packet)| check(packet).map_err(|error| error.at(place(index))).err();
                packets.iter().enumerate().filter_map(check).take(ENOUGH).collect()
            }
        };
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Error::Config(problems)),
        }
    }
}

/// What the packet is called if it is the only one.
const ONE: &str = "packet";

/// What a packet of a list is called.
fn place(index: usize) -> String {
    format!("packets[{index}]")
}

struct Answers<'p, F> {
    packets: &'p Packets,
    answer: F,
}

impl<T: Serialize, F: Fn(&AnyPacket) -> T> Serialize for Answers<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.packets {
            Packets::One(packet) => (self.answer)(packet).serialize(serializer),
            Packets::Many(packets) => serializer.collect_seq(packets.iter().map(&self.answer)),
        }
    }
}

/// Fails with [`Error::Config`], which names each wrong packet of a list by its place, and the member of an object.
impl FromStr for Packets {
    type Err = Error;

    fn from_str(document: &str) -> Result<Self, Error> {
        if !document.trim_start().starts_with(['[', '{', '"']) {
            let packet = document.parse().map_err(|error: InvalidValue| error.at(ONE))?;
            return Ok(Self::One(packet));
        }
        let found = with_room(document, || {
            let mut deserializer = serde_json::Deserializer::from_str(document);
            ParsedDocument::deserialize(&mut deserializer).and_then(|found| deserializer.end().map(|()| found))
        });
        match found.map_err(|error| syntax(document, &error))? {
            ParsedDocument { packets, problems } if problems.is_empty() => Ok(packets),
            ParsedDocument { problems, .. } => Err(Error::Config(problems)),
        }
    }
}

fn syntax(document: &str, error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    let text = document.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim();
    InvalidValue::new(text, format!("valid JSON: {message}")).at(format!("packets: line {line} column {column}"))
}

/// What a document has.
struct ParsedDocument {
    packets: Packets,
    problems: Vec<Problem>,
}

impl ParsedDocument {
    fn one(item: Item) -> Self {
        match item.packet(ONE) {
            Ok(packet) => Self { packets: Packets::One(packet), problems: Vec::new() },
            Err(problem) => Self { packets: Packets::Many(Vec::new()), problems: vec![problem] },
        }
    }
}

impl<'de> Deserialize<'de> for ParsedDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = ParsedDocument;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a packet, or a list of packets")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ParsedDocument, E> {
                Ok(ParsedDocument::one(Item::Text(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ParsedDocument, A::Error> {
                Ok(ParsedDocument::one(members(map)?))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ParsedDocument, A::Error> {
                let (mut packets, mut problems) = (Vec::new(), Vec::new());
                let mut index = 0;
                while let Some(item) = list.next_element::<Item>()? {
                    match item.packet(&place(index)) {
                        Ok(packet) if problems.is_empty() => packets.push(packet),
                        Err(problem) if problems.len() < ENOUGH => problems.push(problem),
                        Ok(_) | Err(_) => {}
                    }
                    index += 1;
                }
                Ok(ParsedDocument { packets: Packets::Many(packets), problems })
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

/// What stands where a packet should.
enum Item {
    Text(String),
    Object(Vec<(String, Value)>),
    Other(Value),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a packet")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
                members(map)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Item, A::Error> {
                while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Item::Other(Value::Array(Vec::new())))
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Item, E> {
                Ok(Item::Other(value.into()))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Item, E> {
                Ok(Item::Other(number.into()))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Item, E> {
                Ok(Item::Other(number.into()))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Item, E> {
                Ok(Item::Other(number.into()))
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Item, E> {
                Ok(Item::Other(Value::Null))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// All members, so that one that is there twice is seen.
fn members<'de, A: MapAccess<'de>>(mut map: A) -> Result<Item, A::Error> {
    let mut members = Vec::new();
    while let Some(member) = map.next_entry()? {
        members.push(member);
        if members.len() > ENOUGH {
            return Err(A::Error::custom("a packet has no more than a dozen members"));
        }
    }
    Ok(Item::Object(members))
}

impl Item {
    fn packet(self, path: &str) -> Result<AnyPacket, Problem> {
        match self {
            Self::Text(text) => text.parse().map_err(|error: InvalidValue| error.at(path)),
            Self::Object(members) => object(&members, path),
            Self::Other(value) => {
                let expected = "a packet as text, such as \"tcp 10.1.2.3:443\", or as an object";
                Err(InvalidValue::new(value.to_string(), expected).at(path))
            }
        }
    }
}

fn object(members: &[(String, Value)], path: &str) -> Result<AnyPacket, Problem> {
    // Which member is being read; none at the end.
    let at = Cell::new(None);
    let read = members.iter().inspect(|(name, value)| at.set(Some((name, value))));
    let end = std::iter::from_fn(|| {
        at.set(None);
        None
    });
    let pairs = read.map(|(name, value)| (name.as_str(), value)).chain(end);
    match Parts::deserialize(MapDeserializer::<_, serde_json::Error>::new(pairs)) {
        Ok(parts) => parts.packet().map_err(|error| error.at(path)),
        Err(error) => Err(member(at.get(), &error.to_string(), path)),
    }
}

/// What is wrong with a member, from what serde says of it.
fn member(at: Option<(&String, &Value)>, message: &str, path: &str) -> Problem {
    let expected = message.rsplit_once("expected ").map(|(_, expected)| expected.to_owned());
    let Some((name, value)) = at else {
        // "missing field `protocol`"
        let name = message.split('`').nth(1).unwrap_or_default();
        return InvalidValue::new("", needed(name)).at(format!("{path}.{name}"));
    };
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if message.starts_with("unknown field") {
        return InvalidValue::new(name, expected.unwrap_or_default()).at(path);
    }
    let path = format!("{path}.{name}");
    if message.starts_with("duplicate field") {
        return InvalidValue::new(shown, "it once").at(path);
    }
    InvalidValue::new(shown, expected.unwrap_or_else(|| needed(name).to_owned())).at(path)
}

fn needed(member: &str) -> &'static str {
    match member {
        "protocol" => "a protocol, such as \"tcp\" or \"udp\"",
        _ => "an IP address, such as \"10.1.2.3\" or \"fd00::1\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = r#"{"protocol": "tcp", "destination": "10.1.2.3", "destinationPort": 443, "uid": 7}"#;

    #[test]
    fn one_and_many_in_every_form() {
        let packet: AnyPacket = "tcp 10.1.2.3:443 uid 7".parse().unwrap();
        for one in ["tcp 10.1.2.3:443 uid 7", " \"tcp 10.1.2.3:443 uid 7\"\n", OBJECT] {
            assert_eq!(one.parse(), Ok(Packets::One(packet.clone())), "{one}");
            if one != "tcp 10.1.2.3:443 uid 7" {
                assert_eq!(format!("[{one}, {OBJECT}]").parse(), Ok(Packets::Many(vec![packet.clone(); 2])), "{one}");
            }
        }
        assert_eq!("[]".parse(), Ok(Packets::Many(Vec::new())));
    }

    #[test]
    fn answers_have_the_shape_of_the_document() {
        let answers = |document: &str| {
            let packets: Packets = document.parse().unwrap();
            serde_json::to_string(&packets.answers(ToString::to_string)).unwrap()
        };
        let icmp = "\"outbound icmp 10.0.0.1 from 192.0.2.1 uid 1000 gid 1000 out eth0\"";
        assert_eq!(answers("icmp 10.0.0.1"), icmp);
        assert_eq!(answers("[\"icmp 10.0.0.1\", \"icmp 10.0.0.1\"]"), format!("[{icmp},{icmp}]"));
        assert_eq!(answers("[]"), "[]");
    }

    #[test]
    fn problems_name_the_packet_the_member_the_value_and_what_would_be_right() {
        let members = "direction, protocol, destination, destinationPort, source, sourcePort, uid, gid, noSocket, \
                       inInterface, outInterface, tracking";
        let names = members.split(", ").map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        for (document, message) in [
            ("", "packet: '' is not valid: expected a protocol and a destination, such as tcp 10.1.2.3:443"),
            ("tcp 10.1.2.3:0", "packet: '0' is not valid: expected a port from 1 to 65535"),
            (
                "\"http\"",
                "packet: 'http' is not valid: expected tcp, udp, icmp, icmpv6, sctp or the number of a protocol from 0 to 255",
            ),
            ("{}", "packet.protocol: '' is not valid: expected a protocol, such as \"tcp\" or \"udp\""),
            (
                r#"[{"protocol": "tcp"}]"#,
                "packets[0].destination: '' is not valid: expected an IP address, such as \"10.1.2.3\" or \"fd00::1\"",
            ),
            (
                r#"{"protocol": "icmp", "destination": "ten"}"#,
                "packet.destination: 'ten' is not valid: expected an IP address, such as \"10.1.2.3\" or \"fd00::1\"",
            ),
            (r#"{"uid": 4294967295}"#, "packet.uid: '4294967295' is not valid: expected a uid from 0 to 4294967294"),
            (r#"{"uid": 1.5}"#, "packet.uid: '1.5' is not valid: expected a whole number"),
            (r#"{"uid": 1, "uid": 2}"#, "packet.uid: '2' is not valid: expected it once"),
            (
                r#"{"direction": "sideways"}"#,
                "packet.direction: 'sideways' is not valid: expected one of `outbound`, `inbound`, `forwarded`",
            ),
            (r#"{"usid": 1}"#, &format!("packet: 'usid' is not valid: expected one of {names}")),
            (
                r#"["icmp 10.0.0.1", 5]"#,
                "packets[1]: '5' is not valid: expected a packet as text, such as \"tcp 10.1.2.3:443\", or as an object",
            ),
            (
                r#"[{"direction": "inbound", "protocol": "tcp", "destination": "10.0.0.1", "destinationPort": 80, "uid": 7}]"#,
                "packets[0]: '7' is not valid: expected no user and no group for a packet that arrives, which has no socket here",
            ),
            (
                "[\"icmp 10.0.0.1\",\n]",
                "packets: line 2 column 1: ']' is not valid: expected valid JSON: trailing comma",
            ),
            ("[] []", "packets: line 1 column 4: '[] []' is not valid: expected valid JSON: trailing characters"),
        ] {
            assert_eq!(document.parse::<Packets>().unwrap_err().to_string(), message, "{document}");
        }
        let two = "[\"a\", \"icmp 10.0.0.1\", {}, [[], {}], null, true, -1, 1.5]".parse::<Packets>().unwrap_err();
        let paths: Vec<_> = two.problems().iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(
            paths,
            ["packets[0]", "packets[2].protocol", "packets[3]", "packets[4]", "packets[5]", "packets[6]", "packets[7]"]
        );
    }

    #[test]
    fn large_documents_end() {
        for (opening, item) in [("", "["), ("", "{\"a\":"), ("[", "1,"), ("[", "{},"), ("{", "\"a\":1,")] {
            let document = format!("{opening}{}", item.repeat(100_000));
            let error = document.parse::<Packets>().unwrap_err();
            assert!(error.problems().len() <= ENOUGH && error.to_string().len() < 100_000, "{item}");
        }
        let wrong = format!("[{}1]", "1,".repeat(100_000)).parse::<Packets>().unwrap_err();
        assert_eq!(wrong.problems().len(), ENOUGH);
    }
}

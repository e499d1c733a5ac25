//! Packets as text and as JSON.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::packet::{AnyPacket, Direction, IpProtocol, Packet, Socket, Tracking};
use crate::error::InvalidValue;
use crate::net::{Family, FamilyName, Gid, InterfaceName, Port, Protocol, Uid, V4, V6};

/// The members of a packet, as text or JSON has them. What is not said is left to [`Packet`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Parts {
    #[serde(default = "outbound")]
    direction: Direction,
    protocol: IpProtocol,
    destination: IpAddr,
    #[serde(default, with = "number", skip_serializing_if = "Option::is_none")]
    destination_port: Option<Port>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    #[serde(default, with = "number", skip_serializing_if = "Option::is_none")]
    source_port: Option<Port>,
    #[serde(default, with = "number", skip_serializing_if = "Option::is_none")]
    uid: Option<Uid>,
    #[serde(default, with = "number", skip_serializing_if = "Option::is_none")]
    gid: Option<Gid>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    no_socket: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_interface: Option<InterfaceName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    out_interface: Option<InterfaceName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracking: Option<Tracking>,
}

/// Ports and ids are numbers; as text, they are read as well.
mod number {
    use std::fmt;
    use std::marker::PhantomData;
    use std::str::FromStr;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer, T: fmt::Display>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value.as_ref().and_then(|value| value.to_string().parse().ok()) {
            Some(number) => serializer.serialize_u32(number),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        struct Number<T>(PhantomData<T>);

        impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Number<T> {
            type Value = Option<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Option<T>, E> {
                text.parse().map(Some).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Option<T>, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Option<T>, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
                Ok(None)
            }
        }

        deserializer.deserialize_any(Number(PhantomData))
    }
}

fn outbound() -> Direction {
    Direction::Outbound
}

impl Parts {
    pub(super) fn packet(self) -> Result<AnyPacket, InvalidValue> {
        Ok(match self.destination {
            IpAddr::V4(_) => AnyPacket::V4(self.of_family::<V4>()?),
            IpAddr::V6(_) => AnyPacket::V6(self.of_family::<V6>()?),
        })
    }

    fn of_family<F: Family>(self) -> Result<Packet<F>, InvalidValue> {
        let of_family = |addr: IpAddr| {
            F::from_ip(addr)
                .ok_or_else(|| InvalidValue::new(addr.to_string(), format!("an {} address, as the other one", F::NAME)))
        };
        let has_ports = matches!(self.protocol, IpProtocol::Tcp | IpProtocol::Udp);
        let destination = of_family(self.destination)?;
        if let (Some(port), false) = (self.destination_port.or(self.source_port), has_ports) {
            return Err(InvalidValue::new(
                port.to_string(),
                format!("no port for {}, as only packets of tcp and udp have ports here", self.protocol),
            ));
        }
        let port = match (self.destination_port, has_ports) {
            (Some(port), _) => port,
            // Nothing looks at it.
            (None, false) => Port::DNS,
            (None, true) => {
                return Err(InvalidValue::new(
                    self.destination.to_string(),
                    "an address with a port, such as 10.1.2.3:443 or [fd00::1]:443",
                ));
            }
        };
        let mut packet = match (self.direction, &self.in_interface) {
            (Direction::Outbound, _) => Packet::outbound(self.protocol, destination, port),
            (Direction::Inbound, _) => Packet::inbound(self.protocol, destination, port),
            (Direction::Forwarded, Some(interface)) => {
                Packet::forwarded(self.protocol, destination, port, interface.clone())
            }
            (Direction::Forwarded, None) => {
                return Err(InvalidValue::new("forwarded", "the interface that it comes in by, such as 'in docker0'"));
            }
        };
        if let Some(source) = self.source {
            packet.source = of_family(source)?;
        }
        if let Some(port) = self.source_port {
            packet.source_port = port;
        }
        self.set_owner(&mut packet)?;
        self.set_interfaces(&mut packet)?;
        if let Some(tracking) = self.tracking {
            if tracking.is_of_tcp() && !self.protocol.is(Protocol::Tcp) {
                return Err(InvalidValue::new(
                    tracking.name(),
                    "tcp, since no other protocol has a beginning to miss or to repeat",
                ));
            }
            packet.tracking = tracking;
        }
        Ok(packet)
    }

    fn set_owner<F: Family>(&self, packet: &mut Packet<F>) -> Result<(), InvalidValue> {
        let given = self.uid.map(Uid::number).or(self.gid.map(Gid::number));
        if let (Some(id), true) = (given, self.no_socket) {
            return Err(InvalidValue::new(id.to_string(), "no user and no group for a packet without a socket"));
        }
        match (&mut packet.socket, given) {
            (Some(socket), _) => {
                let same = |uid: Uid| Gid::new(uid.number());
                *socket = Socket {
                    uid: self.uid.unwrap_or(socket.uid),
                    gid: self.gid.or(self.uid.and_then(same)).unwrap_or(socket.gid),
                };
            }
            (None, Some(id)) => {
                return Err(InvalidValue::new(
                    id.to_string(),
                    "no user and no group for a packet that arrives, which has no socket here",
                ));
            }
            (None, None) => {}
        }
        if self.no_socket {
            packet.socket = None;
        }
        Ok(())
    }

    fn set_interfaces<F: Family>(self: &Parts, packet: &mut Packet<F>) -> Result<(), InvalidValue> {
        let place = |given: &Option<InterfaceName>, to: &mut Option<InterfaceName>, why: &'static str| {
            let Some(interface) = given else { return Ok(()) };
            if to.is_none() {
                return Err(InvalidValue::new(interface.as_str(), why));
            }
            *to = Some(interface.clone());
            Ok(())
        };
        place(
            &self.in_interface,
            &mut packet.in_interface,
            "no interface that it comes in by, as the packet is made on this host",
        )?;
        place(
            &self.out_interface,
            &mut packet.out_interface,
            "no interface that it goes out by, as the packet is for this host",
        )
    }

    fn of<F: Family>(packet: &Packet<F>) -> Self {
        let has_ports = matches!(packet.protocol, IpProtocol::Tcp | IpProtocol::Udp);
        Self {
            direction: packet.direction,
            protocol: packet.protocol,
            destination: packet.destination.into(),
            destination_port: has_ports.then_some(packet.destination_port),
            source: Some(packet.source.into()),
            source_port: has_ports.then_some(packet.source_port),
            uid: packet.socket.map(|socket| socket.uid),
            gid: packet.socket.map(|socket| socket.gid),
            no_socket: packet.direction == Direction::Outbound && packet.socket.is_none(),
            in_interface: packet.in_interface.clone(),
            out_interface: packet.out_interface.clone(),
            tracking: Some(packet.tracking),
        }
    }
}

impl FromStr for AnyPacket {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let mut words = text.split_whitespace().peekable();
        let direction = match words.peek() {
            Some(&"outbound") => Some(Direction::Outbound),
            Some(&"inbound") => Some(Direction::Inbound),
            Some(&"forwarded") => Some(Direction::Forwarded),
            _ => None,
        };
        if direction.is_some() {
            words.next();
        }
        let protocol = words
            .next()
            .ok_or_else(|| InvalidValue::new(text, "a protocol and a destination, such as tcp 10.1.2.3:443"))?
            .parse()?;
        let destination = words
            .next()
            .ok_or_else(|| InvalidValue::new(text, "a destination behind the protocol, such as 10.1.2.3:443"))?;
        let (destination, destination_port) = endpoint(destination)?;
        let mut parts = Parts {
            direction: direction.unwrap_or(Direction::Outbound),
            protocol,
            destination,
            destination_port,
            source: None,
            source_port: None,
            uid: None,
            gid: None,
            no_socket: false,
            in_interface: None,
            out_interface: None,
            tracking: None,
        };
        while let Some(word) = words.next() {
            let twice = || InvalidValue::new(word, "it once");
            let mut value = || words.next().ok_or_else(|| InvalidValue::new(word, "a value behind it"));
            let again = match word {
                "from" => {
                    let (source, port) = endpoint(value()?)?;
                    parts.source_port = port;
                    parts.source.replace(source).is_some()
                }
                "uid" => parts.uid.replace(value()?.parse()?).is_some(),
                "gid" => parts.gid.replace(value()?.parse()?).is_some(),
                "in" => parts.in_interface.replace(value()?.parse()?).is_some(),
                "out" => parts.out_interface.replace(value()?.parse()?).is_some(),
                "no-socket" => std::mem::replace(&mut parts.no_socket, true),
                _ => match Tracking::NAMES.into_iter().find(|(_, name)| *name == word) {
                    Some((tracking, _)) => parts.tracking.replace(tracking).is_some(),
                    None => {
                        return Err(InvalidValue::new(
                            word,
                            format!("from, uid, gid, no-socket, in, out, {}", Tracking::names()),
                        ));
                    }
                },
            };
            if again {
                return Err(twice());
            }
        }
        parts.packet()
    }
}

/// An address, perhaps with a port: `10.1.2.3:443`, `[fd00::1]:443`, `[fd00::1]`, `fd00::1`.
fn endpoint(text: &str) -> Result<(IpAddr, Option<Port>), InvalidValue> {
    let wrong = || InvalidValue::new(text, "an address with a port, such as 10.1.2.3:443 or [fd00::1]:443");
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(addr) = bare.parse() {
        return Ok((addr, None));
    }
    let (addr, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let addr = match addr.strip_prefix('[').and_then(|addr| addr.strip_suffix(']')) {
        Some(six) => IpAddr::V6(six.parse().map_err(|_| wrong())?),
        None => IpAddr::V4(addr.parse().map_err(|_| wrong())?),
    };
    Ok((addr, Some(port.parse()?)))
}

/// As it can be parsed again.
impl<F: Family> fmt::Display for Packet<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.direction {
            Direction::Outbound => "outbound",
            Direction::Inbound => "inbound",
            Direction::Forwarded => "forwarded",
        })?;
        let endpoint = |f: &mut fmt::Formatter<'_>, addr: F::Addr, port: Port| match (self.protocol, F::NAME) {
            (IpProtocol::Other(_), _) => write!(f, "{addr}"),
            (_, FamilyName::V4) => write!(f, "{addr}:{port}"),
            (_, FamilyName::V6) => write!(f, "[{addr}]:{port}"),
        };
        write!(f, " {} ", self.protocol)?;
        endpoint(f, self.destination, self.destination_port)?;
        f.write_str(" from ")?;
        endpoint(f, self.source, self.source_port)?;
        match self.socket {
            Some(Socket { uid, gid }) => write!(f, " uid {uid} gid {gid}")?,
            None if self.direction == Direction::Outbound => f.write_str(" no-socket")?,
            None => {}
        }
        if let Some(interface) = &self.in_interface {
            write!(f, " in {interface}")?;
        }
        if let Some(interface) = &self.out_interface {
            write!(f, " out {interface}")?;
        }
        match Tracking::NAMES.into_iter().find(|(tracking, _)| *tracking == self.tracking) {
            Some((tracking, name)) if tracking != Tracking::New => write!(f, " {name}"),
            _ => Ok(()),
        }
    }
}

/// As it can be parsed again.
impl fmt::Display for AnyPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(packet) => packet.fmt(f),
            Self::V6(packet) => packet.fmt(f),
        }
    }
}

impl<F: Family> Serialize for Packet<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Parts::of(self).serialize(serializer)
    }
}

impl Serialize for AnyPacket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::V4(packet) => packet.serialize(serializer),
            Self::V6(packet) => packet.serialize(serializer),
        }
    }
}

/// From an object with the members that it is serialised to, or from its text.
///
/// ```
/// use kumatp::simulate::AnyPacket;
///
/// let object = r#"{"direction": "inbound", "protocol": "tcp", "destination": "10.0.0.5", "destinationPort": 8080}"#;
/// let packet: AnyPacket = serde_json::from_str(object)?;
/// assert_eq!(packet, serde_json::from_str(r#""inbound tcp 10.0.0.5:8080""#)?);
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de> Deserialize<'de> for AnyPacket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = AnyPacket;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a packet, as text or as an object")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<AnyPacket, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<AnyPacket, A::Error> {
                let parts = Parts::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                parts.packet().map_err(serde::de::Error::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said() {
        let text = |text: &str| text.parse::<AnyPacket>().unwrap().to_string();
        assert_eq!(
            text("tcp 10.1.2.3:443"),
            "outbound tcp 10.1.2.3:443 from 192.0.2.1:49152 uid 1000 gid 1000 out eth0"
        );
        assert_eq!(text("udp [::1]:53 uid 7"), "outbound udp [::1]:53 from [::1]:49152 uid 7 gid 7 out lo");
        assert_eq!(text("inbound tcp 10.0.0.5:80"), "inbound tcp 10.0.0.5:80 from 192.0.2.2:49152 in eth0");
        assert_eq!(text("forwarded icmp 10.0.0.5 in br0"), "forwarded icmp 10.0.0.5 from 192.0.2.2 in br0 out eth0");
    }

    #[test]
    fn ports_are_of_protocols_that_have_them() {
        for text in ["5 [::6]:5", "icmp 10.0.0.1:80", "sctp 10.0.0.1 from 10.0.0.2:80"] {
            let error = text.parse::<AnyPacket>().unwrap_err().to_string();
            assert!(error.contains("tcp and udp"), "{text}: {error}");
        }
        let json = r#"{"protocol": "icmp", "destination": "10.0.0.1", "sourcePort": 8}"#;
        assert!(serde_json::from_str::<AnyPacket>(json).unwrap_err().to_string().contains("no port for icmp"));
    }

    #[test]
    fn round_trips() {
        for text in [
            "outbound tcp 127.0.0.1:1 from 10.0.0.1:65535 uid 0 gid 4294967294 out lo midstream",
            "outbound udp [fd00::1]:53 from [fd00::2]:53 no-socket out eth1 invalid",
            "inbound 47 10.0.0.5 from 10.0.0.6 in eth0 established",
            "forwarded sctp fd00::1 from fd00::2 in docker0 out wlan0",
            "inbound tcp 10.0.0.5:80 from 10.0.0.6:1 in eth0 lost",
            "inbound tcp 10.0.0.5:80 from 10.0.0.6:1 in eth0 lostanswer",
            "forwarded tcp [fd00::1]:80 from [fd00::2]:1 in eth0 out br0 reused",
        ] {
            let packet: AnyPacket = text.parse().unwrap();
            assert_eq!(packet.to_string(), text);
            let json = serde_json::to_string(&packet).unwrap();
            assert_eq!(serde_json::from_str::<AnyPacket>(&json).unwrap(), packet, "{json}");
        }
    }

    #[test]
    fn refused() {
        for (text, value) in [
            ("", ""),
            ("tcp", "tcp"),
            ("http 10.0.0.1:80", "http"),
            ("tcp 10.0.0.1", "10.0.0.1"),
            ("tcp 10.0.0.1:0", "0"),
            ("tcp fd00::1:443x", "fd00::1:443x"),
            ("tcp 10.0.0.1:80 from fd00::1", "fd00::1"),
            ("tcp 10.0.0.1:80 uid", "uid"),
            ("tcp 10.0.0.1:80 uid 1 uid 2", "uid"),
            ("tcp 10.0.0.1:80 uid 1 no-socket", "1"),
            ("tcp 10.0.0.1:80 in eth0", "eth0"),
            ("inbound tcp 10.0.0.1:80 uid 1", "1"),
            ("inbound tcp 10.0.0.1:80 out eth0", "eth0"),
            ("forwarded tcp 10.0.0.1:80", "forwarded"),
            ("udp 10.0.0.1:80 midstream", "midstream"),
            ("udp 10.0.0.1:80 lost", "lost"),
            ("inbound icmp 10.0.0.1 lostanswer", "lostanswer"),
            ("udp 10.0.0.1:80 reused", "reused"),
            ("tcp 10.0.0.1:80 out eth+", "eth+"),
            ("tcp 10.0.0.1:80 sideways", "sideways"),
        ] {
            assert_eq!(text.parse::<AnyPacket>().unwrap_err().value(), value, "{text}");
        }
    }
}

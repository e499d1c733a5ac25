use std::fmt;
use std::str::FromStr;

use crate::error::InvalidValue;
use crate::net::{AnyCidr, GidRange, InterfacePattern, PortRange, PortSet, Protocol, UidRange, serde_by_text};

macro_rules! owner_exclusion {
    ($name:ident, $range:ident, $field:ident, $noun:literal) => {
        #[doc = concat!("Ports that some ", $noun, "s reach without the sidecar: `[protocols:][ports:]", $noun, "s`.")]
        ///
        /// Protocols are a list of `tcp` and `udp`; ports a list of ports and ranges; each may be `*`
        /// or left out, which means all. Printed in full: `tcp,udp:1-65535:1000`.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub struct $name {
            /// The protocols, in the order in which their rules are made; never empty.
            pub protocols: Vec<Protocol>,
            /// The destination ports; never empty.
            pub ports: PortSet,
            #[doc = concat!("Whose connections: one ", $noun, " or a range.")]
            pub $field: $range,
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (index, protocol) in self.protocols.iter().enumerate() {
                    write!(f, "{}{protocol}", if index > 0 { "," } else { "" })?;
                }
                write!(f, ":{}:{}", self.ports, self.$field)
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                let parts: Vec<&str> = text.split(':').collect();
                let (protocols, ports, owner) = match parts[..] {
                    [owner] => ("", "", owner),
                    [ports, owner] => ("", ports, owner),
                    [protocols, ports, owner] => (protocols, ports, owner),
                    _ => {
                        return Err(InvalidValue::new(
                            text,
                            concat!("[protocols:][ports:]", $noun, "s, such as tcp:22,80:1000-2000"),
                        ));
                    }
                };
                match owner.trim() {
                    "" => {
                        return Err(InvalidValue::new(
                            text,
                            concat!(
                                "a ",
                                $noun,
                                " or a range of them at the end; without one, every process would bypass the sidecar"
                            ),
                        ));
                    }
                    "*" => {
                        return Err(InvalidValue::new(
                            text,
                            concat!(
                                "a ",
                                $noun,
                                " or a range of them at the end instead of '*'; all of them would bypass the sidecar"
                            ),
                        ));
                    }
                    _ => {}
                }
                let $field = owner.parse()?;
                let protocols = match protocols.trim() {
                    "" | "*" => vec![Protocol::Tcp, Protocol::Udp],
                    list => list.split(',').map(str::parse).collect::<Result<_, _>>()?,
                };
                let ports = match ports.trim() {
                    "" | "*" => PortRange::ALL.into(),
                    list => list.split(',').map(str::parse).collect::<Result<_, _>>()?,
                };
                Ok(Self { protocols, ports, $field })
            }
        }

        serde_by_text!($name);
    };
}

owner_exclusion!(UidExclusion, UidRange, uids, "uid");
owner_exclusion!(GidExclusion, GidRange, gids, "gid");

/// A network behind an interface of this host: `docker0:172.17.0.0/16`, `br+:fd00::/64`.
///
/// DNS and TCP that arrive by the interface are redirected as if they were outbound, but not TCP
/// to the network itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct VirtualNetwork {
    /// The interface.
    pub interface: InterfacePattern,
    /// The network; always written with its prefix length.
    pub network: AnyCidr,
}

impl fmt::Display for VirtualNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.interface, self.network)
    }
}

impl FromStr for VirtualNetwork {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let text = text.trim();
        let Some((interface, network)) = text.split_once(':') else {
            return Err(InvalidValue::new(text, "an interface and a CIDR, such as docker0:172.17.0.0/16"));
        };
        let interface = interface
            .parse()
            .map_err(|error: InvalidValue| InvalidValue::new(text, format!("{}, before the ':'", error.expected())))?;
        if !network.contains('/') {
            return Err(InvalidValue::new(text, "a CIDR with a prefix length, such as 172.17.0.0/16, after the ':'"));
        }
        let network =
            network.parse().map_err(|_| InvalidValue::new(text, "a CIDR, such as 172.17.0.0/16, after the ':'"))?;
        Ok(Self { interface, network })
    }
}

serde_by_text!(VirtualNetwork);

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(text: &str) -> String {
        text.parse::<UidExclusion>().unwrap().to_string()
    }

    #[test]
    fn forms() {
        assert_eq!(uid("1000"), "tcp,udp:1-65535:1000");
        assert_eq!(uid("443:7"), "tcp,udp:443:7");
        assert_eq!(uid(":8080:5"), "tcp,udp:8080:5");
        assert_eq!(uid("udp::1001"), "udp:1-65535:1001");
        assert_eq!(uid("*:*:0"), "tcp,udp:1-65535:0");
        assert_eq!(uid("UDP,tcp:22,3000-5000:106-108"), "udp,tcp:22,3000-5000:106-108");
        assert_eq!("80:7".parse::<GidExclusion>().unwrap().to_string(), "tcp,udp:80:7");
    }

    #[test]
    fn refused_with_the_offending_part() {
        for (text, part) in [
            ("", ""),
            ("tcp:80:", "tcp:80:"),
            ("tcp:80:1:2", "tcp:80:1:2"),
            ("3000-5000:1:*", "3000-5000:1:*"),
            ("a3000-5000:1", "a3000-5000"),
            ("tcp:65536:1", "65536"),
            ("tcp:0:1", "0"),
            ("tcp:5000-3000:1", "5000-3000"),
            ("sctp:1:1", "sctp"),
            ("80:1,2", "1,2"),
            ("80,:1", ""),
            ("4294967295", "4294967295"),
        ] {
            assert_eq!(text.parse::<UidExclusion>().unwrap_err().value(), part, "{text}");
        }
    }

    #[test]
    fn virtual_networks() {
        for text in ["docker0:172.17.0.0/16", "br+:127.0.0.0/32", "iface:::1/64", "docker:1.2.3.4/24"] {
            assert_eq!(text.parse::<VirtualNetwork>().unwrap().to_string(), text);
        }
        for text in ["docker0", "br0:10.7.7.7", ":10.0.0.0/8", "a b:10.0.0.0/8", "a\n-A:10.0.0.0/8", "br0:x/8"] {
            assert_eq!(text.parse::<VirtualNetwork>().unwrap_err().value(), text);
        }
    }
}

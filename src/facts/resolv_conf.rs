use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The name servers of a host, as `resolv.conf` lists them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Resolvers {
    /// The file that they were read from; empty if they were given.
    #[serde(default)]
    pub path: PathBuf,
    /// The servers of both families, in the order of the file.
    pub servers: Vec<IpAddr>,
    /// What stood after `nameserver` and is no address that a rule can name, such as one with a
    /// zone (`fe80::1%eth0`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
}

impl Resolvers {
    /// Reads the text of a `resolv.conf` (man 5 resolv.conf): of each line that begins with the
    /// word `nameserver`, the next word. All else is ignored, comments after the address included.
    pub fn parse(path: &Path, text: &str) -> Self {
        let mut resolvers = Self { path: path.to_owned(), ..Self::default() };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            if words.next() != Some("nameserver") {
                continue;
            }
            let Some(server) = words.next() else { continue };
            match server.parse::<IpAddr>() {
                // A rule can only name the IPv4 form of a mapped address.
                Ok(addr) => resolvers.servers.push(addr.to_canonical()),
                Err(_) => resolvers.skipped.push(server.to_owned()),
            }
        }
        resolvers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{V4, V6};

    #[test]
    fn servers_of_both_families_in_order() {
        let text = "# made by a test\nsearch svc.cluster.local\nnameserver 10.96.0.10\nnameserver\t127.0.0.11 # docker\n; a comment\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\nnameserver\nnameserverx 1.1.1.1\n#nameserver 8.8.8.8\nnameserver ::ffff:192.0.2.1\noptions ndots:5\n";
        let resolvers = Resolvers::parse(Path::new("/r"), text);
        let four: Vec<_> = resolvers.of::<V4>().map(|a| a.to_string()).collect();
        assert_eq!(four, ["10.96.0.10", "127.0.0.11", "192.0.2.1"]);
        assert_eq!(resolvers.of::<V6>().count(), 1);
        assert_eq!(resolvers.skipped, ["fe80::1%eth0"]);
    }
}

//! TCP sockets as sock_diag lists them: requests, and what the answers say. The numbers are those of linux/sock_diag.h,
//! linux/inet_diag.h and linux/tcp_states.h.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::conntrack::{Connection, Phase, Tuple};
use crate::net::{FamilyName, Port};
use crate::netlink::constants::{NLM_F_DUMP, NLM_F_REQUEST};
#[cfg(feature = "ebpf")]
use crate::netlink::wire::Attributes;
use crate::netlink::wire::{Messages, Writer, array};

const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
#[cfg(feature = "ebpf")]
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Of a socket that has no memory of its data any more, in the place of a timer.
const TIMER_TIME_WAIT: u8 = 3;

/// States of TCP.
mod state {
    pub(super) const ESTABLISHED: u8 = 1;
    pub(super) const SYN_RECV: u8 = 3;
    pub(super) const FIN_WAIT1: u8 = 4;
    pub(super) const FIN_WAIT2: u8 = 5;
    pub(super) const CLOSE_WAIT: u8 = 8;
    pub(super) const LAST_ACK: u8 = 9;
    pub(super) const LISTEN: u8 = 10;
    pub(super) const CLOSING: u8 = 11;
    /// A connection that has no socket yet. The answer says [`SYN_RECV`].
    pub(super) const NEW_SYN_RECV: u8 = 12;

    /// Those that matter. Not a connection that this host has only asked for: nobody has answered. Not one that is over
    /// (`TIME_WAIT`): its ports may be used again.
    pub(super) const ALL: [u8; 9] =
        [ESTABLISHED, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING, NEW_SYN_RECV];
}

/// Asks for the TCP sockets of both families. The kernel goes through its table of all connections for each such list, which takes
/// it a millisecond on a large machine: only the oldest form of a request asks for both families at once.
pub(super) fn request(sequence: u32) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.headed(TCPDIAG_GETSOCK, NLM_F_REQUEST | NLM_F_DUMP, sequence, |w| {
        // struct inet_diag_req: a family and lengths of addresses, which are not looked at, and no extensions.
        w.raw(&[0, 0, 0, 0]);
        // struct inet_diag_sockid, which a dump has no use for.
        w.raw(&[0; 48]);
        w.raw(&mask(&state::ALL).to_ne_bytes());
        // Tables that nobody has.
        w.raw(&[0; 4]);
    });
    writer.finish()
}

/// Asks for those of a family that listen, with their cgroups.
#[cfg(feature = "ebpf")]
pub(super) fn request_listeners(family: FamilyName, sequence: u32) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.headed(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, sequence, |w| {
        let family = if family == FamilyName::V4 { AF_INET } else { AF_INET6 };
        // struct inet_diag_req_v2: no extensions, and a byte of padding.
        w.raw(&[family, IPPROTO_TCP, 0, 0]);
        w.raw(&mask(&[state::LISTEN]).to_ne_bytes());
        w.raw(&[0; 48]);
    });
    writer.finish()
}

fn mask(states: &[u8]) -> u32 {
    states.iter().fold(0, |states, state| states | 1 << state)
}

/// The cgroup that a socket was made in, which the kernel tells unasked since Linux 5.9.
#[cfg(feature = "ebpf")]
const INET_DIAG_CGROUP_ID: u16 = 21;

/// A socket that listens.
#[cfg(feature = "ebpf")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) port: u16,
    pub(crate) uid: u32,
    pub(crate) inode: u32,
    /// The number of the cgroup of version 2 that its process was in when it made the socket; none if the kernel does not tell.
    pub(crate) cgroup: Option<u64>,
}

#[cfg(feature = "ebpf")]
impl Listener {
    /// Reads it from a `struct inet_diag_msg` and the attributes behind it.
    fn read(port: u16, body: &[u8]) -> Option<Self> {
        let number = |at| array(body, at).map(u32::from_ne_bytes);
        let cgroup = Attributes::of(body.get(72..)?).get(INET_DIAG_CGROUP_ID).and_then(|value| array(value, 0));
        Some(Self { port, uid: number(64)?, inode: number(68)?, cgroup: cgroup.map(u64::from_ne_bytes) })
    }
}

/// The TCP sockets of a network namespace.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// Those that listen.
    #[cfg(feature = "ebpf")]
    pub(crate) listeners: Vec<Listener>,
    /// The addresses that are listened on, by port.
    listening: HashMap<u16, Vec<IpAddr>>,
    /// The local and the remote end of each connection.
    open: Vec<(SocketAddr, SocketAddr, Phase)>,
}

impl Sockets {
    /// Adds what a datagram of an answer says.
    pub(super) fn read(&mut self, datagram: &[u8]) {
        let of_sockets = |kind| matches!(kind, TCPDIAG_GETSOCK | SOCK_DIAG_BY_FAMILY);
        for message in Messages(datagram).filter(|message| of_sockets(message.kind)) {
            self.read_one(message.body);
        }
    }

    /// Reads a `struct inet_diag_msg`; one that is cut off, or of a family that is not IP, is passed over.
    fn read_one(&mut self, body: &[u8]) -> Option<()> {
        let [family, state, timer, _] = array(body, 0)?;
        let port = |at| array(body, at).map(u16::from_be_bytes);
        let addr = |at: usize| match family {
            AF_INET => Some(IpAddr::from(Ipv4Addr::from(array::<4>(body, at)?))),
            // An IPv4 connection of an IPv6 socket is one of IPv4 on the wire.
            AF_INET6 => Some(IpAddr::from(Ipv6Addr::from(array::<16>(body, at)?)).to_canonical()),
            _ => None,
        };
        let local = SocketAddr::new(addr(8)?, port(4)?);
        let phase = match state {
            state::LISTEN => {
                #[cfg(feature = "ebpf")]
                self.listeners.extend(Listener::read(local.port(), body));
                self.listening.entry(local.port()).or_default().push(local.ip());
                return None;
            }
            _ if timer == TIMER_TIME_WAIT => return None,
            state::SYN_RECV | state::NEW_SYN_RECV => Phase::Opening,
            // Half-closed, data flows the other way for as long as it likes.
            state::ESTABLISHED | state::FIN_WAIT2 | state::CLOSE_WAIT => Phase::Open,
            state::FIN_WAIT1 => Phase::Closing,
            state::LAST_ACK | state::CLOSING => Phase::Closed,
            _ => return None,
        };
        self.open.push((local, SocketAddr::new(addr(24)?, port(6)?), phase));
        None
    }

    /// The connections of a family, each once, though both of its ends may be here. Whoever has a listener for it did not
    /// open it. Without those that were redirected: both of their ends are here, and one takes the other for somebody else. Where
    /// one of the ends is elsewhere, that cannot be told, so those that a port of `listeners` has accepted are left out as well.
    pub(crate) fn connections(&self, family: FamilyName, listeners: &BTreeSet<Port>) -> Vec<Connection> {
        let mut seen = HashSet::new();
        let redirected = self.redirected();
        let accepted = |local: &SocketAddr| Port::new(local.port()).is_some_and(|port| listeners.contains(&port));
        self.open
            .iter()
            .filter(|(local, ..)| local.is_ipv4() == (family == FamilyName::V4) && !accepted(local))
            .map(|(local, remote, phase)| {
                let tuple = Tuple { from: *local, to: *remote };
                Connection { tuple: if self.is_listening(local) { tuple.reversed() } else { tuple }, phase: *phase }
            })
            .filter(|connection| !redirected.contains(&connection.tuple) && seen.insert(connection.tuple))
            .collect()
    }

    /// The connections of which both ends are here and do not name each other, as each end has them, from who opened them.
    fn redirected(&self) -> HashSet<Tuple> {
        let mut asked: HashMap<&SocketAddr, Vec<&SocketAddr>> = HashMap::new();
        for (local, remote, _) in self.open.iter().filter(|(local, ..)| !self.is_listening(local)) {
            asked.entry(local).or_default().push(remote);
        }
        let answered = self.open.iter().filter(|(local, ..)| self.is_listening(local));
        let apart = answered.filter_map(|(local, remote, _)| {
            let others = asked.get(remote).filter(|others| !others.contains(&local))?;
            Some(others.iter().copied().chain([local]).map(|to| Tuple { from: *remote, to: *to }))
        });
        apart.flatten().collect()
    }

    /// Both ends of everything that is here, in either direction.
    pub(crate) fn ends(&self) -> HashSet<Tuple> {
        let tuples = self.open.iter().map(|(local, remote, _)| Tuple { from: *local, to: *remote });
        tuples.flat_map(|tuple| [tuple, tuple.reversed()]).collect()
    }

    fn is_listening(&self, local: &SocketAddr) -> bool {
        self.listening.get(&local.port()).into_iter().flatten().any(|listener| match listener {
            // It listens on IPv4 too, unless it is told not to.
            IpAddr::V6(addr) if addr.is_unspecified() => true,
            listener => *listener == local.ip() || listener.is_unspecified() && local.is_ipv4(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(addr: SocketAddr, mapped: bool) -> [u8; 16] {
        let mut bytes = [0; 16];
        match addr.ip() {
            IpAddr::V4(v4) if mapped => bytes = v4.to_ipv6_mapped().octets(),
            IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes = v6.octets(),
        }
        bytes
    }

    /// A socket as the kernel tells of it, with an attribute behind it.
    fn said(writer: &mut Writer, local: &str, remote: &str, state: u8, timer: u8, mapped: bool) {
        let (local, remote): (SocketAddr, SocketAddr) = (local.parse().unwrap(), remote.parse().unwrap());
        writer.headed(TCPDIAG_GETSOCK, 2, 7, |w| {
            let family = if local.is_ipv4() && !mapped { AF_INET } else { AF_INET6 };
            w.raw(&[family, state, timer, 0]);
            w.raw(&local.port().to_be_bytes());
            w.raw(&remote.port().to_be_bytes());
            w.raw(&octets(local, mapped));
            w.raw(&octets(remote, mapped));
            w.raw(&[0; 12 + 20]);
            w.bytes(8, &[0]);
        });
    }

    fn read(list: &[(&str, &str, u8)]) -> Sockets {
        let mut writer = Writer::default();
        for (local, remote, state) in list {
            said(&mut writer, local, remote, *state, 0, false);
        }
        let mut sockets = Sockets::default();
        sockets.read(&writer.finish());
        sockets
    }

    fn tuples(sockets: &Sockets, family: FamilyName) -> Vec<String> {
        let connections = sockets.connections(family, &BTreeSet::new()).into_iter();
        connections.map(|one| format!("{} > {} {:?}", one.tuple.from, one.tuple.to, one.phase)).collect()
    }

    #[test]
    fn requests_are_laid_out_as_the_kernel_reads_them() {
        let bytes = request(7);
        assert_eq!(bytes.len(), 16 + 60);
        assert_eq!(bytes[..4], 76_u32.to_ne_bytes());
        assert_eq!(bytes[4..6], 18_u16.to_ne_bytes());
        assert_eq!(bytes[6..8], 0x301_u16.to_ne_bytes());
        assert_eq!(bytes[16..68], [0; 52]);
        assert_eq!(bytes[68..72], 0x1f3a_u32.to_ne_bytes());
    }

    #[test]
    fn whoever_listens_did_not_open_the_connection() {
        let sockets = read(&[
            ("10.0.0.2:8080", "10.0.0.1:40000", state::ESTABLISHED),
            ("10.0.0.2:50000", "10.0.0.1:9000", state::ESTABLISHED),
            // Listed behind what it accepted.
            ("0.0.0.0:8080", "0.0.0.0:0", state::LISTEN),
        ]);
        assert_eq!(
            tuples(&sockets, FamilyName::V4),
            ["10.0.0.1:40000 > 10.0.0.2:8080 Open", "10.0.0.2:50000 > 10.0.0.1:9000 Open"]
        );
        assert!(tuples(&sockets, FamilyName::V6).is_empty());
        // A listener on another address is nobody's who has this port by chance.
        let sockets = read(&[
            ("10.0.0.2:8080", "10.0.0.1:9000", state::ESTABLISHED),
            ("10.0.0.3:8080", "0.0.0.0:0", state::LISTEN),
        ]);
        assert_eq!(tuples(&sockets, FamilyName::V4), ["10.0.0.2:8080 > 10.0.0.1:9000 Open"]);
        // One for all addresses of IPv6 takes IPv4 connections too, but not the other way round.
        let sockets = read(&[
            ("10.0.0.2:8080", "10.0.0.1:9000", state::ESTABLISHED),
            ("[fd77::2]:8081", "[fd77::1]:9000", state::ESTABLISHED),
            ("[::]:8080", "[::]:0", state::LISTEN),
            ("0.0.0.0:8081", "0.0.0.0:0", state::LISTEN),
        ]);
        assert_eq!(tuples(&sockets, FamilyName::V4), ["10.0.0.1:9000 > 10.0.0.2:8080 Open"]);
        assert_eq!(tuples(&sockets, FamilyName::V6), ["[fd77::2]:8081 > [fd77::1]:9000 Open"]);
    }

    #[test]
    fn a_loopback_connection_is_one_whichever_end_comes_first() {
        let mut ends = [
            ("127.0.0.1:40000", "127.0.0.1:8080", state::ESTABLISHED),
            ("127.0.0.1:8080", "127.0.0.1:40000", state::ESTABLISHED),
            ("127.0.0.1:8080", "0.0.0.0:0", state::LISTEN),
        ];
        for _ in 0..2 {
            let sockets = read(&ends);
            assert_eq!(tuples(&sockets, FamilyName::V4), ["127.0.0.1:40000 > 127.0.0.1:8080 Open"]);
            assert_eq!(sockets.ends().len(), 2);
            ends.reverse();
        }
    }

    #[test]
    fn ends_that_do_not_name_each_other_were_redirected() {
        let listeners = [("0.0.0.0:15001", "0.0.0.0:0", state::LISTEN), ("0.0.0.0:8080", "0.0.0.0:0", state::LISTEN)];
        let ends = [
            ("10.0.0.2:40000", "10.9.9.9:80", state::ESTABLISHED),
            ("127.0.0.1:15001", "10.0.0.2:40000", state::ESTABLISHED),
            // Of those with the same port, one may have been opened before. It is not known which.
            ("10.0.0.2:40000", "10.9.9.8:80", state::ESTABLISHED),
            // It speaks with who answers, and with another.
            ("10.0.0.2:40001", "10.0.0.2:8080", state::ESTABLISHED),
            ("10.0.0.2:8080", "10.0.0.2:40001", state::ESTABLISHED),
            ("10.0.0.2:40001", "10.9.9.9:80", state::ESTABLISHED),
            // Who answers has others, too.
            ("10.0.0.2:8080", "10.9.9.9:40000", state::ESTABLISHED),
        ];
        let sockets = read(&[&listeners[..], &ends[..]].concat());
        assert_eq!(
            tuples(&sockets, FamilyName::V4),
            [
                "10.0.0.2:40001 > 10.0.0.2:8080 Open",
                "10.0.0.2:40001 > 10.9.9.9:80 Open",
                "10.9.9.9:40000 > 10.0.0.2:8080 Open"
            ]
        );
    }

    #[test]
    fn what_the_listeners_have_accepted_is_left_out() {
        let sockets = read(&[
            ("0.0.0.0:8080", "0.0.0.0:0", state::LISTEN),
            ("10.0.0.2:8080", "10.0.0.1:40000", state::ESTABLISHED),
            // It may have asked for another port, and nobody here knows. The listener may be gone.
            ("10.0.0.2:15006", "10.0.0.1:40001", state::ESTABLISHED),
            // Another host's sidecar.
            ("10.0.0.2:50000", "10.0.0.1:15006", state::ESTABLISHED),
        ]);
        let listeners = [15001, 15006].into_iter().filter_map(Port::new).collect();
        let left: Vec<_> = sockets.connections(FamilyName::V4, &listeners).iter().map(|one| one.tuple.to).collect();
        assert_eq!(left, ["10.0.0.2:8080".parse().unwrap(), "10.0.0.1:15006".parse::<SocketAddr>().unwrap()]);
    }

    #[test]
    fn an_ipv4_connection_of_an_ipv6_socket_is_one_of_ipv4() {
        let mut writer = Writer::default();
        said(&mut writer, "10.0.0.2:8080", "10.0.0.1:40000", state::ESTABLISHED, 0, true);
        said(&mut writer, "[::]:8080", "[::]:0", state::LISTEN, 0, false);
        let mut sockets = Sockets::default();
        sockets.read(&writer.finish());
        assert_eq!(tuples(&sockets, FamilyName::V4), ["10.0.0.1:40000 > 10.0.0.2:8080 Open"]);
        assert!(tuples(&sockets, FamilyName::V6).is_empty());
    }

    #[test]
    #[cfg(feature = "ebpf")]
    fn listeners_are_told_with_their_cgroups() {
        let mut writer = Writer::default();
        for cgroup in [Some(4711_u64), None] {
            writer.headed(SOCK_DIAG_BY_FAMILY, 2, 7, |w| {
                w.raw(&[AF_INET6, state::LISTEN, 0, 0]);
                w.raw(&15001_u16.to_be_bytes());
                w.raw(&[0; 46 + 12]);
                [5678_u32, 99].iter().for_each(|number| w.raw(&number.to_ne_bytes()));
                w.bytes(8, &[0]);
                cgroup.iter().for_each(|id| w.bytes(INET_DIAG_CGROUP_ID, &id.to_ne_bytes()));
            });
        }
        let mut sockets = Sockets::default();
        sockets.read(&writer.finish());
        let expected = |cgroup| Listener { port: 15001, uid: 5678, inode: 99, cgroup };
        assert_eq!(sockets.listeners, [expected(Some(4711)), expected(None)]);
    }

    #[test]
    fn states_in_which_data_flows() {
        let phase = |state: u8, timer: u8| {
            let mut writer = Writer::default();
            said(&mut writer, "10.0.0.2:1", "10.0.0.1:2", state, timer, false);
            let mut sockets = Sockets::default();
            sockets.read(&writer.finish());
            sockets.connections(FamilyName::V4, &BTreeSet::new()).first().map(|connection| connection.phase)
        };
        for (state, expected) in [
            (state::ESTABLISHED, Some(Phase::Open)),
            (2, None),
            (state::SYN_RECV, Some(Phase::Opening)),
            (state::FIN_WAIT1, Some(Phase::Closing)),
            (state::FIN_WAIT2, Some(Phase::Open)),
            (6, None),
            (7, None),
            (state::CLOSE_WAIT, Some(Phase::Open)),
            (state::LAST_ACK, Some(Phase::Closed)),
            (state::LISTEN, None),
            (state::CLOSING, Some(Phase::Closed)),
            (99, None),
        ] {
            assert_eq!(phase(state, 0), expected, "{state}");
        }
        // What has only its ports left.
        assert_eq!(phase(state::FIN_WAIT2, TIMER_TIME_WAIT), None);
    }

    #[test]
    fn answers_that_are_cut_off_are_survived() {
        let mut writer = Writer::default();
        said(&mut writer, "10.0.0.2:1", "10.0.0.1:2", state::ESTABLISHED, 0, false);
        let bytes = writer.finish();
        for end in 0..bytes.len() {
            let mut sockets = Sockets::default();
            sockets.read(&bytes[..end]);
            assert!(sockets.connections(FamilyName::V4, &BTreeSet::new()).is_empty());
        }
        arbtest::arbtest(|u| {
            let mut bytes = bytes.clone();
            for _ in 0..u.int_in_range(1..=8)? {
                let at = u.choose_index(bytes.len())?;
                bytes[at] = u.arbitrary()?;
            }
            let mut sockets = Sockets::default();
            sockets.read(&bytes);
            sockets.connections(FamilyName::V4, &BTreeSet::new());
            Ok(())
        });
    }
}

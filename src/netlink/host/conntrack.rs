//! Entries of connection tracking as ctnetlink writes and lists them: messages, and what the answers say. The numbers are
//! those of linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h and nf_conntrack_tcp.h.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::net::FamilyName;
use crate::netlink::batch::number;
use crate::netlink::constants::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST};
use crate::netlink::wire::{Attributes, Head, Messages, Writer, array};

const SUBSYSTEM: u16 = 1;
const CT_NEW: u16 = SUBSYSTEM << 8;
const CT_GET: u16 = SUBSYSTEM << 8 | 1;
const CT_DELETE: u16 = SUBSYSTEM << 8 | 2;
const CT_GET_STATS: u16 = SUBSYSTEM << 8 | 5;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_TIMEOUT: u16 = 7;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;

const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;

const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL: u16 = 4;
const CTA_PROTOINFO_TCP_FLAGS_REPLY: u16 = 5;

const IPPROTO_TCP: u8 = 6;

const IPS_SEEN_REPLY: u32 = 1 << 1;
const IPS_ASSURED: u32 = 1 << 2;
const IPS_CONFIRMED: u32 = 1 << 3;

const TCP_CONNTRACK_ESTABLISHED: u8 = 3;
const TCP_CONNTRACK_FIN_WAIT: u8 = 4;
const TCP_CONNTRACK_LAST_ACK: u8 = 6;

const IP_CT_TCP_FLAG_WINDOW_SCALE: u8 = 0x01;
const IP_CT_TCP_FLAG_SACK_PERM: u8 = 0x02;
const IP_CT_TCP_FLAG_BE_LIBERAL: u8 = 0x08;

/// The ends of a TCP connection, in one direction; both of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tuple {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

impl Tuple {
    /// The other direction.
    pub(crate) fn reversed(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It was answered, and the answer is not confirmed.
    Opening,
    /// Data flows, if only in one direction.
    Open,
    /// This end has said that it is done, and that is not confirmed.
    Closing,
    /// Both ends have said that they are done.
    Closed,
}

impl Phase {
    /// The state that conntrack has for it, and how long it keeps an entry in which nothing happens, in seconds, which are the
    /// kernel's own defaults. A half-open connection is taken for an open one, so that its next packet makes it one.
    fn tracked(self) -> (u8, u32) {
        match self {
            Self::Opening => (TCP_CONNTRACK_ESTABLISHED, 60),
            Self::Open => (TCP_CONNTRACK_ESTABLISHED, 5 * 24 * 60 * 60),
            Self::Closing => (TCP_CONNTRACK_FIN_WAIT, 120),
            Self::Closed => (TCP_CONNTRACK_LAST_ACK, 30),
        }
    }
}

/// A TCP connection, from who opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) tuple: Tuple,
    pub(crate) phase: Phase,
}

/// An entry that the kernel has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) original: Tuple,
    pub(super) reply: Tuple,
    id: Option<[u8; 4]>,
    /// It was made like ours: of a connection that is open, in no zone, and with nothing known of it. One that the kernel made
    /// has seen the options of a connection, or assumes them.
    pub(super) made_by_hand: bool,
}

/// Asks for all entries of a family.
pub(super) fn list(family: Option<FamilyName>, sequence: u32) -> Vec<u8> {
    let family = family.map_or(0, number);
    let head = Head { kind: CT_GET, flags: NLM_F_REQUEST | NLM_F_DUMP, sequence, family, resource: 0 };
    let mut writer = Writer::default();
    writer.message(head, |_| {});
    writer.finish()
}

/// Asks how many entries there are.
pub(super) fn how_many(sequence: u32) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.message(Head { kind: CT_GET_STATS, flags: NLM_F_REQUEST, sequence, family: 0, resource: 0 }, |_| {});
    writer.finish()
}

/// What is answered to that.
pub(super) fn number_of_entries(datagram: &[u8]) -> Option<u32> {
    let answer = Messages(datagram).find(|message| message.kind == CT_GET_STATS)?;
    answer.generic()?.1.number(CTA_STATS_GLOBAL_ENTRIES)
}

/// Makes an entry, unless there is one.
pub(super) fn create(connection: &Connection, sequence: u32, writer: &mut Writer) {
    let (state, timeout) = connection.phase.tracked();
    change(CT_NEW, NLM_F_CREATE | NLM_F_EXCL, connection.tuple, sequence, writer, |w| {
        tuple(CTA_TUPLE_REPLY, connection.tuple.reversed(), w);
        // Nobody expects an answer that has to come first, and a crowded table has to keep it.
        w.number(CTA_STATUS, IPS_CONFIRMED | IPS_ASSURED | IPS_SEEN_REPLY);
        w.number(CTA_TIMEOUT, timeout);
        w.nest(CTA_PROTOINFO, |w| {
            w.nest(CTA_PROTOINFO_TCP, |w| {
                w.bytes(CTA_PROTOINFO_TCP_STATE, &[state]);
                // struct nf_ct_tcp_flags, flags and mask: nothing is known of its windows.
                for direction in [CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, CTA_PROTOINFO_TCP_FLAGS_REPLY] {
                    w.bytes(direction, &[IP_CT_TCP_FLAG_BE_LIBERAL; 2]);
                }
            });
        });
    });
}

/// Removes this entry, and none that has come in its place.
pub(super) fn delete(entry: &Entry, sequence: u32, writer: &mut Writer) {
    change(CT_DELETE, 0, entry.original, sequence, writer, |w| {
        if let Some(id) = entry.id {
            w.bytes(CTA_ID, &id);
        }
    });
}

fn change(kind: u16, flags: u16, original: Tuple, sequence: u32, writer: &mut Writer, more: impl FnOnce(&mut Writer)) {
    let family = if original.from.is_ipv4() { FamilyName::V4 } else { FamilyName::V6 };
    let flags = flags | NLM_F_REQUEST | NLM_F_ACK;
    writer.message(Head { kind, flags, sequence, family: number(family), resource: 0 }, |w| {
        tuple(CTA_TUPLE_ORIG, original, w);
        more(w);
    });
}

fn tuple(kind: u16, tuple: Tuple, writer: &mut Writer) {
    writer.nest(kind, |w| {
        w.nest(CTA_TUPLE_IP, |w| match (tuple.from.ip(), tuple.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                w.bytes(CTA_IP_V4_SRC, &from.octets());
                w.bytes(CTA_IP_V4_DST, &to.octets());
            }
            (from, to) => {
                w.bytes(CTA_IP_V6_SRC, &wide(from).octets());
                w.bytes(CTA_IP_V6_DST, &wide(to).octets());
            }
        });
        w.nest(CTA_TUPLE_PROTO, |w| {
            w.bytes(CTA_PROTO_NUM, &[IPPROTO_TCP]);
            w.bytes(CTA_PROTO_SRC_PORT, &tuple.from.port().to_be_bytes());
            w.bytes(CTA_PROTO_DST_PORT, &tuple.to.port().to_be_bytes());
        });
    });
}

fn wide(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

/// The entries of TCP in a datagram of an answer.
pub(super) fn entries(datagram: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    Messages(datagram).filter(|message| message.kind == CT_NEW).filter_map(|message| entry(&message.generic()?.1))
}

fn entry(attributes: &Attributes<'_>) -> Option<Entry> {
    let tcp = attributes.nest(CTA_PROTOINFO).and_then(|info| info.nest(CTA_PROTOINFO_TCP)).unwrap_or_default();
    let byte = |kind| tcp.get(kind).and_then(|value| value.first().copied());
    let unknown = |kind| {
        let known = IP_CT_TCP_FLAG_WINDOW_SCALE | IP_CT_TCP_FLAG_SACK_PERM;
        byte(kind).is_some_and(|flags| flags & (known | IP_CT_TCP_FLAG_BE_LIBERAL) == IP_CT_TCP_FLAG_BE_LIBERAL)
    };
    let (original, reply) = (read(attributes, CTA_TUPLE_ORIG)?, read(attributes, CTA_TUPLE_REPLY)?);
    Some(Entry {
        original,
        reply,
        id: attributes.get(CTA_ID).and_then(|id| array(id, 0)),
        made_by_hand: original == reply.reversed()
            && attributes.get(CTA_ZONE).is_none()
            && byte(CTA_PROTOINFO_TCP_STATE) == Some(TCP_CONNTRACK_ESTABLISHED)
            && [CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, CTA_PROTOINFO_TCP_FLAGS_REPLY].into_iter().all(unknown),
    })
}

/// A tuple of TCP.
fn read(attributes: &Attributes<'_>, kind: u16) -> Option<Tuple> {
    let tuple = attributes.nest(kind)?;
    let (ip, proto) = (tuple.nest(CTA_TUPLE_IP)?, tuple.nest(CTA_TUPLE_PROTO)?);
    if proto.get(CTA_PROTO_NUM)? != [IPPROTO_TCP] {
        return None;
    }
    let v4 = |kind| Some(IpAddr::from(Ipv4Addr::from(array::<4>(ip.get(kind)?, 0)?)));
    let v6 = |kind| Some(IpAddr::from(Ipv6Addr::from(array::<16>(ip.get(kind)?, 0)?)));
    let port = |kind| proto.get(kind).and_then(|value| array(value, 0)).map(u16::from_be_bytes);
    let from = v4(CTA_IP_V4_SRC).or_else(|| v6(CTA_IP_V6_SRC))?;
    let to = v4(CTA_IP_V4_DST).or_else(|| v6(CTA_IP_V6_DST))?;
    Some(Tuple {
        from: SocketAddr::new(from, port(CTA_PROTO_SRC_PORT)?),
        to: SocketAddr::new(to, port(CTA_PROTO_DST_PORT)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(from: &str, to: &str, phase: Phase) -> Connection {
        Connection { tuple: Tuple { from: from.parse().unwrap(), to: to.parse().unwrap() }, phase }
    }

    fn created(connection: &Connection) -> Vec<u8> {
        let mut writer = Writer::default();
        create(connection, 9, &mut writer);
        writer.finish()
    }

    /// The first words are laid out by hand.
    #[test]
    fn entries_are_laid_out_as_the_kernel_reads_them() {
        let bytes = created(&connection("10.77.0.1:41001", "10.77.0.2:8080", Phase::Open));
        let words: Vec<u8> = [
            &[0x34, 0, 1, 0x80][..],                                                 // original tuple
            &[0x14, 0, 1, 0x80, 8, 0, 1, 0, 10, 77, 0, 1, 8, 0, 2, 0, 10, 77, 0, 2], // its addresses
            &[0x1c, 0, 2, 0x80, 5, 0, 1, 0, 6, 0, 0, 0],                             // its protocol
            &[6, 0, 2, 0, 0xa0, 0x29, 0, 0, 6, 0, 3, 0, 0x1f, 0x90, 0, 0],           // its ports
        ]
        .concat();
        if cfg!(target_endian = "little") {
            assert_eq!(bytes[4..8], [0, 1, 0x05, 0x06]);
            assert_eq!(bytes[16..20], [2, 0, 0, 0]);
            assert_eq!(bytes[20..20 + words.len()], words);
        }
        let message = Messages(&bytes).next().unwrap();
        let (family, attributes) = message.generic().unwrap();
        assert_eq!(
            (family, attributes.number(CTA_STATUS), attributes.number(CTA_TIMEOUT)),
            (2, Some(14), Some(432_000))
        );
        let tcp = attributes.nest(CTA_PROTOINFO).unwrap().nest(CTA_PROTOINFO_TCP).unwrap();
        assert_eq!(tcp.collect::<Vec<_>>(), [(1, &[3][..]), (4, &[8, 8]), (5, &[8, 8])]);
    }

    #[test]
    fn what_is_made_is_read_as_ours() {
        for (from, to) in [("10.77.0.1:41001", "10.77.0.2:8080"), ("[fd77::1]:41001", "[fd77::2]:8080")] {
            let one = connection(from, to, Phase::Open);
            let found: Vec<_> = entries(&created(&one)).collect();
            assert_eq!((found.len(), found[0].original, found[0].reply), (1, one.tuple, one.tuple.reversed()));
            assert!(found[0].made_by_hand);
            // What is over soon goes by itself.
            let one = connection(from, to, Phase::Closed);
            assert!(!entries(&created(&one)).next().unwrap().made_by_hand);
        }
    }

    #[test]
    fn the_entries_of_others_are_told_from_ours() {
        let one = connection("10.77.0.1:41001", "10.77.0.2:8080", Phase::Open);
        let made = |flags: [u8; 2], reply: Tuple, zone: bool| {
            let mut writer = Writer::default();
            change(CT_NEW, 0, one.tuple, 9, &mut writer, |w| {
                tuple(CTA_TUPLE_REPLY, reply, w);
                w.nest(CTA_PROTOINFO, |w| {
                    w.nest(CTA_PROTOINFO_TCP, |w| {
                        w.bytes(CTA_PROTOINFO_TCP_STATE, &[TCP_CONNTRACK_ESTABLISHED]);
                        w.bytes(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, &[flags[0], 0]);
                        w.bytes(CTA_PROTOINFO_TCP_FLAGS_REPLY, &[flags[1], 0]);
                    });
                });
                if zone {
                    w.bytes(CTA_ZONE, &[0, 1]);
                }
            });
            entries(&writer.finish()).next().unwrap().made_by_hand
        };
        let back = one.tuple.reversed();
        assert!(made([8, 8], back, false));
        // What the kernel adds while a connection goes on.
        assert!(made([0x28, 0x0c], back, false));
        // Seen from its first packet; picked up in its middle; translated; in a zone.
        assert!(!made([0x23, 0x23], back, false));
        assert!(!made([0x0a, 0x0a], back, false));
        let sidecar = Tuple { from: "10.77.0.2:15006".parse().unwrap(), ..back };
        assert!(!made([8, 8], sidecar, false));
        assert!(!made([8, 8], back, true));
    }

    #[test]
    fn removal_names_the_very_entry() {
        let one = connection("[fd77::1]:41001", "[fd77::2]:8080", Phase::Open);
        let mut entry = entries(&created(&one)).next().unwrap();
        entry.id = Some([1, 2, 3, 4]);
        let mut writer = Writer::default();
        delete(&entry, 9, &mut writer);
        let bytes = writer.finish();
        let message = Messages(&bytes).next().unwrap();
        let (family, attributes) = message.generic().unwrap();
        assert_eq!((message.kind, message.flags, family), (0x102, 5, 10));
        assert_eq!(read(&attributes, CTA_TUPLE_ORIG), Some(one.tuple));
        assert_eq!(attributes.get(CTA_ID), Some(&[1, 2, 3, 4][..]));
    }

    #[test]
    fn answers_that_are_cut_off_are_survived() {
        let bytes = created(&connection("10.77.0.1:41001", "10.77.0.2:8080", Phase::Open));
        arbtest::arbtest(|u| {
            let mut bytes = bytes.clone();
            for _ in 0..u.int_in_range(1..=8)? {
                let at = u.choose_index(bytes.len())?;
                bytes[at] = u.arbitrary()?;
            }
            bytes.truncate(u.int_in_range(0..=bytes.len())?);
            entries(&bytes).count();
            Ok(())
        });
    }
}

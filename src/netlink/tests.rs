use arbtest::arbtest;

use super::constants::*;
use super::wire::{Head, Messages, Writer};
use super::*;
use crate::config::Config;
use crate::facts::{Facts, Resolvers};
use crate::net::{FamilyName, Uid};
use crate::nftables::Native;

/// Rules with nearly every expression there is.
fn everything() -> Native {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    config.drop_invalid_packets = true;
    config.log.enabled = true;
    config.redirect.vnet = vec!["br+:172.18.0.0/17".parse().unwrap(), "eth1:fd00:9::/63".parse().unwrap()];
    let outbound = &mut config.redirect.outbound;
    outbound.exclude_ports = "1,3,60000-65535".parse().unwrap();
    outbound.exclude_ips =
        ["10.0.0.0/8", "10.1.0.0/16", "240.0.0.0/4", "0.0.0.0/8", "fd00::/8"].map(|t| t.parse().unwrap()).to_vec();
    outbound.exclude_ports_for_uids =
        ["tcp:22:7", "tcp:22:9-11", "tcp:80-90:13-14"].map(|t| t.parse().unwrap()).to_vec();
    let mut facts = Facts::capable_host(Uid::SIDECAR);
    facts.resolvers = Some(Resolvers::new(["127.0.0.11", "fd00::53", "fd00::54"].map(|t| t.parse().unwrap())));
    Native::of(&crate::policy::plan(&config, &facts).unwrap())
}

fn batch(native: &Native) -> Finished {
    let mut batch = Batch::new(Some(7));
    for table in native.tables() {
        batch.add(table.family, &KernelTable::of(table));
    }
    batch.commit()
}

/// The message about an object, without its header, as hexadecimal digits, four bytes a group.
fn body(batch: &Finished, object: &Object) -> String {
    let index = batch.objects.iter().position(|other| other == object).unwrap();
    let message = Messages(&batch.bytes[batch.starts[index]..]).next().unwrap();
    let group = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    message.body.chunks(4).map(group).collect::<Vec<_>>().join(" ")
}

fn rule(chain: &str, index: usize) -> Object {
    Object::Rule { family: FamilyName::V4, chain: chain.to_owned(), index }
}

/// These are the bytes that nft 1.0.6 sends for the same rules, save the order of a few attributes.
#[cfg(target_endian = "little")]
#[test]
fn messages_have_the_bytes_that_the_kernel_reads() {
    let mut config = Config::default();
    config.comments.disabled = true;
    config.redirect.outbound.exclude_ports = "80,65535".parse().unwrap();
    config.redirect.outbound.exclude_ports_for_uids = vec!["tcp:22:1000-1001".parse().unwrap()];
    let plan = crate::policy::plan(&config, &Facts::capable_host(Uid::SIDECAR)).unwrap();
    let batch = batch(&Native::of(&plan));
    let family = FamilyName::V4;
    const TABLE: &str = "0e000100 6b756d61 2d6d6573 68000000";
    // Family ip, version 0, resource 0; NFTA_TABLE_FLAGS 0.
    assert_eq!(body(&batch, &Object::Table { family }), format!("02000000 {TABLE} 08000200 00000000"));
    // The batch begins for subsystem 10, at generation 7.
    assert_eq!(body(&batch, &Object::Batch), "0000000a 08000100 00000007");
    // NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK { OUTPUT, -99 }, NFTA_CHAIN_POLICY accept, NFTA_CHAIN_TYPE nat.
    assert_eq!(
        body(&batch, &Object::Chain { family, chain: "nat_output_last".to_owned() }),
        format!(
            "02000000 {TABLE} 14000300 6e61745f 6f757470 75745f6c 61737400 14000480 08000100 00000003 08000200 ffffff9d 08000500 00000001 08000700 6e617400"
        )
    );
    // meta load l4proto; cmp eq 6; immediate 15001; redir.
    assert_eq!(
        body(&batch, &rule("KUMA_MESH_OUTBOUND_REDIRECT", 1)),
        format!(
            "02000000 {TABLE} 20000200 4b554d41 5f4d4553 485f4f55 54424f55 4e445f52 45444952 45435400 a4000480 24000180 09000100 6d657461 00000000 14000280 08000200 00000010 08000100 00000001 2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000000 0c000380 05000100 06000000 2c000180 0e000100 696d6d65 64696174 65000000 18000280 08000100 00000001 0c000280 06000100 3a990000 24000180 0a000100 72656469 72000000 14000280 08000100 00000001 08000300 00000002"
        )
    );
    // Users: meta load skuid; byteorder hton; cmp gte 1000; cmp lte 1001, big endian.
    let users = body(&batch, &rule("nat_output_last", 1));
    assert!(users.contains("08000200 0000000a 08000100 00000001"), "{users}");
    assert!(users.contains("62797465 6f726465 72000000"), "{users}");
    assert!(users.contains("08000200 00000005 0c000380 08000100 000003e8"), "{users}");
    assert!(users.contains("08000200 00000003 0c000380 08000100 000003e9"), "{users}");
    // The sidecar: one user is compared in the order of the host.
    let sidecar = body(&batch, &rule("KUMA_MESH_OUTBOUND", 3));
    assert!(sidecar.contains("08000200 00000000 0c000380 08000100 2e160000"), "{sidecar}");
    // The set: interval, inet_service, 2 bytes, big endian.
    let set = Object::Set { family, set: "outbound_exclude_ports".to_owned() };
    let text = body(&batch, &set);
    assert!(
        text.ends_with(
            "08000300 00000004 08000400 0000000d 08000500 00000002 08000a00 00000002 0a000d00 00040200 00000000"
        ),
        "{text}"
    );
    // Its elements: nothing below 80, 80, not 81, 65535 and on without an end.
    let index = batch.objects.iter().rposition(|other| *other == set).unwrap();
    let elements = Messages(&batch.bytes[batch.starts[index]..]).next().unwrap();
    let list = elements.generic().unwrap().1.nest(NFTA_SET_ELEM_LIST_ELEMENTS).unwrap();
    let hex: Vec<_> =
        list.map(|(_, value)| value.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).collect();
    assert_eq!(
        hex,
        [
            "08000300000000010c0001800600010000000000",
            "0c0001800600010000500000",
            "08000300000000010c0001800600010000510000",
            "0c00018006000100ffff00000a0006000104010000000000",
        ]
    );
}

#[test]
fn what_is_written_is_read_back() {
    let native = everything();
    let batch = batch(&native);
    let dump = Dump::decode(batch.bytes()).unwrap();
    for table in native.tables() {
        let wanted = KernelTable::of(table);
        assert_eq!(wanted.differences(dump.of(table.family).unwrap()), [""; 0]);
        assert!(wanted.marker().is_some() && wanted.marker() == dump.of(table.family).unwrap().marker());
    }
    // Every message is numbered, requested, and only the last one is acknowledged.
    let messages: Vec<_> = Messages(batch.bytes()).collect();
    assert_eq!(messages.len(), batch.objects.len());
    for (index, message) in messages.iter().enumerate() {
        assert_eq!(message.sequence as usize, index + 1);
        let acknowledged = message.flags & NLM_F_ACK != 0;
        assert_eq!(acknowledged, index + 2 == messages.len(), "{message:?}");
        assert_eq!(message.flags & NLM_F_REQUEST, NLM_F_REQUEST);
    }
    assert_eq!(messages.last().unwrap().kind, NFNL_MSG_BATCH_END);
}

#[test]
fn any_difference_is_named() {
    let native = everything();
    let wanted = KernelTable::of(&native.v4);
    let changed = |change: &dyn Fn(&mut KernelTable)| {
        let mut found = wanted.clone();
        change(&mut found);
        wanted.differences(&found)
    };
    let chain = |content: &KernelTable, name: &str| content.chains.iter().position(|chain| chain.name == name).unwrap();
    assert_eq!(changed(&|found| found.chains.reverse()), [""; 0]);
    assert_eq!(changed(&|found| drop(found.chains.remove(0))), ["the chain raw_prerouting is missing"]);
    assert_eq!(changed(&|found| drop(found.sets.pop())).len(), 1);
    assert_eq!(changed(&|found| found.sets[0].elements = elements::Elements::default()).len(), 1);
    assert_eq!(changed(&|found| found.flags = 1), ["the table is switched off (flags dormant)"]);
    assert_eq!(changed(&|found| found.flags = 2), ["the table has the flags 0x2 instead of 0x0"]);
    assert_eq!(
        changed(&|found| {
            let at = chain(found, "KUMA_MESH_OUTBOUND");
            found.chains[at].rules.swap(0, 1);
        }),
        ["rule 1 of chain KUMA_MESH_OUTBOUND differs"]
    );
    assert_eq!(
        changed(&|found| {
            let at = chain(found, "nat_output_last");
            found.chains[at].base.as_mut().unwrap().priority = -100;
        }),
        ["chain nat_output_last has a different hook, priority or policy"]
    );
    assert_eq!(
        changed(&|found| {
            let mut added = found.chains[0].clone();
            added.name = "foreign".to_owned();
            found.chains.push(added);
        }),
        ["the chain foreign was added"]
    );
}

#[test]
fn long_lists_are_sent_in_pieces() {
    let mut config = Config::default();
    let nets = |n: u32| format!("10.{}.{}.{}/32", n >> 14, n >> 6 & 255, n << 2 & 255);
    config.redirect.outbound.exclude_ips = (0..20_000).map(|n| nets(n).parse().unwrap()).collect();
    let plan = crate::policy::plan(&config, &Facts::capable_host(Uid::SIDECAR)).unwrap();
    let native = Native::of(&plan);
    let batch = batch(&native);
    let set = Object::Set { family: FamilyName::V4, set: "outbound_exclude_ports_for_ips".to_owned() };
    assert!(batch.objects.iter().filter(|object| **object == set).count() > 10);
    assert_eq!(Dump::decode(batch.bytes()).unwrap().v4.unwrap(), KernelTable::of(&native.v4));
}

/// An answer of the kernel to the message of an object.
fn error(batch: &Finished, object: &Object, errno: i32, more: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let index = batch.objects.iter().position(|other| other == object).unwrap();
    // `message` writes a header and four bytes; the four are the error here.
    let mut writer = Writer::default();
    let head =
        Head { kind: NLMSG_ERROR, flags: NLM_F_CAPPED | NLM_F_ACK_TLVS, sequence: index as u32 + 1, ..Head::default() };
    writer.message(head, |writer| {
        writer.raw(&batch.bytes[batch.starts[index]..batch.starts[index] + wire::HEADER]);
        more(writer);
    });
    let mut bytes = writer.finish();
    bytes[wire::HEADER..wire::HEADER + 4].copy_from_slice(&(-errno).to_ne_bytes());
    bytes
}

#[test]
fn refusals_name_the_rule_and_the_expression() {
    let batch = batch(&everything());
    let object = rule("KUMA_MESH_OUTBOUND_REDIRECT", 1);
    // Where `redir` stands in the message: found by its name.
    let index = batch.objects.iter().position(|other| *other == object).unwrap();
    let message = &batch.bytes[batch.starts[index]..];
    let at = message.windows(5).position(|window| window == b"redir").unwrap() - 4;
    let replies = error(&batch, &object, 2, |writer| {
        writer.bytes(NLMSGERR_ATTR_OFFS, &(at as u32).to_ne_bytes());
        writer.text(NLMSGERR_ATTR_MSG, "no such thing");
    });
    let mut outcome = BatchReply::default();
    outcome.read(&batch, &replies);
    assert!(!outcome.acknowledged);
    let failure = &outcome.failures[0];
    assert_eq!(
        (failure.errno, failure.object.as_ref(), failure.expression.as_deref(), failure.message.as_deref()),
        (2, Some(&object), Some("redir"), Some("no such thing"))
    );
    // The one acknowledgement.
    let last = batch.objects[batch.last as usize - 1].clone();
    let index = batch.objects.iter().rposition(|other| *other == last).unwrap();
    assert_eq!(index as u32 + 1, batch.last);
    let mut outcome = BatchReply::default();
    outcome.read(&batch, &error(&batch, &last, 0, |_| {}));
    assert!(outcome.acknowledged && outcome.failures.is_empty());
    // An acknowledgement of any other message is none of the batch.
    let mut outcome = BatchReply::default();
    outcome.read(&batch, &error(&batch, &Object::Batch, 0, |_| {}));
    assert!(!outcome.acknowledged);
}

/// Nothing that could come from a kernel makes a reader fail, and none reads for ever.
#[test]
fn readers_take_anything() {
    let batch = batch(&everything());
    let object = rule("KUMA_MESH_OUTBOUND", 0);
    let reply = error(&batch, &object, 22, |writer| writer.number(NLMSGERR_ATTR_OFFS, 60));
    let read = |bytes: &[u8]| {
        let _ = Dump::decode(bytes);
        BatchReply::default().read(&batch, bytes);
    };
    arbtest(|u| {
        read(u.bytes(u.len())?);
        Ok(())
    });
    arbtest(|u| {
        for valid in [batch.bytes(), &reply] {
            let mut bytes = valid.to_vec();
            for _ in 0..u.int_in_range(1..=8)? {
                let at = u.choose_index(bytes.len())?;
                match u.int_in_range(0..=3)? {
                    0 => bytes[at] = u.arbitrary()?,
                    // Lengths are where most can go wrong.
                    1 => bytes[at / 4 * 4] = *u.choose(&[0, 1, 3, 4, 5, 255])?,
                    2 => bytes.truncate(at.max(1)),
                    _ => drop(bytes.splice(at..at, [0, 0, 0, 0])),
                }
            }
            read(&bytes);
        }
        Ok(())
    });
}

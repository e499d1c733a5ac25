//! Whether what is there is what was installed, by what the tables say of themselves.

use crate::error::counted;
use crate::net::FamilyName;
use crate::netlink::elements::Elements;
use crate::netlink::{Dump, KernelTable};
use crate::nftables::{Marker, SCHEMA, Table, table_name};

/// How what is there compares with what was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Integrity {
    /// Nothing is different.
    Intact,
    /// Something is, in words.
    Changed(Vec<String>),
    /// A version of this crate installed it whose digests this one cannot compute: its schema.
    OtherSchema(u32),
}

impl Dump {
    /// Compares everything in the tables with the markers in them.
    pub(crate) fn integrity(&self) -> Integrity {
        let found: Vec<_> = FamilyName::ALL.into_iter().filter_map(|family| Some((family, self.of(family)?))).collect();
        let markers: Vec<_> = found.iter().map(|(_, content)| content.marker()).collect();
        if let Some(other) = markers.iter().flatten().find(|marker| marker.schema != SCHEMA) {
            return Integrity::OtherSchema(other.schema);
        }
        let mut changes = Vec::new();
        let mut tables = Vec::new();
        for ((family, content), marker) in found.iter().zip(&markers) {
            match examine(*family, content, marker.as_ref()) {
                Ok(table) => tables.push(table),
                Err(found) => {
                    let name = table_name(*family);
                    changes.extend(found.into_iter().map(|change| format!("{name}: {change}")));
                }
            }
        }
        if !changes.is_empty() {
            return Integrity::Changed(changes);
        }
        let digest = Marker::digest(&tables);
        if markers.iter().flatten().all(|marker| marker.digest == digest) {
            return Integrity::Intact;
        }
        // The numbers are right, so something has been put in the place of something else.
        let names: Vec<_> = tables.iter().map(|table| table_name(table.family)).collect();
        let replaced = format!("a rule or an interval of a set differs in {}", names.join(" or "));
        Integrity::Changed(vec![match tables.len() {
            1 => format!("{replaced}, or the table of the other family was removed"),
            _ => replaced,
        }])
    }
}

/// The table, if it has as much in it as its marker says, and nothing that is not ours.
fn examine(family: FamilyName, content: &KernelTable, marker: Option<&Marker>) -> Result<Table, Vec<String>> {
    let mut changes = Vec::new();
    if content.chains.iter().all(|chain| chain.rules.is_empty()) {
        return Err(vec!["it has no rules".to_owned()]);
    }
    let Some(marker) = marker else {
        changes.push("the rule that records what was installed is missing".to_owned());
        return Err(changes);
    };
    let others = content.chains.iter().filter(|chain| chain.name != Marker::CHAIN);
    let rules = others.map(|chain| chain.rules.len()).sum::<usize>();
    if rules != marker.rules {
        changes.push(format!("it has {}, expected {}", counted(rules, "rule"), marker.rules));
        let empty = content.chains.iter().filter(|chain| chain.rules.is_empty());
        changes.extend(empty.map(|chain| format!("the chain {} is empty", chain.name)));
    }
    let intervals = content.sets.iter().map(|set| intervals(&set.elements)).sum::<usize>();
    if intervals != marker.intervals {
        changes.push(format!("its sets have {}, expected {}", counted(intervals, "interval"), marker.intervals));
    }
    match content.lift(family) {
        Ok(table) => {
            let mut whole = table.clone();
            marker.put_into(&mut whole);
            // With the chain of the marker itself.
            changes.extend(KernelTable::of(&whole).differences(content));
            if changes.is_empty() { Ok(table) } else { Err(changes) }
        }
        Err(found) => {
            changes.extend(found);
            Err(changes)
        }
    }
}

/// How many intervals begin among the elements of a set.
fn intervals(elements: &Elements) -> usize {
    match elements {
        Elements::Intervals(spans) => spans.len(),
        Elements::Others(elements) => elements.iter().filter(|element| element.flags == 0).count(),
    }
}

#[cfg(test)]
mod tests {
    use arbtest::arbtest;

    use super::*;
    use crate::config::Config;
    use crate::facts::Facts;
    use crate::net::Uid;
    use crate::netlink::Batch;
    use crate::nftables::{Native, Span};

    fn installed() -> Dump {
        let mut config = Config::default();
        config.redirect.outbound.exclude_ports = "22,80-90".parse().unwrap();
        let native = Native::of(&crate::policy::plan(&config, &Facts::capable_host(Uid::SIDECAR)).unwrap());
        let mut dump = Dump::default();
        (dump.v4, dump.v6) = (Some(KernelTable::of(&native.v4)), native.v6.as_ref().map(KernelTable::of));
        dump
    }

    fn changed(change: impl FnOnce(&mut KernelTable)) -> String {
        let mut dump = installed();
        change(dump.v4.as_mut().unwrap());
        match dump.integrity() {
            Integrity::Changed(list) => list.join("\n"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_change_is_seen_and_named_as_far_as_it_can_be() {
        let at = |content: &KernelTable, name: &str| content.chains.iter().position(|c| c.name == name).unwrap();
        assert_eq!(installed().integrity(), Integrity::Intact);
        let mut reversed = installed();
        reversed.v4.as_mut().unwrap().chains.reverse();
        assert_eq!(reversed.integrity(), Integrity::Intact);

        let rule = changed(|content| {
            let at = at(content, "KUMA_MESH_OUTBOUND");
            content.chains[at].rules.pop();
        });
        assert!(rule.starts_with("ip kuma-mesh: it has ") && rule.contains(" rules, expected "), "{rule}");
        let flushed = changed(|content| {
            let at = at(content, "KUMA_MESH_INBOUND");
            content.chains[at].rules.clear();
        });
        assert!(flushed.contains("the chain KUMA_MESH_INBOUND is empty"), "{flushed}");
        let element = changed(|content| {
            let ports = content.sets.iter_mut().find(|set| set.name == "outbound_exclude_ports").unwrap();
            let Elements::Intervals(spans) = &ports.elements else { panic!("{ports:?}") };
            let more = spans.iter().copied().chain([Span { first: 9000, last: 9000 }]);
            ports.elements = Elements::Intervals(more.collect());
        });
        assert_eq!(element, "ip kuma-mesh: its sets have 5 intervals, expected 4");
        let order = changed(|content| {
            let at = at(content, "KUMA_MESH_OUTBOUND");
            content.chains[at].rules.swap(0, 1);
        });
        assert_eq!(order, "a rule or an interval of a set differs in ip kuma-mesh or ip6 kuma-mesh");
        assert_eq!(
            changed(|content| content.chains.iter_mut().for_each(|chain| chain.rules.clear())),
            "ip kuma-mesh: it has no rules"
        );
        let marker = changed(|content| content.chains.retain(|chain| chain.name != Marker::CHAIN));
        assert!(marker == "ip kuma-mesh: the rule that records what was installed is missing", "{marker}");
        let twice = changed(|content| {
            let at = at(content, Marker::CHAIN);
            let rule = content.chains[at].rules[0].clone();
            content.chains[at].rules.push(rule);
        });
        assert!(twice.contains("kuma_mesh_marker has 2 rules, expected 1"), "{twice}");
        let mut half = installed();
        half.v6 = None;
        assert!(matches!(half.integrity(), Integrity::Changed(list) if list[0].contains("other family was removed")));
    }

    #[test]
    fn hostile_dumps_are_survived() {
        let native = Native::of(&crate::policy::plan(&Config::default(), &Facts::capable_host(Uid::SIDECAR)).unwrap());
        let mut batch = Batch::new(None);
        native.tables().for_each(|table| batch.add(table.family, &KernelTable::of(table)));
        let bytes = batch.commit().bytes().to_vec();
        assert_eq!(Dump::decode(&bytes).unwrap().integrity(), Integrity::Intact);
        arbtest(|u| {
            let mut bytes = bytes.clone();
            for _ in 0..u.int_in_range(1..=8)? {
                let at = u.choose_index(bytes.len())?;
                bytes[at] = u.arbitrary()?;
            }
            if let Ok(dump) = Dump::decode(&bytes) {
                dump.integrity();
            }
            Ok(())
        });
    }
}

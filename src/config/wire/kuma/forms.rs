//! Who reads which key, and as what.

use super::items::Items;
use super::style::{Quotes, Style, plain, switch};
use super::{FormFinding, KumaProgram};
use crate::config::Config;
use crate::config::wire::node::Node;

/// The type that a program decodes a value into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Switch,
    FamilyMode,
    /// One port, from 1.
    Port,
    /// A list, or a text with commas.
    Ports,
    Number,
    Duration,
    Text,
    /// The path of the file with the name servers.
    NameServers,
    Texts(Items),
    /// None: the key is of kumatp alone, or of Kuma 2.9.
    Unknown(&'static str),
    /// None, and here it is without effect too.
    Unneeded,
}

/// A key of a document, as Kuma's programs read it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    path: &'static str,
    by_kuma_dp: bool,
    kind: Type,
}

const OURS: &str = "the key is kumatp's own, and Kuma's programs pass over it";
const OF_2_9: &str = "Kuma 3 has no eBPF mode and passes over the key";

const fn both(path: &'static str, kind: Type) -> Form {
    Form { path, by_kuma_dp: true, kind }
}

const fn kumactl(path: &'static str, kind: Type) -> Form {
    Form { path, by_kuma_dp: false, kind }
}

/// Every key of a document. kuma-dp decodes what it needs to listen where the rules redirect to, kumactl the whole
/// (kumahq/kuma, `pkg/transparentproxy/config`, of version 3).
const FORMS: &[Form] = &[
    both("ipFamilyMode", Type::FamilyMode),
    both("redirect.inbound.enabled", Type::Switch),
    both("redirect.inbound.port", Type::Port),
    both("redirect.outbound.enabled", Type::Switch),
    both("redirect.outbound.port", Type::Port),
    both("redirect.dns.enabled", Type::Switch),
    both("redirect.dns.port", Type::Port),
    both("redirect.vnet.networks", Type::Texts(Items::Networks)),
    kumactl("kumaDPUser", Type::Text),
    kumactl("redirect.inbound.includePorts", Type::Ports),
    kumactl("redirect.inbound.excludePorts", Type::Ports),
    kumactl("redirect.inbound.excludePortsForIPs", Type::Texts(Items::Addresses)),
    kumactl("redirect.inbound.excludePortsForUIDs", Type::Texts(Items::Uids)),
    kumactl("redirect.inbound.insertRedirectInsteadOfAppend", Type::Switch),
    kumactl("redirect.outbound.includePorts", Type::Ports),
    kumactl("redirect.outbound.includeIPs", Type::Unknown(OURS)),
    kumactl("redirect.outbound.excludePorts", Type::Ports),
    kumactl("redirect.outbound.excludePortsForIPs", Type::Texts(Items::Addresses)),
    kumactl("redirect.outbound.excludePortsForUIDs", Type::Texts(Items::Uids)),
    kumactl("redirect.outbound.excludePortsForGIDs", Type::Unknown(OURS)),
    kumactl("redirect.outbound.insertRedirectInsteadOfAppend", Type::Switch),
    kumactl("redirect.dns.captureAll", Type::Switch),
    kumactl("redirect.dns.skipConntrackZoneSplit", Type::Switch),
    kumactl("redirect.dns.resolvConfigPath", Type::NameServers),
    kumactl("dropInvalidPackets", Type::Switch),
    kumactl("harden", Type::Unknown(OURS)),
    kumactl("storeFirewalld", Type::Switch),
    kumactl("verbose", Type::Switch),
    kumactl("dryRun", Type::Switch),
    kumactl("cniMode", Type::Switch),
    kumactl("log.enabled", Type::Switch),
    kumactl("log.level", Type::Number),
    kumactl("wait", Type::Number),
    kumactl("waitInterval", Type::Number),
    kumactl("retry.maxRetries", Type::Number),
    kumactl("retry.sleepBetweenRetries", Type::Duration),
    kumactl("comments.disabled", Type::Switch),
    kumactl("iptablesExecutables.iptables", Type::Text),
    kumactl("iptablesExecutables.iptables-save", Type::Text),
    kumactl("iptablesExecutables.iptables-restore", Type::Text),
    kumactl("iptablesExecutables.ip6tables", Type::Text),
    kumactl("iptablesExecutables.ip6tables-save", Type::Text),
    kumactl("iptablesExecutables.ip6tables-restore", Type::Text),
    kumactl("ebpf.enabled", Type::Unknown(OF_2_9)),
    // Without effect unless the switch is on, which is told.
    kumactl("ebpf.bpffsPath", Type::Unneeded),
    kumactl("ebpf.cgroupPath", Type::Unneeded),
    kumactl("ebpf.instanceIP", Type::Unneeded),
    kumactl("ebpf.instanceIPEnvVarName", Type::Unneeded),
    kumactl("ebpf.programsSourcePath", Type::Unneeded),
    kumactl("ebpf.tcAttachIface", Type::Unneeded),
];

/// The form of a key.
pub(super) fn of(path: &str) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.path == path)
}

#[cfg(test)]
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    FORMS.iter().map(|form| form.path)
}

const NO_QUOTES: &str = "a number without quotes";
const NO_VALUE: &str = "a value, or the key left out";
const A_LIST: &str = "a list, such as [a, b]";

impl Form {
    pub(super) fn programs(&self) -> &'static [KumaProgram] {
        match self.by_kuma_dp {
            true => &KumaProgram::ALL,
            false => &[KumaProgram::Kumactl],
        }
    }

    /// What the programs that read the key have against a value that is valid here.
    pub(super) fn look(&self, node: &Node, style: &Style<'_>, config: &Config) -> Vec<FormFinding> {
        match self.kind {
            Type::Switch => on_or_off(node, style).into_iter().collect(),
            Type::FamilyMode => family_mode(node).into_iter().collect(),
            Type::Port => port(node, style).into_iter().collect(),
            Type::Ports => ports(node, style),
            Type::Number => number(node, style).into_iter().collect(),
            Type::Duration => duration(node, style).into_iter().collect(),
            Type::Text => text(node, style).into_iter().collect(),
            Type::NameServers => name_servers(node, style, config).into_iter().collect(),
            Type::Texts(items) => texts(node, style, items),
            Type::Unknown(reason) => unknown(node, reason).into_iter().collect(),
            Type::Unneeded => Vec::new(),
        }
    }
}

fn on_or_off(node: &Node, style: &Style<'_>) -> Option<FormFinding> {
    const EXPECTED: &str = "true or false without quotes";
    let Node::Text(word) = node else { return None };
    match (switch(word), style.quotes(word)) {
        (Some(_), Quotes::No) => None,
        (Some(_), Quotes::Maybe) => {
            Some(FormFinding::refused(word, format!("{EXPECTED}, if this is the one in quotes")))
        }
        _ => Some(FormFinding::refused(word, EXPECTED)),
    }
}

fn family_mode(node: &Node) -> Option<FormFinding> {
    let Node::Text(mode) = node else { return None };
    match mode.to_ascii_lowercase().as_str() {
        "required" => Some(FormFinding::refused(mode, "'dualstack' or 'ipv4'; 'required' is kumatp's own")),
        "ipv4" if mode != "ipv4" => Some(FormFinding::otherwise(
            mode,
            "they compare it with 'ipv4' letter by letter, and so take it for 'dualstack'",
        )),
        "" | "dualstack" | "ipv4" => None,
        _ => Some(FormFinding::refused(mode, "'dualstack' or 'ipv4' without blanks")),
    }
}

fn port(node: &Node, style: &Style<'_>) -> Option<FormFinding> {
    match node {
        Node::Null => Some(FormFinding::refused(node.quoted(), NO_VALUE)),
        _ if node.scalar().is_some_and(|text| text.trim().parse() == Ok(0u32)) => {
            Some(FormFinding::refused(node.quoted(), "a port from 1, also where nothing is redirected to it"))
        }
        _ => number(node, style),
    }
}

fn number(node: &Node, style: &Style<'_>) -> Option<FormFinding> {
    let Node::Text(text) = node else { return None };
    let plain = plain(text).filter(|_| style.quotes(text) != Quotes::Yes);
    match plain {
        // A number after all; whether it is the same one is what counts.
        Some(number) if same(text, &number) => None,
        Some(number) => Some(FormFinding::otherwise(text, octal(&number))),
        None => Some(FormFinding::refused(text, NO_QUOTES)),
    }
}

/// Whether two texts are the same number in decimal.
fn same(text: &str, number: &str) -> bool {
    text.trim().parse::<u64>().ok() == number.parse().ok()
}

fn octal(number: &str) -> String {
    format!("with a zero in front it is the octal number for {number}")
}

fn ports(node: &Node, style: &Style<'_>) -> Vec<FormFinding> {
    let one = |index, node: &Node| {
        let text = node.scalar().unwrap_or_default();
        if let (Node::Text(_), Some(number)) = (node, plain(text)) {
            return (!same(text, &number) && style.quotes(text) != Quotes::Yes)
                .then(|| FormFinding::otherwise(text, octal(&number)).at(index))
                .into_iter()
                .collect();
        }
        let ranges = text.split(',').filter(|item| item.contains(['-', ':']));
        ranges.map(|range| FormFinding::refused(range.trim(), "single ports, one by one").at(index)).collect::<Vec<_>>()
    };
    match node {
        Node::Null => vec![FormFinding::refused(node.quoted(), NO_VALUE)],
        Node::List(items) => items.iter().enumerate().flat_map(|(index, item)| one(Some(index), item)).collect(),
        node => one(None, node),
    }
}

fn duration(node: &Node, style: &Style<'_>) -> Option<FormFinding> {
    const EXPECTED: &str =
        "a duration with a unit and without blanks, such as 2s, or a number of nanoseconds without quotes";
    match node {
        Node::Null => Some(FormFinding::refused(node.quoted(), NO_VALUE)),
        Node::Text(text) if text.contains(|c: char| c.is_whitespace() || c == '"') => {
            Some(FormFinding::refused(text, EXPECTED))
        }
        Node::Text(text) if text.trim_start_matches('+') == "0" => None,
        Node::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'+') => number(node, style)
            .map(|found| FormFinding { reason: if found.refused { EXPECTED.into() } else { found.reason }, ..found }),
        _ => None,
    }
}

fn text(node: &Node, style: &Style<'_>) -> Option<FormFinding> {
    let Node::Text(text) = node else { return None };
    let plain = plain(text).filter(|_| style.quotes(text) != Quotes::Yes)?;
    Some(FormFinding::otherwise(text, format!("without quotes it is '{plain}'")))
}

fn name_servers(node: &Node, style: &Style<'_>, config: &Config) -> Option<FormFinding> {
    let dns = &config.redirect.dns;
    match node {
        Node::Text(path) if path.is_empty() && dns.enabled && !dns.capture_all => {
            Some(FormFinding::refused("", "a path, or the key left out"))
        }
        node => text(node, style),
    }
}

fn texts(node: &Node, style: &Style<'_>, kind: Items) -> Vec<FormFinding> {
    match node {
        Node::Null => Vec::new(),
        Node::List(items) => {
            let as_given: Vec<_> = items.iter().enumerate().map(|(index, item)| (Some(index), item)).collect();
            let plain = as_given.iter().filter_map(|(index, item)| Some(text(item, style)?.at(*index)));
            let texts: Vec<_> = as_given.iter().filter_map(|(index, item)| Some((*index, item.scalar()?))).collect();
            plain.chain(kind.look(&texts)).collect()
        }
        node => {
            let mut found = vec![FormFinding::refused(node.quoted(), A_LIST)];
            found.extend(
                kind.look(
                    &node
                        .scalar()
                        .map(|text| (None, text))
                        .filter(|(_, text)| !text.is_empty())
                        .into_iter()
                        .collect::<Vec<_>>(),
                ),
            );
            found
        }
    }
}

fn unknown(node: &Node, reason: &str) -> Option<FormFinding> {
    let is_off = match node {
        Node::Bool(on) => !on,
        Node::Text(word) => word.eq_ignore_ascii_case("false") || switch(&word.to_ascii_lowercase()) == Some(false),
        _ => false,
    };
    (!is_off && !node.says_nothing()).then(|| FormFinding::otherwise(node.quoted(), reason))
}

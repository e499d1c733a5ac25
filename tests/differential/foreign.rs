//! Rules of others beside ours, in the tables filter, mangle and security: the simulator, told of all that is in force, agrees with
//! what packets do, or says that it does not know.

use arbitrary::{Result, Unstructured};
use kumatp::engine;
use kumatp::net::{FamilyName, InterfaceName};
use kumatp::simulate::{Explanation, Simulator, Verdict};

use crate::trial::{Bench, Tally, Trial};

/// The chains in which others have rules.
const CHAINS: [(&str, &[&str]); 3] = [
    ("mangle", &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
    ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
    ("security", &["INPUT", "FORWARD", "OUTPUT"]),
];

/// Rules of a family, by table.
pub(crate) type Rules = Vec<(&'static str, Vec<String>)>;

/// A few rules.
pub(crate) fn any(u: &mut Unstructured<'_>, family: FamilyName, ports: &[u16]) -> Result<Rules> {
    let mut tables = Vec::new();
    for (table, chains) in CHAINS {
        let mut rules = Vec::new();
        for _ in 0..u.int_in_range(0..=3)? {
            rules.push(format!("{} {}", u.choose(chains)?, rule(u, family, ports)?));
        }
        tables.push((table, rules));
    }
    Ok(tables)
}

fn rule(u: &mut Unstructured<'_>, family: FamilyName, ports: &[u16]) -> Result<String> {
    let addresses = match family {
        FamilyName::V4 => {
            ["127.0.0.1/32", "10.77.0.1/32", "10.77.0.0/24", "203.0.113.0/24", "172.20.0.0/16", "127.0.0.0/8"]
        }
        FamilyName::V6 => ["::1/128", "fd77::1/128", "fd77::/64", "2001:db8::/32", "fd20::/64", "::6/128"],
    };
    let mut words = String::new();
    for option in ["-s", "-d"] {
        if u.ratio(1, 3)? {
            let not = if u.ratio(1, 4)? { "! " } else { "" };
            words += &format!("{not}{option} {} ", u.choose(&addresses)?);
        }
    }
    let protocol = u.choose(&["tcp", "udp"])?;
    words += &format!("-p {protocol} ");
    if u.ratio(1, 2)? {
        words += &format!("-m {protocol} --{} {} ", u.choose(&["dport", "sport"])?, u.choose(ports)?);
    }
    if u.ratio(1, 4)? {
        words += &format!("-m conntrack --ctstate {} ", u.choose(&["NEW", "ESTABLISHED", "DNAT", "NEW,ESTABLISHED"])?);
    }
    if u.ratio(1, 8)? {
        // Nothing that is known here.
        words += if family == FamilyName::V4 { "-m ttl --ttl-gt 3 " } else { "-m hl --hl-gt 3 " };
    }
    Ok(words + "-j " + u.choose(&["DROP", "DROP", "DROP", "ACCEPT", "RETURN"])?)
}

/// As iptables-restore takes it, by this command for each rule.
pub(crate) fn text(rules: &Rules, command: &str) -> String {
    let table = |(table, rules): &(&str, Vec<String>)| {
        let lines: String = rules.iter().map(|rule| format!("{command} {rule}\n")).collect();
        format!("*{table}\n{lines}COMMIT\n")
    };
    rules.iter().map(table).collect()
}

impl Bench<'_> {
    /// Sends the packets of a trial with rules of others beside those of its plan, which are in force.
    pub(crate) fn run_beside_others(&mut self, trial: &Trial, u: &mut Unstructured<'_>, tally: &mut Tally) {
        let redirect = &trial.config.redirect;
        let mut ports = vec![53, 80, 443, 8080];
        ports.extend([redirect.inbound.port, redirect.outbound.port, redirect.dns.port].map(|port| port.number()));
        let families = [FamilyName::V4, FamilyName::V6].map(|family| {
            let rules = any(u, family, &ports).expect("there are enough bytes");
            (family, rules)
        });
        for (family, rules) in &families {
            self.restore(*family, &text(rules, "-A"));
        }
        self.forget();
        let installed = engine::installed(None).expect("what is installed can be read");
        let simulator = Simulator::of_installed(&installed).expect("it can be simulated");
        let simulator = simulator.with_loopback(InterfaceName::lo()).with_sidecar(trial.facts.sidecar_uid);
        let explain = |packet: &_| simulator.explain(packet);
        let title = families.each_ref().map(|(_, rules)| text(rules, "-A")).concat();
        self.compare_beside_others(trial, &title, &explain, tally);
        for (family, rules) in &families {
            self.restore(*family, &text(rules, "-D"));
        }
    }
}

/// Whether what becomes of the packet, or of the answer to it, is left open.
pub(crate) fn is_undecided(explanation: &Explanation<'_>) -> bool {
    let reply = explanation.reply.as_ref().map(|reply| &reply.outcome.verdict);
    [Some(&explanation.request.verdict), reply]
        .into_iter()
        .flatten()
        .any(|verdict| matches!(verdict, Verdict::Undecided { .. }))
}

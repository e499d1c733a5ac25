//! Sentences that an engine and the fake of it both say.

use std::path::Path;

use crate::error::{Error, counted};
use crate::model::{Comment, EngineName, Note};
use crate::net::FamilyName;
use crate::nftables::{Marker, table_name};

/// The steps about the sidecar's own IPv6 address.
pub(crate) const ADDED_ADDRESS: &str = "added ::6/128 to the loopback interface";
pub(crate) const REMOVED_ADDRESS: &str = "removed ::6/128 from the loopback interface";
pub(crate) const WOULD_REMOVE_ADDRESS: &str = "would remove ::6/128 from the loopback interface";

/// That the address is gone.
pub(crate) const MISSING_ADDRESS: &str = "::6/128 is missing from the loopback interface, so the sidecar cannot reach the application over IPv6; install again";

/// What the engine ebpf has installed, and the steps about it.
pub(crate) const PROGRAMS: &str = "the eBPF programs";
pub(crate) const INSTALLED_PROGRAMS: &str = "installed the eBPF programs";
pub(crate) const REPLACED_PROGRAMS: &str = "replaced the eBPF programs";

/// That what the programs are told is not what the plan asks for.
pub(crate) const OTHER_PROGRAMS: &str = "it was installed from a different configuration, or by another kumatp version";

/// That there are rules for the programs of both modes.
pub(crate) const BOTH_MODES: &str = "both iptables-nft and iptables-legacy have rules; iptables-nft is used";

/// The tables of some families, as text.
pub(crate) fn tables(families: &[FamilyName]) -> String {
    let noun = if families.len() == 1 { "the table" } else { "the tables" };
    format!("{noun} {}", families.iter().copied().map(table_name).collect::<Vec<_>>().join(" and "))
}

/// That somebody else has tables of our name.
pub(crate) fn not_ours(families: &[FamilyName]) -> Error {
    Error::Conflict {
        problem: not_installed_by_us(families),
        remedy: "rename it, or remove it with 'nft delete table', if nobody needs it".to_owned(),
    }
}

/// The same, without what to do about it.
pub(crate) fn not_installed_by_us(families: &[FamilyName]) -> String {
    let (verb, it) = if families.len() == 1 { ("was", "it has") } else { ("were", "they have") };
    format!(
        "{} {verb} not installed by kumatp or another program of Kuma: {it} neither a chain {} nor a rule whose comment begins with \
         {}",
        tables(families),
        Marker::CHAIN,
        Comment::PREFIX
    )
}

/// Our rules in a table of iptables, as text.
pub(crate) fn in_table(rules: usize, chains: usize, table: &str) -> String {
    format!("{} and {} of the table {table}", counted(rules, "rule"), counted(chains, "chain"))
}

/// That nf_tables may not be looked at or changed.
pub(crate) fn not_permitted() -> Error {
    Error::Permission {
        action: "read or change the network namespace's nf_tables rules".to_owned(),
        needed: "CAP_NET_ADMIN in the user namespace that owns the network namespace".to_owned(),
    }
}

/// That iptables programs may not look at rules or change them, in their words.
pub(crate) fn denied(what: &str, program: &Path, message: &str) -> Error {
    Error::Permission {
        action: format!("{what} with {}: {message}", program.display()),
        needed: "root with the capabilities CAP_NET_ADMIN and CAP_NET_RAW".into(),
    }
}

/// That iptables-legacy programs cannot make the file of their lock, in their words.
pub(crate) fn no_lock_file(restore: &Path, message: &str) -> Error {
    Error::Unsupported {
        what: format!("{} without its lock file ({message})", restore.display()),
        remedy:
            "name a file that can be written with the environment variable XTABLES_LOCKFILE, or use the netlink engine"
                .to_owned(),
    }
}

/// That the kernel refused rules among which some name a user.
pub(crate) fn owner_refused(error: Error) -> Error {
    let unsupported = Error::Unsupported {
        what: format!("iptables rules that name a user ({error})"),
        remedy: "the kernel refuses them in a network namespace that belongs to another user namespace, and users without a \
                 number in that user namespace; use the netlink engine, which has no such limit"
            .to_owned(),
    };
    unsupported.because(error)
}

/// That an installation is where netlink does not reach.
pub(crate) fn legacy(family: FamilyName) -> String {
    format!("an older installation has {family} rules in tables of iptables-legacy")
}

/// What netlink has to say, before an installation, about families with [`legacy`] rules.
pub(crate) fn legacy_problem(families: &[FamilyName]) -> Option<String> {
    let problems: Vec<_> = families.iter().copied().map(legacy).collect();
    (!problems.is_empty()).then(|| format!("{}, which only the iptables programs can remove", problems.join(" and ")))
}

/// What to do about a [`legacy_problem`].
pub(crate) fn legacy_conflict(problem: String) -> Error {
    Error::Conflict { problem, remedy: "uninstall it with the iptables engine first".to_owned() }
}

/// That rules stay active because nothing can remove them.
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) fn legacy_stays(families: &[FamilyName]) -> Error {
    let families: Vec<_> = families.iter().map(ToString::to_string).collect();
    Error::Conflict {
        problem: format!(
            "an installation has {} rules in tables of iptables-legacy, and they are still active",
            families.join(" and ")
        ),
        remedy: "uninstall as root where the iptables-legacy programs are".to_owned(),
    }
}

/// What netlink has to say, after an uninstallation, about what stays.
pub(crate) fn stays(what: &str) -> String {
    format!("{what}; only the iptables engine can remove them")
}

/// The rules of an older iptables-nft installation in a chain, as text.
pub(crate) fn leftover(family: FamilyName, table: &str, chain: &str) -> String {
    let ip = if family == FamilyName::V4 { "ip" } else { "ip6" };
    format!("what an older installation left in the chain {chain} of the table {ip} {table}")
}

/// That others use what netlink is to remove.
pub(crate) fn in_use(what: &str) -> Error {
    Error::Conflict {
        problem: format!("other rules still jump to {what}"),
        remedy: "remove them first (iptables-nft-save shows them)".to_owned(),
    }
}

/// That others use chains that iptables programs are to remove. The rules are options of `program`.
pub(crate) fn in_the_way(program: &Path, rules: &[String]) -> Error {
    let rules: Vec<_> = rules.iter().map(|rule| format!("'{} {rule}'", program.display())).collect();
    Error::Conflict {
        problem: format!("other rules still jump to chains that would be removed: {}", rules.join(", ")),
        remedy: "remove them first".into(),
    }
}

/// That an installation by iptables is in force beside an older one.
pub(crate) fn not_removed(error: &Error) -> Error {
    let conflict = Error::Conflict {
        problem: "the new rules are active, but an older installation could not be removed".into(),
        remedy: "remove it, or uninstall and install again".into(),
    };
    let errors = match error {
        Error::Several(errors) => errors.clone(),
        error => vec![error.clone()],
    };
    Error::Several([vec![conflict.because(error.clone())], errors].concat())
}

/// That a plan has IPv6 rules and there are no programs for them.
pub(crate) fn no_ip6tables(problem: &str) -> Error {
    Error::Unsupported {
        what: format!("IPv6 in the iptables engine on this host ({problem})"),
        remedy: "install ip6tables, name its programs (--iptables-executables), or set ipFamilyMode to 'ipv4'".into(),
    }
}

/// What an installation by iptables did to a family. `restore` is the program, `mode` its mode.
pub(crate) fn loaded(fresh: bool, family: FamilyName, restore: &Path, mode: impl std::fmt::Display) -> String {
    let verb = if fresh { "installed" } else { "replaced" };
    format!("{verb} the {family} rules with {} ({mode})", restore.display())
}

/// The rules without comments that installations by iptables have noted down, as text.
pub(crate) fn unmarked(rules: usize) -> String {
    format!(
        "an older iptables installation has {} without comments in built-in chains of iptables",
        counted(rules, "rule")
    )
}

/// That an installation by another engine is in force beside what is left to the programs of iptables.
pub(crate) fn still_active(left: &[String]) -> Error {
    Error::Conflict {
        problem: format!("the new rules are active, and so is an older installation ({})", left.join(", ")),
        remedy: "uninstall it with the iptables engine".into(),
    }
}

/// What goes past the sidecar where IPv6 is left alone on purpose.
pub(crate) fn left_open(open: &str) -> String {
    format!(
        "IPv6 is left alone, as the mode is 'ipv4': {open}; set it to 'dualstack', or switch IPv6 off (net.ipv6.conf.all.disable_ipv6=1)"
    )
}

/// What a note on `::6` is about.
const LOOPBACK: &str = "loopback";

const STAYS: &str = "::6/128 stays on the loopback interface";

/// That the address stays for what an engine has installed.
pub(crate) fn address_stays_for(engine: EngineName) -> Note {
    Note::info(LOOPBACK, format!("{STAYS}: what the engine {engine} has installed needs it"))
}

/// That it stays as nobody knows whether something needs it.
pub(crate) fn address_may_be_needed(why: &str) -> Note {
    Note::warning(LOOPBACK, format!("{STAYS}, as what may be installed besides may need it: {why}"))
}

/// That this build has no engine ebpf.
pub(crate) fn without_ebpf() -> Error {
    Error::Unsupported {
        what: "the engine ebpf in this build".to_owned(),
        remedy: "use one with the feature ebpf".to_owned(),
    }
}

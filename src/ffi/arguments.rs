//! Arguments of calls: numbers of engines, flags, paths, and what a build lacks for them.

use super::boundary::Text;
use super::status::kumatp_error;
#[cfg(not(all(
    feature = "yaml",
    feature = "firewalld",
    feature = "host",
    feature = "ebpf",
    target_os = "linux"
)))]
use crate::error::Error;
use crate::model::EngineName;

/// The engine that talks to the kernel's nf_tables, without any program. Needs CAP_NET_ADMIN. Since 0.1.
pub const KUMATP_ENGINE_NETLINK: u32 = 1;
/// The engine that runs the distribution's iptables programs; the others do so with KUMATP_APPLY_REPLACE_LEGACY only. Needs root.
/// Since 0.1.
pub const KUMATP_ENGINE_IPTABLES: u32 = 2;
/// The engine that steers sockets by eBPF programs, in libraries that were built with the feature "ebpf"; others answer
/// KUMATP_E_UNSUPPORTED. Where it pins them and which cgroup it deals with is up to the configuration ("ebpf": {"bpffsPath",
/// "cgroupPath"}); "ebpf.enabled" alone chooses no engine here. Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or CAP_SYS_ADMIN,
/// and Linux 5.10 or later with cgroup2. Since 0.1.
pub const KUMATP_ENGINE_EBPF: u32 = 4;
/// Every engine that the library has, where several are allowed: whatever is installed, by whichever. Since 0.1.
pub const KUMATP_ENGINE_ALL: u32 = 0xffff_ffff;

const ENGINES: [(u32, EngineName); 3] = [
    (KUMATP_ENGINE_NETLINK, EngineName::Netlink),
    (KUMATP_ENGINE_IPTABLES, EngineName::Iptables),
    (KUMATP_ENGINE_EBPF, EngineName::Ebpf),
];

/// The engine of a number.
pub(super) fn one_engine(number: u32) -> Result<EngineName, kumatp_error> {
    let found = ENGINES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
    found.ok_or_else(|| {
        let problem = format!(
            "expected KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES or KUMATP_ENGINE_EBPF, and was given {number}"
        );
        kumatp_error::argument("engine", &problem)
    })
}

/// The engine of a number, or none for all of them.
pub(super) fn one_or_all(number: u32) -> Result<Option<EngineName>, kumatp_error> {
    let all = ENGINES.iter().fold(0, |sum, (number, _)| sum | number);
    match ENGINES.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => Ok(Some(*name)),
        // Those that there were first are still a way to say all.
        None if [KUMATP_ENGINE_ALL, all, KUMATP_ENGINE_NETLINK | KUMATP_ENGINE_IPTABLES].contains(&number) => Ok(None),
        None => {
            let problem = format!("expected KUMATP_ENGINE_ALL or one of KUMATP_ENGINE_*, and was given {number}");
            Err(kumatp_error::argument("engines", &problem))
        }
    }
}

/// The number of an engine.
pub(super) fn number_of(name: EngineName) -> u32 {
    ENGINES.iter().find(|(_, known)| *known == name).map_or(0, |(number, _)| *number)
}

/// Flags that this version does not know may mean something to a later one, so they are refused.
pub(super) fn known_flags(given: u32, known: u32) -> Result<(), kumatp_error> {
    match given & !known {
        0 => Ok(()),
        unknown => Err(kumatp_error::argument(
            "flags",
            &format!("{unknown:#x} is not known; expected 0 or flags within {known:#x}"),
        )),
    }
}

/// A path, or the one that an empty text stands for.
pub(super) fn text_path<'a>(path: Text<'a>, default: &'a str) -> Result<&'a str, kumatp_error> {
    let name = path.name();
    match path.utf8()? {
        "" => Ok(default),
        path if path.contains('\0') => Err(kumatp_error::argument(name, "a path has no NUL in it")),
        path => Ok(path),
    }
}

/// What a build without a feature says.
#[cfg(not(all(feature = "yaml", feature = "firewalld", feature = "host", feature = "ebpf", target_os = "linux")))]
pub(super) fn not_built_in(what: &str, feature: &str) -> Error {
    Error::Unsupported {
        what: format!("{what} by this build of libkumatp"),
        remedy: format!("use one that was built with the feature '{feature}'"),
    }
}

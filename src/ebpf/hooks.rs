//! Where the programs are attached, and what it means if one is refused.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::cgroup::Cgroup;
use super::object::{self, Map, Refused};
use super::sys;
use super::table::PROGRAMS;
use crate::error::Error;

/// A place in the kernel that calls a program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// The function in C.
    pub(super) program: &'static str,
    /// The name of the loaded program, which has up to 15 bytes.
    pub(super) name: &'static str,
    /// As the kernel's documentation calls it.
    pub(super) title: &'static str,
    /// The first release of Linux that has it.
    since: &'static str,
    /// `BPF_PROG_TYPE_…` and the attach type of linux/bpf.h.
    kind: u32,
    attach_type: u32,
}

const SOCK_ADDR: u32 = 18;
const SK_LOOKUP: u32 = 36;

/// All, those at the cgroup first.
pub(super) const HOOKS: [Hook; 11] = [
    hook("sockops", "kuma_sockops", "sockops", "4.13", 13, 3),
    hook("getsockopt", "kuma_getsockopt", "cgroup/getsockopt", "5.3", 25, 21),
    hook("getpeername4", "kuma_peername4", "cgroup/getpeername4", "5.8", SOCK_ADDR, 29),
    hook("getpeername6", "kuma_peername6", "cgroup/getpeername6", "5.8", SOCK_ADDR, 30),
    hook("recvmsg4", "kuma_recvmsg4", "cgroup/recvmsg4", "5.2", SOCK_ADDR, 19),
    hook("recvmsg6", "kuma_recvmsg6", "cgroup/recvmsg6", "5.2", SOCK_ADDR, 20),
    hook("sendmsg4", "kuma_sendmsg4", "cgroup/sendmsg4", "4.18", SOCK_ADDR, 14),
    hook("sendmsg6", "kuma_sendmsg6", "cgroup/sendmsg6", "4.18", SOCK_ADDR, 15),
    hook("connect4", "kuma_connect4", "cgroup/connect4", "4.17", SOCK_ADDR, 10),
    hook("connect6", "kuma_connect6", "cgroup/connect6", "4.17", SOCK_ADDR, 11),
    hook("sk_lookup", "kuma_sk_lookup", "sk_lookup", "5.9", 30, SK_LOOKUP),
];

const fn hook(
    program: &'static str,
    name: &'static str,
    title: &'static str,
    since: &'static str,
    kind: u32,
    attach_type: u32,
) -> Hook {
    Hook { program, name, title, since, kind, attach_type }
}

impl Hook {
    /// Whether it is one of network namespaces, and not of cgroups.
    pub(super) fn is_of_netns(&self) -> bool {
        self.attach_type == SK_LOOKUP
    }

    /// The name of its link in the directory of a generation.
    pub(super) fn link(&self) -> String {
        format!("link_{}", self.program)
    }

    /// Loads its program.
    pub(super) fn load(&self, maps: &[Map]) -> Result<OwnedFd, Refused> {
        let missing = Refused { errno: Errno::ENOENT, log: String::new() };
        let code = PROGRAMS.iter().find(|program| program.name == self.program).ok_or(missing)?;
        object::load(code, self.kind, self.attach_type, maps, self.name)
    }

    /// Attaches its program.
    pub(super) fn attach(&self, program: impl AsFd, cgroup: &Cgroup, netns: impl AsFd) -> Result<OwnedFd, Error> {
        let link = match self.is_of_netns() {
            true => sys::link_create(program, netns, self.attach_type),
            false => sys::link_create(program, &cgroup.file, self.attach_type),
        };
        link.map_err(|errno| match errno {
            Errno::EPERM => self.exclusive(cgroup).unwrap_or_else(|| permission(&format!("attach to {}", self.title))),
            Errno::EINVAL | Errno::EOPNOTSUPP => self.unsupported("it cannot be attached by a link"),
            Errno::E2BIG => Error::Conflict {
                problem: format!("as many programs as there can be are attached to {} already", self.title),
                remedy: "remove one of them ('bpftool net', 'bpftool cgroup tree')".into(),
            },
            _ => Error::io(format!("attach to {}", self.title), &errno.into()),
        })
    }

    /// That a program which was attached to be the only one is in the way, and which.
    fn exclusive(&self, cgroup: &Cgroup) -> Option<Error> {
        let (around, id) = cgroup.and_around().into_iter().find_map(|around| {
            match sys::query(&around.file, self.attach_type).ok()? {
                (0, programs) => Some((around, *programs.first()?)),
                _ => None,
            }
        })?;
        let name = name_of(id).unwrap_or_default();
        Some(Error::Conflict {
            problem: format!(
                "the program '{name}' ({id}) is attached to {} of the cgroup {} so that no other can be",
                self.title,
                around.path.display()
            ),
            remedy: "remove it ('bpftool cgroup detach'), have it attached with 'multi', or name a cgroup outside (--ebpf-cgroup-path)".into(),
        })
    }

    /// What it means that its program was not loaded.
    pub(super) fn refused(&self, refused: &Refused) -> Error {
        match refused.errno {
            Errno::EPERM => permission(&format!("load the program for {}", self.title)),
            // The verifier is stricter with who may not see addresses of the kernel, and some of them make no sense of what
            // they add themselves to keep loads from being speculated on.
            Errno::EACCES | Errno::E2BIG | Errno::EFAULT if missing().contains(&"CAP_PERFMON") => {
                permission(&format!("load the program for {}", self.title))
            }
            // Nothing was said of the program: the kernel does not know the hook.
            Errno::EINVAL if refused.log.is_empty() => self.unsupported("it has no such hook"),
            Errno::EINVAL | Errno::EACCES => self.unsupported(&refused.log),
            errno => Error::io(format!("load the program for {}", self.title), &errno.into()),
        }
    }

    fn unsupported(&self, said: &str) -> Error {
        Error::Unsupported {
            what: format!("the program for {} in this kernel ({said})", self.title),
            remedy: format!(
                "use Linux 5.10 or later ({} is there since {}), or the engine netlink",
                self.title, self.since
            ),
        }
    }

    /// The programs that are attached: numbers and names, as far as the caller may see those. Those that are gone are not
    /// among them.
    pub(super) fn attached(&self, target: impl AsFd) -> Result<Vec<(u32, Option<String>)>, Errno> {
        let (_, ids) = sys::query(target, self.attach_type)?;
        let name = |id: u32| match name_of(id) {
            Err(Errno::ENOENT) => None,
            name => Some((id, name.ok())),
        };
        Ok(ids.into_iter().filter_map(name).collect())
    }

    /// Whether its program may change where a connection or query goes.
    fn steers(&self) -> bool {
        ["connect", "sendmsg", "sk_lookup"].iter().any(|start| self.program.starts_with(start))
    }
}

/// Programs of other programs which may change where connections and queries go, as a socket load balancer's do, as text. Those of
/// cgroups inside this one are not looked for.
pub(super) fn others(cgroup: &Cgroup, netns: impl AsFd) -> Vec<String> {
    let (of_netns, of_cgroup): (Vec<_>, Vec<_>) =
        HOOKS.iter().filter(|hook| hook.steers()).partition(|hook| hook.is_of_netns());
    let others = |hook: &Hook, target: &dyn AsFd, what: &str| -> Vec<String> {
        // Who could attach programs may see those of other programs.
        let programs = hook.attached(target.as_fd()).unwrap_or_default().into_iter();
        let named = programs.map(|(id, name)| (id, name.unwrap_or_default()));
        let others = named.filter(|(_, name)| !name.starts_with(PREFIX));
        others.map(|(id, name)| format!("'{name}' ({id}) at {} of {what}", hook.title)).collect()
    };
    let mut list: Vec<_> =
        of_netns.into_iter().flat_map(|hook| others(hook, &netns, "this network namespace")).collect();
    for around in cgroup.and_around() {
        let what = format!("the cgroup {}", around.path.display());
        list.extend(of_cgroup.iter().flat_map(|hook| others(hook, &around.file, &what)));
    }
    list
}

/// What the names of all our programs begin with.
const PREFIX: &str = "kuma_";

/// The name of a program; empty if it has none.
fn name_of(id: u32) -> Result<String, Errno> {
    sys::program_by_id(id).and_then(sys::program_info).map(|info| text(&info.name))
}

/// Whether the log says that the kernel lacks a function that programs of a kind call.
pub(super) fn lacks_function(refused: &Refused) -> bool {
    ["unknown func", "program of this type cannot use helper"].iter().any(|words| refused.log.contains(words))
}

fn text(name: &sys::Name) -> String {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// The capabilities that the calling thread lacks.
fn missing() -> Vec<&'static str> {
    // linux/capability.h
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    let has = |capability: u32| effective.is_some_and(|all| all >> capability & 1 == 1);
    let wanted = [(NET_ADMIN, "CAP_NET_ADMIN", false), (BPF, "CAP_BPF", true), (PERFMON, "CAP_PERFMON", true)];
    let lacks = |(number, name, in_admin)| (!(has(number) || in_admin && has(SYS_ADMIN))).then_some(name);
    wanted.into_iter().filter_map(lacks).collect()
}

/// That the caller may not, and which capabilities are missing.
pub(super) fn permission(action: &str) -> Error {
    let missing = missing();
    let needed = match missing.is_empty() {
        // All are there, so they are those of a user namespace, or a security module has a say.
        true => {
            "CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON in the first user namespace, and leave of security modules,".into()
        }
        false => missing.join(", "),
    };
    Error::Permission { action: action.into(), needed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_a_hook() {
        let mut hooks: Vec<_> = HOOKS.iter().map(|hook| hook.program).collect();
        hooks.sort_unstable();
        assert_eq!(hooks, PROGRAMS.each_ref().map(|program| program.name));
        assert!(HOOKS.iter().all(|hook| hook.name.len() <= 15 && hook.name.starts_with(PREFIX)));
        assert_eq!(HOOKS.iter().filter(|hook| hook.steers()).count(), 5);
    }

    #[test]
    fn refusals_name_the_hook_and_what_is_missing() {
        let refused = |errno, log: &str| HOOKS[2].refused(&Refused { errno, log: log.into() }).to_string();
        let text = refused(Errno::EINVAL, "");
        assert!(text.contains("cgroup/getpeername4") && text.contains("5.8") && text.contains("netlink"), "{text}");
        assert!(refused(Errno::EINVAL, "unknown func bpf_x#1").contains("bpf_x#1"));
        assert!(refused(Errno::EPERM, "").contains("CAP_"));
    }
}

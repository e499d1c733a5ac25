//! Where the sidecar is. The programs answer what the sidecar asks of a connection only for sockets that were made in their cgroup:
//! a sidecar in another one gets connections, learns nothing of where they wanted to go, and resets them all.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::cgroup::{Cgroup, unless_gone};
use super::table::{SETTING_INBOUND, SETTING_OUTBOUND, Settings};
use crate::error::{Error, visible};
use crate::netlink::{Listener, tracking};
use crate::netns::Here;

/// What of the sidecar is to be in the cgroup: who listens on these ports, and what runs as this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SidecarTraits {
    ports: Vec<u16>,
    uid: u32,
}

/// Where the sidecar is, as far as it can be seen.
#[derive(Debug)]
pub(super) enum Sidecar {
    /// All that listens is in the cgroup.
    Inside,
    /// Nothing of it is seen.
    NotSeen,
    /// These listeners are somewhere else.
    Outside(String),
    /// Nothing listens yet, and these processes of its user are somewhere else.
    Waiting(String),
    /// It cannot be told, for this reason.
    Unknown(String),
}

/// How many listeners or processes a message names.
const ENOUGH: usize = 3;

impl SidecarTraits {
    pub(super) fn of(settings: &Settings) -> Self {
        let ports = [(SETTING_OUTBOUND, settings.outbound_port), (SETTING_INBOUND, settings.inbound_port)];
        let ports = ports.into_iter().filter(|(flag, _)| settings.flags & flag != 0).map(|(_, port)| port);
        Self { ports: ports.collect(), uid: settings.sidecar_uid }
    }

    /// The same of what programs have been told.
    pub(super) fn of_installed(bytes: &[u8]) -> Option<Self> {
        let flags = Settings::flags(bytes)?;
        let ports =
            [(SETTING_OUTBOUND, Settings::outbound_port(bytes)?), (SETTING_INBOUND, Settings::inbound_port(bytes)?)];
        let ports = ports.into_iter().filter(|(flag, _)| flags & flag != 0).map(|(_, port)| port);
        Some(Self { ports: ports.collect(), uid: Settings::sidecar_uid(bytes)? })
    }

    /// Looks for it in the network namespace of the calling thread.
    pub(super) fn look(&self, cgroup: &Cgroup, netns: &Here) -> Sidecar {
        match tracking::listeners() {
            Err(stop) => Sidecar::Unknown(format!("the sockets cannot be listed: {}", Error::from(stop))),
            Ok(mut listeners) => {
                listeners.retain(|listener| self.ports.contains(&listener.port));
                let found = match listeners.is_empty() {
                    true => self.processes(cgroup, netns),
                    false => self::listeners(&listeners, cgroup),
                };
                found.unwrap_or_else(|error| Sidecar::Unknown(error.to_string()))
            }
        }
    }

    /// Looks at the processes of the sidecar's user in the network namespace, where nothing listens.
    fn processes(&self, cgroup: &Cgroup, netns: &Here) -> Result<Sidecar, Error> {
        let Some(processes) = processes() else {
            return Ok(Sidecar::Unknown("nothing listens on its ports, and /proc shows no processes".into()));
        };
        let (mut outside, mut hidden, mut any) = (Vec::new(), 0_usize, false);
        let mut inside = None;
        for process in processes {
            match uid(process) {
                Ok(uid) if uid == Some(self.uid) => {}
                Ok(_) => continue,
                Err(_) => {
                    hidden += 1;
                    continue;
                }
            }
            match unless_gone(std::fs::metadata(format!("/proc/{process}/ns/net"))) {
                Ok(None) => continue,
                Ok(Some(meta)) if meta.ino() != netns.inode => continue,
                Ok(Some(_)) => any = true,
                // Whether it is one of this namespace is not known.
                Err(_) => {
                    hidden += 1;
                    continue;
                }
            }
            let inside = match &inside {
                Some(threads) => threads,
                None => inside.insert(cgroup.threads()?),
            };
            if !inside.contains(&process) {
                outside.push(describe(process));
            }
        }
        Ok(match (outside.is_empty(), any, hidden) {
            (false, _, _) => Sidecar::Waiting(listed(&outside)),
            (true, true, _) => Sidecar::Inside,
            (true, false, 0) => Sidecar::NotSeen,
            (true, false, _) => Sidecar::Unknown(format!("{hidden} processes of uid {} cannot be looked at", self.uid)),
        })
    }
}

/// Looks at the cgroups that listeners were made in.
fn listeners(listeners: &[Listener], cgroup: &Cgroup) -> Result<Sidecar, Error> {
    let elsewhere: Vec<_> = listeners.iter().filter(|listener| listener.cgroup != Some(cgroup.id)).collect();
    if elsewhere.is_empty() {
        return Ok(Sidecar::Inside);
    }
    let below: HashMap<u64, PathBuf> = cgroup.and_below()?.into_iter().collect();
    let outside: Vec<_> =
        elsewhere.into_iter().filter(|listener| listener.cgroup.is_none_or(|id| !below.contains_key(&id))).collect();
    if outside.is_empty() {
        return Ok(Sidecar::Inside);
    }
    if outside.iter().all(|listener| listener.cgroup.is_none()) {
        return Ok(Sidecar::Unknown("this kernel does not tell the cgroups of sockets".into()));
    }
    let owners = owners(&outside.iter().map(|listener| listener.inode).collect());
    let told = outside.iter().map(|listener| {
        let process = owners.get(&listener.inode).copied();
        let who = process.map_or_else(|| format!("a process of uid {} that is not seen", listener.uid), name);
        let made_in = listener.cgroup.and_then(|id| around(cgroup, id)).map(|path| path.display().to_string());
        let made_in = made_in.or_else(|| process.and_then(cgroup_of)).unwrap_or_else(|| "one that is not seen".into());
        format!("{who} listens on port {} with a socket of the cgroup {made_in}", listener.port)
    });
    // One for each worker, all alike.
    let mut told: Vec<_> = told.collect();
    crate::sorted::by(&mut told, Ord::cmp);
    told.dedup();
    Ok(Sidecar::Outside(listed(&told)))
}

/// The path of the cgroup with this number, in the hierarchy as another one was named.
fn around(cgroup: &Cgroup, id: u64) -> Option<PathBuf> {
    let root = cgroup.and_around().pop()?;
    path_in(&root.path, id)
}

fn path_in(root: &Path, id: u64) -> Option<PathBuf> {
    below(root).ok()?.into_iter().find(|(number, _)| *number == id).map(|(_, path)| path)
}

fn listed(told: &[String]) -> String {
    let more = told.len().saturating_sub(ENOUGH);
    let text = told.iter().take(ENOUGH).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { text } else { format!("{text}, and {more} more") }
}

/// The numbers of all processes that are seen; none where /proc is not there.
fn processes() -> Option<Vec<i32>> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let numbers: Vec<i32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // This process is one of them.
    (!numbers.is_empty()).then_some(numbers)
}

/// The real user of a process, which is the one that the programs ask for; none if it is gone.
fn uid(process: i32) -> std::io::Result<Option<u32>> {
    let status = unless_gone(std::fs::read_to_string(format!("/proc/{process}/status")))?.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    Ok(line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()))
}

/// Which processes have these sockets, as far as it can be seen.
fn owners(inodes: &HashSet<u32>) -> BTreeMap<u32, i32> {
    let mut owners = BTreeMap::new();
    for process in processes().into_iter().flatten() {
        for entry in std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
            let link = std::fs::read_link(entry.path()).ok();
            let inode = link
                .as_deref()
                .and_then(Path::to_str)
                .and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u32>().ok());
            if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
                owners.entry(inode).or_insert(process);
            }
        }
    }
    owners
}

fn name(process: i32) -> String {
    match std::fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(name) => format!("process {process} ({})", visible(name.trim_end())),
        Err(_) => format!("process {process}"),
    }
}

/// The cgroup of version 2 of a process, as /proc names it.
fn cgroup_of(process: i32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(visible)
}

fn describe(process: i32) -> String {
    let cgroup = cgroup_of(process).unwrap_or_else(|| "that is not seen".into());
    format!("{} in the cgroup {cgroup}", name(process))
}

impl Cgroup {
    /// It and all below it, each with its number.
    fn and_below(&self) -> Result<Vec<(u64, PathBuf)>, Error> {
        below(&self.path)
    }

    /// The one with this number, where the hierarchy is mounted.
    pub(super) fn find(id: u64) -> Option<Self> {
        let root = Self::open(None).ok()?;
        Self::open(Some(&path_in(&root.path, id)?)).ok()
    }

    /// The threads in it and below it, and so the processes.
    fn threads(&self) -> Result<HashSet<i32>, Error> {
        let mut threads = HashSet::new();
        for (_, dir) in self.and_below()? {
            let list = dir.join("cgroup.threads");
            let text = unless_gone(std::fs::read_to_string(&list))
                .map_err(|error| Error::io(format!("read {}", list.display()), &error))?;
            threads.extend(text.unwrap_or_default().lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        Ok(threads)
    }
}

fn below(path: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut found = Vec::new();
    let mut dirs = vec![path.to_owned()];
    while let Some(dir) = dirs.pop() {
        let cannot = |error: &std::io::Error| Error::io(format!("look into {}", dir.display()), error);
        let Some(meta) = unless_gone(std::fs::metadata(&dir)).map_err(|error| cannot(&error))? else { continue };
        let entries = match unless_gone(std::fs::read_dir(&dir)) {
            // Its number is known, whatever is below it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            other => other.map_err(|error| cannot(&error))?,
        };
        let entries = entries.into_iter().flatten().flatten();
        dirs.extend(entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
        found.push((meta.ino(), dir));
    }
    Ok(found)
}

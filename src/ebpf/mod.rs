//! Programs in the kernel that steer sockets, and what loads them. The engine is in `engine::ebpf`.
//!
//! `connect`, `sendmsg` and `sk_lookup` programs send connections and DNS queries to the sidecar as sockets, before there are
//! packets: nothing is translated or tracked. What a socket wanted to reach is kept in the socket, for `getpeername` of the
//! workload and `SO_ORIGINAL_DST` of the sidecar. `programs/` has them in C, `table` as instructions, made by
//! `programs/build`.

mod cgroup;
mod generation;
mod hooks;
mod listeners;
mod local;
mod map_contents;
mod object;
mod outline;
mod pin_directory;
mod sidecar;
mod sight;
mod sys;
#[rustfmt::skip]
mod table;
#[cfg(test)]
mod tests;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use self::cgroup::Cgroup;
use self::generation::{Generation, State, differences};
use self::hooks::HOOKS;
use self::map_contents::MapContents;
pub(crate) use self::outline::{directory, outline};
use self::pin_directory::{Lock, PinDirectory};
use self::sidecar::{Sidecar, SidecarTraits};
pub(crate) use self::sight::{Sight, sight};
use self::table::{COUNTERS, Map};
use crate::error::Error;
use crate::model::{Note, SocketPlan};
use crate::net::FamilyName;
use crate::netns::Here;

/// Where things are.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) bpffs: PathBuf,
    /// The one that all processes are in, if not set.
    pub(crate) cgroup: Option<PathBuf>,
}

impl Default for Paths {
    fn default() -> Self {
        Self { bpffs: "/sys/fs/bpf".into(), cgroup: None }
    }
}

/// What an installation did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) change: Change,
    pub(crate) cgroup: PathBuf,
    pub(crate) notes: Vec<Note>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Installed,
    Replaced,
    Unchanged,
}

/// Makes the plan the one that the programs follow, in the network namespace of the calling thread. Whatever the error, what
/// was in force before is so still.
pub(crate) fn install(paths: &Paths, plan: &SocketPlan) -> Result<Done, Error> {
    let netns = Here::find()?;
    let cgroup = Cgroup::open(paths.cgroup.as_deref())?;
    let content = MapContents::of(plan, &local::addresses()?);
    let place = PinDirectory::new(&paths.bpffs, &netns);
    let mut notes = Vec::new();
    beside_the_sidecar(&content, &cgroup, &netns, &mut notes)?;
    let (lock, mounted) = place.mount_and_lock()?;
    if mounted {
        notes.push(Note::info("ebpf.bpffsPath", format!("mounted a bpffs at {}", paths.bpffs.display())));
    }
    sweep(&place, &lock);
    match replace(&place, &content, &cgroup, &netns, &mut notes) {
        Ok(change) => {
            notes.extend(hooks::others(&cgroup, &netns.file).into_iter().map(|other| {
                Note::warning("ebpf", format!("another program may change destinations before ours, or after: {other}"))
            }));
            Ok(Done { change, cgroup: cgroup.path, notes })
        }
        Err(error) => {
            place.tidy(lock);
            Err(error)
        }
    }
}

/// The key that says which cgroup the programs deal with.
const CGROUP: &str = "ebpf.cgroupPath";

/// Refuses to redirect to a sidecar whose listeners are out of the programs' sight. What is not known of it is noted.
fn beside_the_sidecar(
    content: &MapContents,
    cgroup: &Cgroup,
    netns: &Here,
    notes: &mut Vec<Note>,
) -> Result<(), Error> {
    let dir = cgroup.path.display();
    match SidecarTraits::of(&content.settings).look(cgroup, netns) {
        Sidecar::Outside(listeners) => {
            return Err(Error::Conflict {
                problem: format!(
                    "the sidecar is outside of the cgroup {dir}, whose processes the programs deal with: {listeners}; every redirected connection would be reset"
                ),
                remedy: "start the sidecar anew in that cgroup or below it, or name one that it and the workload are in (--ebpf-cgroup-path)".into(),
            });
        }
        found => notes.extend(sidecar_note(&found, &dir.to_string())),
    }
    Ok(())
}

/// What there is to say about where the sidecar is.
fn sidecar_note(found: &Sidecar, cgroup: &str) -> Option<Note> {
    match found {
        Sidecar::Inside => None,
        Sidecar::NotSeen => Some(Note::info(
            CGROUP,
            format!("nothing of the sidecar runs yet; start it in the cgroup {cgroup} or below it"),
        )),
        Sidecar::Outside(listeners) => Some(Note::warning(
            CGROUP,
            format!(
                "the sidecar is outside of the cgroup {cgroup}, so that every redirected connection is reset: {listeners}; start it anew in that cgroup or below it"
            ),
        )),
        Sidecar::Waiting(processes) => Some(Note::warning(
            CGROUP,
            format!(
                "processes of the sidecar's user are outside of the cgroup {cgroup}: {processes}; if the sidecar is started there, every redirected connection will be reset"
            ),
        )),
        Sidecar::Unknown(reason) => {
            Some(Note::warning(CGROUP, format!("whether the sidecar is in the cgroup {cgroup} is not known: {reason}")))
        }
    }
}

fn replace(
    place: &PinDirectory,
    content: &MapContents,
    cgroup: &Cgroup,
    netns: &Here,
    notes: &mut Vec<Note>,
) -> Result<Change, Error> {
    let before = match place.is_there()? {
        true => State::open(&place.state())?,
        false => None,
    };
    let in_force = before.as_ref().map(State::in_force).transpose()?.unwrap_or(0);
    let older = if before.is_some() { place.generations()? } else { Vec::new() };
    if in_force != 0 && differences(place, in_force, Some(content), Some(cgroup), netns)?.is_empty() {
        // What an installer left that was killed.
        older.iter().filter(|number| **number != in_force).try_for_each(|n| generation::remove(place, *n))?;
        return Ok(Change::Unchanged);
    }
    elsewhere(place, netns)?;
    let number = older.last().copied().unwrap_or(0).max(in_force).saturating_add(1);
    let fresh = before.is_none();
    let made = match before {
        Some(state) => Ok(state),
        None => place.remove(place.dir()).and_then(|()| State::create()),
    };
    let made = made.and_then(|state| {
        let generation = Generation::load(content, number, &state, netns, cgroup)?;
        if fresh {
            place.make(&place.state())?;
            state.pin(&place.state())?;
        }
        place.make(&place.generation(number))?;
        generation.attach(&place.generation(number), cgroup, netns)?;
        // From now on listeners tell of themselves, so those that are there already are the only ones to look for.
        let port = content.settings.inbound_port;
        let problems = listeners::register(state.map(Map::Listeners)?, port);
        notes.extend(problems.into_iter().map(|text| Note::warning("redirect.inbound.port", text)));
        state.switch(number)?;
        Ok(())
    });
    if let Err(error) = made {
        let undone = match generation::remove(place, number) {
            Ok(()) if fresh => place.remove(place.dir()),
            other => other,
        };
        return Err(match undone {
            Ok(()) => error,
            Err(more) => {
                let problem = format!("{error}; what is left has no effect, but {more}");
                Error::Conflict { problem, remedy: "uninstall".into() }.because(error)
            }
        });
    }
    for old in older {
        generation::remove(place, old).map_err(|error| {
            let problem = format!("the new programs are active, and older ones without effect stay attached: {error}");
            Error::Conflict { problem, remedy: "uninstall and install again".into() }.because(error)
        })?;
    }
    Ok(if in_force == 0 { Change::Installed } else { Change::Replaced })
}

/// Removes what is pinned for network namespaces that are gone: nobody else can, and till then the cgroup calls the programs
/// in vain. What cannot be removed, the next installer tries again.
fn sweep(place: &PinDirectory, _alone: &Lock) {
    for other in place.others() {
        let numbers = other.generations().unwrap_or_default();
        if numbers.iter().any(|number| generation::is_of_the_gone(&other, *number)) {
            let _ = numbers.into_iter().try_for_each(|number| generation::remove(&other, number));
            let _ = other.remove(other.dir());
        }
    }
}

/// Refuses to install beside an installation in the same network namespace that is pinned in another bpffs.
fn elsewhere(place: &PinDirectory, netns: &Here) -> Result<(), Error> {
    match unpinned(place, netns) {
        Ok(Unpinned::Ours(id)) => Err(place.elsewhere(id)),
        // Who may not ask may not attach anything, either.
        _ => Ok(()),
    }
}

/// A program that is attached to a network namespace and not pinned in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unpinned {
    None,
    /// One of ours.
    Ours(u32),
    /// One whose name the caller may not see.
    Nameless(u32),
}

/// Whether no program is attached to a network namespace where ours would be.
fn is_bare(netns: impl AsFd) -> Result<bool, Errno> {
    match HOOKS.iter().find(|hook| hook.is_of_netns()) {
        None => Ok(true),
        Some(hook) => Ok(hook.attached(netns)?.is_empty()),
    }
}

fn unpinned(place: &PinDirectory, netns: &Here) -> Result<Unpinned, Errno> {
    let Some(hook) = HOOKS.iter().find(|hook| hook.is_of_netns()) else { return Ok(Unpinned::None) };
    let numbers = if place.is_there().unwrap_or(false) { place.generations().unwrap_or_default() } else { Vec::new() };
    let link = |number: u64| sys::get(&place.generation(number).join(hook.link())).and_then(sys::link_info);
    let pinned: Vec<_> = numbers.into_iter().filter_map(|number| Some(link(number).ok()?.program)).collect();
    let look = || {
        let attached = hook.attached(&netns.file)?;
        let others = || attached.iter().filter(|(id, _)| !pinned.contains(id));
        let ours = others().find(|(_, name)| name.as_deref() == Some(hook.name));
        let nameless = || others().find(|(_, name)| name.is_none());
        Ok(match ours {
            Some((id, _)) => Unpinned::Ours(*id),
            None => nameless().map_or(Unpinned::None, |(id, _)| Unpinned::Nameless(*id)),
        })
    };
    // What was pinned and is no more goes in the background.
    let mut found = look()?;
    for _ in 0..50 {
        if !matches!(found, Unpinned::Ours(_)) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        found = look()?;
    }
    Ok(found)
}

/// Removes an installation from the network namespace of the calling thread. Whether there is, or
/// was, one.
pub(crate) fn uninstall(paths: &Paths, dry_run: bool) -> Result<bool, Error> {
    let netns = Here::find()?;
    let place = PinDirectory::new(&paths.bpffs, &netns);
    let is_there = place.is_there()?;
    if !dry_run && place.is_any_there() {
        let lock = place.lock()?;
        sweep(&place, &lock);
        // One of another version, or of which only a part is left, ends with its links.
        if let Ok(Some(state)) = State::open(&place.state()) {
            state.switch(0)?;
        }
        if place.is_there()? {
            place.generations()?.into_iter().try_for_each(|number| generation::remove(&place, number))?;
            place.remove(place.dir())?;
        }
        place.tidy(lock);
    }
    Ok(is_there)
}

/// An installation as it is found.
#[derive(Debug, Clone)]
pub(crate) struct FoundPrograms {
    /// What differs from the plan, if one was given, and otherwise from what was installed.
    pub(crate) differences: Vec<String>,
    pub(crate) programs: Vec<FoundProgram>,
    pub(crate) counters: Vec<(&'static str, u64)>,
    pub(crate) generation: u64,
    /// The families that are dealt with; none if nothing is in force.
    pub(crate) families: Vec<FamilyName>,
    pub(crate) dir: PathBuf,
    /// What else should be known: where the sidecar is.
    pub(crate) notes: Vec<Note>,
}

/// A program that is pinned by its link.
#[derive(Debug, Clone)]
pub(crate) struct FoundProgram {
    pub(crate) hook: &'static str,
    pub(crate) program: u32,
    pub(crate) link: u32,
    /// The number of the cgroup, or the inode of the network namespace; 0 if it is gone.
    pub(crate) target: u64,
}

/// Looks at what is installed in the network namespace of the calling thread.
pub(crate) fn look(paths: &Paths, plan: Option<&SocketPlan>) -> Result<Option<FoundPrograms>, Error> {
    let netns = Here::find()?;
    let place = PinDirectory::new(&paths.bpffs, &netns);
    if !place.is_there()? {
        return Ok(None);
    }
    let mut found = FoundPrograms {
        differences: Vec::new(),
        programs: Vec::new(),
        counters: Vec::new(),
        generation: 0,
        families: Vec::new(),
        dir: place.dir().to_owned(),
        notes: Vec::new(),
    };
    let Some(state) = State::open(&place.state())? else {
        found.differences.push("an installation was not completed; nothing of it is active".to_owned());
        return Ok(Some(found));
    };
    found.generation = state.in_force()?;
    found.counters = counters(&state)?;
    if found.generation == 0 {
        found.differences.push("the programs are switched off".to_owned());
        return Ok(Some(found));
    }
    let content = plan.map(|plan| local::addresses().map(|local| MapContents::of(plan, &local))).transpose()?;
    let cgroup = match plan.map(|_| Cgroup::open(paths.cgroup.as_deref())).transpose() {
        // One that is gone takes the programs with it.
        Err(gone @ Error::Config(_)) => {
            found.differences.push(gone.to_string());
            None
        }
        other => other?,
    };
    found.differences.extend(differences(&place, found.generation, content.as_ref(), cgroup.as_ref(), &netns)?);
    found.programs = programs(&place.generation(found.generation));
    let dir = place.generation(found.generation);
    found.families = generation::families(&dir);
    found.notes.extend(sidecar_of_installed(paths, &dir, &found.programs, &netns));
    Ok(Some(found))
}

/// Where the sidecar of an installation is.
fn sidecar_of_installed(paths: &Paths, dir: &Path, programs: &[FoundProgram], netns: &Here) -> Option<Note> {
    let wanted = SidecarTraits::of_installed(&generation::settings(dir)?)?;
    let of_cgroup =
        |program: &&FoundProgram| HOOKS.iter().any(|hook| hook.title == program.hook && !hook.is_of_netns());
    // What is attached to nothing has been told.
    let id = programs.iter().find(of_cgroup).map(|program| program.target).filter(|id| *id != 0)?;
    // The one that was named may be seen where the hierarchy as a whole is not.
    let named = paths.cgroup.as_deref().and_then(|path| Cgroup::open(Some(path)).ok());
    match named.filter(|cgroup| cgroup.id == id).or_else(|| Cgroup::find(id)) {
        Some(cgroup) => match wanted.look(&cgroup, netns) {
            // The rest of the host is no affair of the installation.
            Sidecar::NotSeen => None,
            found => sidecar_note(&found, &cgroup.path.display().to_string()),
        },
        None => {
            let reason = "no mount of cgroup2 that is seen here has it".to_owned();
            sidecar_note(&Sidecar::Unknown(reason), &format!("with the number {id}"))
        }
    }
}

fn programs(dir: &Path) -> Vec<FoundProgram> {
    let found = |hook: &'static hooks::Hook| {
        let link = sys::get(&dir.join(hook.link())).and_then(sys::link_info).ok()?;
        Some(FoundProgram { hook: hook.title, program: link.program, link: link.id, target: link.target() })
    };
    HOOKS.iter().filter_map(found).collect()
}

fn counters(state: &State) -> Result<Vec<(&'static str, u64)>, Error> {
    let map = state.map(Map::Counters)?;
    let read = |(index, name): (u32, &'static str)| {
        let values = map.get(&index.to_ne_bytes())?;
        let of_processors = values.chunks_exact(8).filter_map(|value| Some(u64::from_ne_bytes(value.try_into().ok()?)));
        Ok((name, of_processors.sum()))
    };
    let list: Result<Vec<_>, nix::errno::Errno> = (0..).zip(COUNTERS).map(read).collect();
    list.map_err(|errno| Error::io("read the counters of the programs", &errno.into()))
}

/// Loads the programs without attaching them, to see if the kernel takes them.
pub(crate) fn probe(paths: &Paths, plan: Option<&SocketPlan>) -> Result<(), Error> {
    let (netns, cgroup) = (Here::find()?, Cgroup::open(paths.cgroup.as_deref())?);
    let content = match plan {
        Some(plan) => MapContents::of(plan, &local::addresses()?),
        None => MapContents::of_everything(),
    };
    Generation::load(&content, 1, &State::create()?, &netns, &cgroup).map(drop)
}

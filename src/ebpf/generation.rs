//! One generation of the programs: its maps, its programs, its links.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;

use super::cgroup::Cgroup;
use super::hooks::{self, HOOKS, Hook};
use super::map_contents::{Elements, MapContents};
use super::object::{Map, Refused};
use super::pin_directory::PinDirectory;
use super::sys;
use super::table::{MAPS, Map as Name, SETTING_V4, SETTING_V6, Settings};
use crate::error::Error;
use crate::net::FamilyName;
use crate::netns::Here;

/// What all generations share.
#[derive(Debug)]
pub(super) struct State {
    maps: Vec<Map>,
}

impl State {
    /// Makes one in which no generation is in force.
    pub(super) fn create() -> Result<Self, Error> {
        let maps = names().filter(|name| name.is_state()).map(|name| create(name, 0)).collect::<Result<_, _>>()?;
        Ok(Self { maps })
    }

    /// What is pinned; none if it is not complete, as nobody can have been in force then.
    ///
    /// # Errors
    /// If another version has pinned maps of another kind.
    pub(super) fn open(dir: &Path) -> Result<Option<Self>, Error> {
        let mut maps = Vec::new();
        for name in names().filter(|name| name.is_state()) {
            let path = dir.join(name.definition().name);
            match sys::get(&path).and_then(|fd| Map::from_fd(name, fd)) {
                Ok(map) => maps.push(map),
                Err(Errno::ENOENT) => return Ok(None),
                Err(Errno::EPERM | Errno::EACCES) => {
                    return Err(hooks::permission(&format!("open {}", path.display())));
                }
                Err(Errno::EPROTO) => {
                    return Err(Error::Conflict {
                        problem: format!("{} is of another version", path.display()),
                        remedy: "uninstall first".into(),
                    });
                }
                Err(errno) => return Err(Error::io(format!("open {}", path.display()), &errno.into())),
            }
        }
        Ok(Some(Self { maps }))
    }

    pub(super) fn pin(&self, dir: &Path) -> Result<(), Error> {
        self.maps.iter().try_for_each(|map| pin(map, &dir.join(map.name())))
    }

    /// The generation in force; 0 if there is none.
    pub(super) fn in_force(&self) -> Result<u64, Error> {
        let value = self.map(Name::GenerationInForce)?.get(&KEY);
        let value = value.map_err(|errno| Error::io("read which generation of programs is active", &errno.into()))?;
        Ok(value.try_into().map_or(0, u64::from_ne_bytes))
    }

    /// Switches, by one store.
    pub(super) fn switch(&self, generation: u64) -> Result<(), Error> {
        let stored = self.map(Name::GenerationInForce)?.put(&KEY, &generation.to_ne_bytes());
        stored.map_err(|errno| Error::io("switch the programs", &errno.into()))
    }

    pub(super) fn map(&self, name: Name) -> Result<&Map, Error> {
        let found = self.maps.iter().find(|map| map.name() == name.definition().name);
        found.ok_or_else(|| Error::io(format!("find the map {name:?}"), &Errno::ENOENT.into()))
    }
}

/// The key of the only element.
const KEY: [u8; 4] = [0; 4];

/// A generation that was loaded.
#[derive(Debug)]
pub(super) struct Generation {
    maps: Vec<Map>,
    programs: Vec<(&'static Hook, OwnedFd)>,
}

impl Generation {
    /// Makes its maps and loads its programs. On kernels where some of them cannot tell network namespaces, none does.
    pub(super) fn load(
        content: &MapContents,
        number: u64,
        state: &State,
        netns: &Here,
        cgroup: &Cgroup,
    ) -> Result<Self, Error> {
        if cfg!(target_endian = "big") {
            return Err(Error::Unsupported {
                what: "the engine ebpf on a big-endian machine, for which its programs are not compiled,".into(),
                remedy: "use the engine netlink".into(),
            });
        }
        let mut content = content.clone();
        content.settings.generation = number;
        content.settings.netns_cookie = netns.cookie.unwrap_or(0);
        let explain = |(hook, refused): (&Hook, Refused)| hook.refused(&refused);
        if content.settings.netns_cookie != 0 {
            match Self::try_load(&content, state)? {
                Err((_, refused)) if hooks::lacks_function(&refused) => content.settings.netns_cookie = 0,
                loaded => return loaded.map_err(explain),
            }
        }
        if let Some(thread) = cgroup.stranger(netns.inode)? {
            return Err(Error::Conflict {
                problem: format!(
                    "this kernel's programs cannot tell network namespaces, and thread {thread} in the cgroup {} is in another one",
                    cgroup.path.display()
                ),
                remedy: "name a cgroup of which all processes are in this network namespace (--ebpf-cgroup-path), use Linux 5.15 or later, or the engine netlink".into(),
            });
        }
        Self::try_load(&content, state)?.map_err(explain)
    }

    fn try_load(content: &MapContents, state: &State) -> Result<Result<Self, (&'static Hook, Refused)>, Error> {
        let mut maps = Vec::new();
        for name in names().filter(|name| !name.is_state()) {
            let settings;
            let elements = match name {
                Name::Networks => &content.networks,
                Name::Owners => &content.owners,
                Name::OwnerPorts => &content.owner_ports,
                _ => {
                    settings = Elements::from([(KEY.to_vec(), content.settings.to_bytes().to_vec())]);
                    &settings
                }
            };
            let map = create(name, elements.len())?;
            let filled = elements.iter().try_for_each(|(key, value)| map.put(key, value)).and_then(|()| map.freeze());
            filled.map_err(|errno| Error::io(format!("fill the map {}", map.name()), &errno.into()))?;
            maps.push(map);
        }
        let own = maps.len();
        let shared = state.maps.iter().map(Map::try_clone).collect::<Result<Vec<_>, _>>();
        maps.extend(shared.map_err(|error| Error::io("keep the maps", &error))?);
        let mut programs = Vec::new();
        for hook in &HOOKS {
            match hook.load(&maps) {
                Ok(program) => programs.push((hook, program)),
                Err(refused) => return Ok(Err((hook, refused))),
            }
        }
        maps.truncate(own);
        Ok(Ok(Self { maps, programs }))
    }

    /// Attaches the programs, and pins everything. They act once the generation is in force.
    pub(super) fn attach(&self, dir: &Path, cgroup: &Cgroup, netns: &Here) -> Result<(), Error> {
        for map in &self.maps {
            pin(map, &dir.join(format!("map_{}", map.name())))?;
        }
        for (hook, program) in &self.programs {
            let link = hook.attach(program, cgroup, &netns.file)?;
            pin(&link, &dir.join(hook.link()))?;
        }
        Ok(())
    }
}

/// Removes what is pinned of a generation. Its programs are attached no more when this returns; the kernel alone would see to
/// that in the background.
pub(super) fn remove(place: &PinDirectory, number: u64) -> Result<(), Error> {
    let dir = place.generation(number);
    for path in HOOKS.iter().map(|hook| dir.join(hook.link())) {
        match sys::get(&path) {
            // One whose cgroup is gone is attached to nothing.
            Ok(link) => _ = sys::link_detach(link),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => {
                return Err(Error::io(format!("open {}", path.display()), &errno.into()));
            }
            // What is no link of ours goes with its name.
            Err(_) => {}
        }
    }
    place.remove(&dir)
}

/// Whether a generation that is pinned was for a network namespace that is gone. One that was not attached does not tell.
pub(super) fn is_of_the_gone(place: &PinDirectory, number: u64) -> bool {
    let dir = place.generation(number);
    let mut links = HOOKS.iter().filter(|hook| hook.is_of_netns()).map(|hook| sys::get(&dir.join(hook.link())));
    links.any(|link| link.and_then(sys::link_info).is_ok_and(|link| link.target() == 0))
}

/// What is different in a generation that is pinned.
pub(super) fn differences(
    place: &PinDirectory,
    number: u64,
    content: Option<&MapContents>,
    cgroup: Option<&Cgroup>,
    netns: &Here,
) -> Result<Vec<String>, Error> {
    let dir = place.generation(number);
    let mut list = Vec::new();
    for hook in &HOOKS {
        let link = match sys::get(&dir.join(hook.link())).and_then(sys::link_info) {
            Ok(link) => link,
            Err(Errno::ENOENT) => {
                list.push(format!("{} has no program", hook.title));
                continue;
            }
            Err(errno) => return Err(Error::io(format!("look at the program for {}", hook.title), &errno.into())),
        };
        let wanted = match hook.is_of_netns() {
            true => Some(netns.inode),
            false => cgroup.map(|cgroup| cgroup.id),
        };
        let target = link.target();
        match wanted {
            _ if target == 0 => list.push(format!("{}: what it was attached to is gone", hook.title)),
            Some(wanted) if wanted != target => list.push(format!("{} is attached elsewhere", hook.title)),
            _ => {}
        }
    }
    let Some(content) = content else { return Ok(list) };
    let read = |name: Name| {
        let path = dir.join(format!("map_{}", name.definition().name));
        match sys::get(&path).and_then(|fd| Map::from_fd(name, fd)).and_then(|map| map.all()) {
            Ok(elements) => Ok(Some(elements)),
            Err(Errno::ENOENT | Errno::EPROTO) => Ok(None),
            Err(errno) => Err(Error::io(format!("read {}", path.display()), &errno.into())),
        }
    };
    for (name, wanted, words) in [
        (Name::Networks, &content.networks, "the networks and addresses differ"),
        (Name::Owners, &content.owners, "the users and groups with exclusions differ"),
        (Name::OwnerPorts, &content.owner_ports, "the excluded ports of users and groups differ"),
    ] {
        if read(name)?.as_ref() != Some(wanted) {
            list.push(words.to_owned());
        }
    }
    let mut settings = content.settings.clone();
    settings.generation = number;
    let installed = read(Name::Settings)?.and_then(|elements| elements.into_values().next());
    // Whether the programs can tell network namespaces is the kernel's affair.
    let told = [netns.cookie.unwrap_or(0), 0].into_iter().find(|cookie| {
        settings.netns_cookie = *cookie;
        installed.as_deref() == Some(&settings.to_bytes())
    });
    match told {
        None => list.push("it was installed from a different configuration, or by another kumatp version".to_owned()),
        Some(0) => {
            let stranger = cgroup.map(|cgroup| cgroup.stranger(netns.inode)).transpose()?.flatten();
            list.extend(stranger.map(|thread| {
                format!(
                    "the programs cannot tell network namespaces, and thread {thread} in the cgroup is in another one"
                )
            }));
        }
        Some(_) => {}
    }
    Ok(list)
}

/// The settings of a generation that is pinned, as the programs have them.
pub(super) fn settings(dir: &Path) -> Option<Vec<u8>> {
    let path = dir.join(format!("map_{}", Name::Settings.definition().name));
    let map = sys::get(&path).and_then(|fd| Map::from_fd(Name::Settings, fd));
    map.and_then(|map| map.get(&KEY)).ok()
}

/// The families that a generation which is pinned deals with.
pub(super) fn families(dir: &Path) -> Vec<FamilyName> {
    let flags = settings(dir).as_deref().and_then(Settings::flags);
    let has = |flag: u32| flags.is_some_and(|flags| flags & flag != 0);
    let all = [(FamilyName::V4, SETTING_V4), (FamilyName::V6, SETTING_V6)];
    all.into_iter().filter(|(_, flag)| has(*flag)).map(|(family, _)| family).collect()
}

fn names() -> impl Iterator<Item = Name> {
    MAPS.iter().map(|definition| definition.map)
}

fn pin(object: impl std::os::fd::AsFd, path: &Path) -> Result<(), Error> {
    sys::pin(object, path).map_err(|errno| match errno {
        Errno::EPERM | Errno::EACCES => hooks::permission(&format!("pin {}", path.display())),
        _ => Error::io(format!("pin {}", path.display()), &errno.into()),
    })
}

fn create(name: Name, entries: usize) -> Result<Map, Error> {
    let title = name.definition().name;
    Map::create(name, entries).map_err(|errno| match errno {
        Errno::EPERM => hooks::permission(&format!("make the map {title}")),
        Errno::EINVAL | Errno::ENOSYS => Error::Unsupported {
            what: format!("the map {title} in this kernel"),
            remedy: "use Linux 5.10 or later, or the engine netlink".into(),
        },
        _ => Error::io(format!("make the map {title}"), &errno.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variants for kernels that tell network namespaces, and for those that do not, with all settings on and all off.
    #[test]
    fn every_variant_passes_the_verifier() {
        let may = nix::unistd::geteuid().is_root() && State::create().is_ok();
        if !may {
            assert!(std::env::var("KUMATP_REQUIRE_ALL").as_deref() != Ok("1"), "programs cannot be loaded here");
            return eprintln!("skipped: programs cannot be loaded here");
        }
        let state = State::create().unwrap();
        for cookie in [0, 1] {
            for flags in [0, u32::MAX] {
                let mut content = MapContents::of_everything();
                content.settings.netns_cookie = cookie;
                content.settings.flags = flags;
                let loaded = Generation::try_load(&content, &state).unwrap();
                assert_eq!(loaded.unwrap().programs.len(), HOOKS.len());
            }
        }
    }
}

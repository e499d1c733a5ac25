//! Maps, programs and links of the kernel, with sizes checked.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::sys::{self, MapAttributes};
use super::table::{Definition, MAPS, Map as MapName, Program as Code};

impl MapName {
    pub(super) fn definition(self) -> &'static Definition {
        &MAPS[self as usize]
    }

    /// Whether all generations of the programs have it in common.
    pub(super) fn is_state(self) -> bool {
        matches!(self, Self::GenerationInForce | Self::Sockets | Self::Pairs | Self::Listeners | Self::Counters)
    }
}

/// linux/bpf.h
const SK_STORAGE: u32 = 24;
const PERCPU_ARRAY: u32 = 6;

/// A map.
#[derive(Debug)]
pub(super) struct Map {
    fd: OwnedFd,
    definition: &'static Definition,
}

impl Map {
    /// Makes a map. The number of entries counts only where the definition leaves it to the loader.
    pub(super) fn create(name: MapName, entries: usize) -> Result<Self, Errno> {
        let definition = name.definition();
        let mut attributes = MapAttributes::default();
        attributes.kind = definition.kind;
        attributes.key_size = definition.key_size;
        attributes.value_size = definition.value_size;
        attributes.max_entries = match (definition.max_entries, definition.kind) {
            (0, SK_STORAGE) => 0,
            (0, _) => u32::try_from(entries.max(1)).map_err(|_| Errno::E2BIG)?,
            (fixed, _) => fixed,
        };
        attributes.flags = definition.flags;
        attributes.name = sys::name(&format!("kuma_{}", definition.name));
        let types = (definition.kind == SK_STORAGE).then(|| sys::btf_load(&types(definition))).transpose()?;
        if let Some(types) = &types {
            attributes.btf = u32::try_from(types.as_raw_fd()).unwrap_or_default();
            (attributes.btf_key, attributes.btf_value) = (1, 2);
        }
        Ok(Self { fd: with_room(|| sys::map_create(attributes))?, definition })
    }

    /// A map that is there already, if it is as the definition says.
    pub(super) fn from_fd(name: MapName, fd: OwnedFd) -> Result<Self, Errno> {
        let (definition, info) = (name.definition(), sys::map_info(&fd)?);
        let same = (info.kind, info.key_size, info.value_size)
            == (definition.kind, definition.key_size, definition.value_size)
            && (definition.max_entries == 0 || info.max_entries == definition.max_entries);
        if same { Ok(Self { fd, definition }) } else { Err(Errno::EPROTO) }
    }

    /// The same map once more.
    pub(super) fn try_clone(&self) -> std::io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, definition: self.definition })
    }

    pub(super) fn name(&self) -> &'static str {
        self.definition.name
    }

    /// Stores an element.
    pub(super) fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Errno> {
        self.check(key, value)?;
        sys::map_update(self, key, value)
    }

    /// Reads an element; the values of all processors one after the other.
    pub(super) fn get(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let size = self.definition.value_size as usize;
        let mut value =
            vec![0; if self.definition.kind == PERCPU_ARRAY { possible_processors()? * size } else { size }];
        self.check(key, &value[..size])?;
        sys::map_lookup(self, key, &mut value)?;
        Ok(value)
    }

    /// All elements; those of a map that others change meanwhile may be incomplete.
    pub(super) fn all(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
        let mut list = BTreeMap::new();
        let mut key: Option<Vec<u8>> = None;
        loop {
            let mut next = vec![0; self.definition.key_size as usize];
            match sys::map_next_key(self, key.as_deref(), &mut next) {
                Ok(()) => drop(list.insert(next.clone(), self.get(&next)?)),
                Err(Errno::ENOENT) => return Ok(list),
                Err(errno) => return Err(errno),
            }
            key = Some(next);
        }
    }

    pub(super) fn freeze(&self) -> Result<(), Errno> {
        sys::map_freeze(self)
    }

    fn check(&self, key: &[u8], value: &[u8]) -> Result<(), Errno> {
        let sizes = (self.definition.key_size as usize, self.definition.value_size as usize);
        if (key.len(), value.len()) == sizes { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes an object. Before Linux 5.11 maps and programs count as locked memory, of which there is usually leave for very
/// little; so there is no limit when it is tried again.
fn with_room(mut make: impl FnMut() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    match make() {
        Err(Errno::EPERM) => {
            let _raised = Raised::new();
            make()
        }
        made => made,
    }
}

/// While it lives, locked memory has no limit.
struct Raised(Option<(u64, u64)>);

impl Raised {
    fn new() -> Self {
        let before = getrlimit(Resource::RLIMIT_MEMLOCK).ok();
        let raised = before.filter(|_| setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_ok());
        Self(raised)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Some((soft, hard)) = self.0 {
            let _ = setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard);
        }
    }
}

/// A description of types, which the kernel demands of socket storage: 1 is the key, 2 the value as an array of keys
/// (Documentation/bpf/btf.rst of the kernel).
fn types(definition: &Definition) -> Vec<u8> {
    const INT: u32 = 1 << 24;
    const ARRAY: u32 = 3 << 24;
    let bits = 8 * definition.key_size;
    let words: [u32; 10] =
        [1, INT, definition.key_size, bits, 0, ARRAY, 0, 1, 1, definition.value_size / definition.key_size];
    let strings = *b"\0u\0";
    let length = |of: usize| u32::try_from(of).unwrap_or_default();
    let mut blob = 0xeb9f_u16.to_ne_bytes().to_vec();
    blob.extend([1, 0]);
    for word in [24, 0, length(4 * words.len()), length(4 * words.len()), length(strings.len())] {
        blob.extend(word.to_ne_bytes());
    }
    blob.extend(words.into_iter().flat_map(u32::to_ne_bytes));
    blob.extend(strings);
    blob
}

/// How many values a map has that has one for each processor: those that there could be, not those that there are.
fn possible_processors() -> Result<usize, Errno> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
    let last = text.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<usize>().ok());
    last.map(|last| last + 1).ok_or(Errno::EPROTO)
}

/// A program that the kernel would not load.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) errno: Errno,
    /// The end of what the verifier said; empty if it was not asked.
    pub(super) log: String,
}

/// Loads a program with these maps, of which each is in its place of the list of all.
pub(super) fn load(code: &Code, kind: u32, attach_type: u32, maps: &[Map], name: &str) -> Result<OwnedFd, Refused> {
    /// Room for what the verifier says of a program that it goes through in full.
    const LOG: usize = 1 << 22;
    let mut instructions = code.instructions.to_vec();
    for (at, map) in code.maps {
        let fd = maps.iter().find(|other| other.definition.map == *map).map_or(-1, |map| map.fd.as_raw_fd());
        // The high half of a loading instruction is its number.
        instructions[*at] |= u64::from(fd as u32) << 32;
    }
    let load = |log: &mut [u8]| sys::program_load(kind, attach_type, sys::name(name), &instructions, log);
    let mut attempts = 0;
    let errno = loop {
        match with_room(|| load(&mut [])) {
            Ok(program) => return Ok(program),
            // A signal came while the verifier was at work.
            Err(Errno::EAGAIN) if attempts < 5 => attempts += 1,
            Err(errno) => break errno,
        }
    };
    let mut log = vec![0; LOG];
    // What the verifier says, it says when it refuses again.
    let _ = with_room(|| load(&mut log));
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(Refused { errno, log: lines[lines.len().saturating_sub(6)..].join("; ") })
}

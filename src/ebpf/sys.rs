//! The system calls: bpf(2) as linux/bpf.h has it, and what else no safe crate offers. The only unsafe code of the engine.

use std::ffi::CString;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

/// Commands of bpf(2).
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapNextKey = 4,
    ProgramLoad = 5,
    Pin = 6,
    Get = 7,
    ProgramById = 13,
    Info = 15,
    Query = 16,
    BtfLoad = 18,
    MapFreeze = 22,
    LinkCreate = 28,
    LinkDetach = 34,
}

/// Names of objects in the kernel have up to 15 bytes.
pub(super) type Name = [u8; 16];

/// A name for the kernel; what is too long is cut.
pub(super) fn name(text: &str) -> Name {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().take(15).zip(text.bytes()) {
        *to = from;
    }
    name
}

/// What a map is made from.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct MapAttributes {
    pub(super) kind: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
    inner_map: u32,
    numa_node: u32,
    pub(super) name: Name,
    interface: u32,
    pub(super) btf: u32,
    pub(super) btf_key: u32,
    pub(super) btf_value: u32,
}

#[derive(Debug, Default)]
#[repr(C)]
struct Element {
    map: u32,
    unused: u32,
    key: u64,
    /// Or the next key.
    value: u64,
    flags: u64,
}

#[derive(Debug, Default)]
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: Name,
    interface: u32,
    attach_type: u32,
}

#[derive(Debug, Default)]
#[repr(C)]
struct Pinning {
    path: u64,
    object: u32,
    flags: u32,
}

#[derive(Debug, Default)]
#[repr(C)]
struct InfoOf {
    object: u32,
    size: u32,
    info: u64,
}

#[derive(Debug, Default)]
#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    unused: u32,
}

#[derive(Debug, Default)]
#[repr(C)]
struct Btf {
    content: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    /// Would be padding else, which has to be 0 where a kernel knows no such field.
    unused: u32,
}

#[derive(Debug, Default)]
#[repr(C)]
struct Link {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// The beginning of `struct bpf_map_info`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct MapInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
}

/// The beginning of `struct bpf_prog_info`, up to the name.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct ProgramInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    code: [u64; 2],
    load_time: u64,
    user: u32,
    map_count: u32,
    maps: u64,
    pub(super) name: Name,
}

/// `struct bpf_link_info` of links to cgroups and to network namespaces.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct LinkInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) program: u32,
    unused: u32,
    target: u64,
    rest: [u64; 2],
}

impl LinkInfo {
    /// The number of the cgroup, or the inode of the network namespace, which has the low half; 0 if it is gone.
    pub(super) fn target(&self) -> u64 {
        const NETNS: u32 = 5;
        if self.kind == NETNS { self.target & u64::from(u32::MAX) } else { self.target }
    }
}

/// Calls bpf(2).
///
/// # Safety
/// All pointers in `attributes` are to memory of the sizes that the command reads or writes, and that lives until it returns.
#[expect(unsafe_code, reason = "bpf(2) is in no safe crate")]
unsafe fn bpf<T>(command: Command, attributes: &mut T) -> Result<i32, Errno> {
    // SAFETY: the attributes are a structure of plain numbers of this size; the caller vouches for what they point to.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as i32, std::ptr::from_mut(attributes), size_of::<T>()) };
    Errno::result(result).map(|number| number as i32)
}

/// Takes what a system call has opened.
#[expect(unsafe_code, reason = "a number becomes an owned file descriptor")]
fn opened(number: i32) -> OwnedFd {
    // SAFETY: called with the file descriptor that a system call has just opened, and that nobody else knows.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// By reference, so that what the number stands for stays open while it is used.
fn number(fd: &impl AsFd) -> u32 {
    // A file descriptor that is open is not negative.
    fd.as_fd().as_raw_fd() as u32
}

fn address<T: ?Sized>(of: &T) -> u64 {
    std::ptr::from_ref(of).cast::<u8>() as u64
}

fn address_mut<T: ?Sized>(of: &mut T) -> u64 {
    std::ptr::from_mut(of).cast::<u8>() as u64
}

#[expect(unsafe_code, reason = "bpf(2)")]
pub(super) fn map_create(mut attributes: MapAttributes) -> Result<OwnedFd, Errno> {
    // SAFETY: there are no pointers in it.
    unsafe { bpf(Command::MapCreate, &mut attributes) }.map(opened)
}

/// Stores an element. The sizes of key and value are those of the map.
#[expect(unsafe_code, reason = "bpf(2)")]
pub(super) fn map_update(map: impl AsFd, key: &[u8], value: &[u8]) -> Result<(), Errno> {
    let mut attributes = Element { map: number(&map), key: address(key), value: address(value), ..Element::default() };
    // SAFETY: the kernel reads a key and a value, which have the sizes of the map: `Map` checks.
    unsafe { bpf(Command::MapUpdate, &mut attributes) }.map(drop)
}

/// Reads an element into `value`, which has the size that the map's values have in user space.
#[expect(unsafe_code, reason = "bpf(2)")]
pub(super) fn map_lookup(map: impl AsFd, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
    let mut attributes =
        Element { map: number(&map), key: address(key), value: address_mut(value), ..Element::default() };
    // SAFETY: the kernel reads a key and writes a value, which have the sizes of the map: `Map` checks.
    unsafe { bpf(Command::MapLookup, &mut attributes) }.map(drop)
}

/// The key after this one, or the first.
#[expect(unsafe_code, reason = "bpf(2)")]
pub(super) fn map_next_key(map: impl AsFd, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
    let mut attributes =
        Element { map: number(&map), key: key.map_or(0, address), value: address_mut(next), ..Element::default() };
    // SAFETY: the kernel reads a key and writes a key, which have the size of the map: `Map` checks.
    unsafe { bpf(Command::MapNextKey, &mut attributes) }.map(drop)
}

/// No system call can change the map from now on.
#[expect(unsafe_code, reason = "bpf(2)")]
pub(super) fn map_freeze(map: impl AsFd) -> Result<(), Errno> {
    let mut attributes = Element { map: number(&map), ..Element::default() };
    // SAFETY: the command reads the map only.
    unsafe { bpf(Command::MapFreeze, &mut attributes) }.map(drop)
}

/// Loads a program. The log is what the verifier says, if it is given room.
#[expect(unsafe_code, reason = "bpf(2)")]
pub(super) fn program_load(
    kind: u32,
    attach_type: u32,
    name: Name,
    instructions: &[u64],
    log: &mut [u8],
) -> Result<OwnedFd, Errno> {
    let license = c"Dual MIT/GPL";
    let mut attributes = Load {
        kind,
        count: instructions.len() as u32,
        instructions: address(instructions),
        license: license.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log: if log.is_empty() { 0 } else { address_mut(log) },
        name,
        attach_type,
        ..Load::default()
    };
    // SAFETY: the kernel reads that many instructions and a terminated text, and writes at most the log.
    unsafe { bpf(Command::ProgramLoad, &mut attributes) }.map(opened)
}

/// Loads a description of types.
#[expect(unsafe_code, reason = "bpf(2)")]
pub(super) fn btf_load(content: &[u8]) -> Result<OwnedFd, Errno> {
    let mut attributes = Btf { content: address(content), size: content.len() as u32, ..Btf::default() };
    // SAFETY: the kernel reads that many bytes.
    unsafe { bpf(Command::BtfLoad, &mut attributes) }.map(opened)
}

/// Attaches a program, until all that refers to the link is gone.
#[expect(unsafe_code, reason = "bpf(2)")]
pub(super) fn link_create(program: impl AsFd, target: impl AsFd, attach_type: u32) -> Result<OwnedFd, Errno> {
    let mut attributes = Link { program: number(&program), target: number(&target), attach_type, ..Link::default() };
    // SAFETY: there are no pointers in it.
    unsafe { bpf(Command::LinkCreate, &mut attributes) }.map(opened)
}

/// Takes the program of a link away from what it is attached to, before this returns.
#[expect(unsafe_code, reason = "bpf(2)")]
pub(super) fn link_detach(link: impl AsFd) -> Result<(), Errno> {
    let mut attributes = [number(&link)];
    // SAFETY: there are no pointers in it.
    unsafe { bpf(Command::LinkDetach, &mut attributes) }.map(drop)
}

fn path_of(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::EINVAL)
}

/// Gives an object a name in a bpffs, which keeps it.
#[expect(unsafe_code, reason = "bpf(2)")]
pub(super) fn pin(object: impl AsFd, path: &Path) -> Result<(), Errno> {
    let path = path_of(path)?;
    let mut attributes = Pinning { path: path.as_ptr() as u64, object: number(&object), ..Pinning::default() };
    // SAFETY: the kernel reads a terminated text.
    unsafe { bpf(Command::Pin, &mut attributes) }.map(drop)
}

/// Opens an object by its name in a bpffs.
#[expect(unsafe_code, reason = "bpf(2)")]
pub(super) fn get(path: &Path) -> Result<OwnedFd, Errno> {
    let path = path_of(path)?;
    let mut attributes = Pinning { path: path.as_ptr() as u64, ..Pinning::default() };
    // SAFETY: the kernel reads a terminated text.
    unsafe { bpf(Command::Get, &mut attributes) }.map(opened)
}

#[expect(unsafe_code, reason = "bpf(2)")]
pub(super) fn program_by_id(id: u32) -> Result<OwnedFd, Errno> {
    let mut attributes = [id, 0, 0];
    // SAFETY: there are no pointers in it.
    unsafe { bpf(Command::ProgramById, &mut attributes) }.map(opened)
}

/// What the kernel knows of an object, as far as `info` has room: a structure of plain numbers.
#[expect(unsafe_code, reason = "bpf(2)")]
fn info<T: Default>(object: impl AsFd) -> Result<T, Errno> {
    let mut info = T::default();
    let mut attributes = InfoOf { object: number(&object), size: size_of::<T>() as u32, info: address_mut(&mut info) };
    // SAFETY: the kernel writes at most that many bytes; only structures of plain numbers, which any bytes are, are asked for.
    unsafe { bpf(Command::Info, &mut attributes) }?;
    Ok(info)
}

pub(super) fn map_info(map: impl AsFd) -> Result<MapInfo, Errno> {
    info(map)
}

pub(super) fn program_info(program: impl AsFd) -> Result<ProgramInfo, Errno> {
    info(program)
}

pub(super) fn link_info(link: impl AsFd) -> Result<LinkInfo, Errno> {
    info(link)
}

/// The programs that are attached to a cgroup or network namespace, up to 64 of them, and the flags of the attachment.
#[expect(unsafe_code, reason = "bpf(2)")]
pub(super) fn query(target: impl AsFd, attach_type: u32) -> Result<(u32, Vec<u32>), Errno> {
    let mut programs = [0_u32; 64];
    let mut attributes = Query {
        target: number(&target),
        attach_type,
        programs: address_mut(&mut programs),
        count: programs.len() as u32,
        ..Query::default()
    };
    // SAFETY: the kernel writes at most `count` numbers.
    match unsafe { bpf(Command::Query, &mut attributes) } {
        Ok(_) | Err(Errno::ENOSPC) => {}
        Err(errno) => return Err(errno),
    }
    let count = programs.len().min(attributes.count as usize);
    Ok((attributes.attach_flags, programs[..count].to_vec()))
}

/// A handle to a process.
#[expect(unsafe_code, reason = "pidfd_open(2) is in no safe crate")]
pub(super) fn pidfd_open(process: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: numbers only.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    Errno::result(result).map(|number| opened(number as i32))
}

/// A copy of a file descriptor of a process.
#[expect(unsafe_code, reason = "pidfd_getfd(2) is in no safe crate")]
pub(super) fn pidfd_getfd(process: impl AsFd, fd: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: numbers only.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_fd().as_raw_fd(), fd, 0) };
    Errno::result(result).map(|number| opened(number as i32))
}

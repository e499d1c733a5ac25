//! Sockets that listen already when the programs come: those made later tell of themselves.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::object::Map;
use super::sys;
use super::table::{LISTENERS_OF_FAMILY, LISTENERS_V4, LISTENERS_V6};

/// Puts the listeners on a port of the network namespace of the calling thread into the map. For each that could not be taken,
/// a sentence that says why. Whose they are does not matter: a process may have sockets of several namespaces.
pub(super) fn register(map: &Map, port: u16) -> Vec<String> {
    let mut wanted = BTreeMap::new();
    let mut problems = Vec::new();
    for (path, first) in [("/proc/thread-self/net/tcp", LISTENERS_V4), ("/proc/thread-self/net/tcp6", LISTENERS_V6)] {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            // A kernel without the family.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                problems.push(format!("cannot read {path} ({error}); restart what listens on port {port}"));
                continue;
            }
        };
        let slots = (first..first + LISTENERS_OF_FAMILY).cycle();
        wanted.extend(inodes(&text, port).into_iter().zip(slots));
    }
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if wanted.is_empty() {
            break;
        }
        for entry in std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
            let link = std::fs::read_link(entry.path()).ok();
            let inode = link
                .as_deref()
                .and_then(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok());
            let fd = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
            let (Some(inode), Some(fd)) = (inode, fd) else { continue };
            let Some(slot) = wanted.get(&inode) else { continue };
            match take(map, *slot, process, fd) {
                Ok(()) => {}
                // It is gone, or was another one's by now; who has it too comes later.
                Err(Errno::ESRCH | Errno::EBADF | Errno::ENOENT) => continue,
                Err(errno) => problems.push(format!(
                    "the socket of process {process} that listens on port {port} is not known to the programs ({}); restart that process",
                    errno.desc()
                )),
            }
            wanted.remove(&inode);
        }
    }
    if !wanted.is_empty() {
        problems.push(format!(
            "{} sockets that listen on port {port} belong to no process that can be seen; restart what has them",
            wanted.len()
        ));
    }
    problems
}

fn take(map: &Map, slot: u32, process: i32, fd: i32) -> Result<(), Errno> {
    let socket = sys::pidfd_getfd(sys::pidfd_open(process)?, fd)?;
    let value = u64::try_from(socket.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    map.put(&slot.to_ne_bytes(), &value.to_ne_bytes())
}

/// The inodes of the sockets of a list of the kernel that listen on a port.
fn inodes(text: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A"; // TCP_LISTEN of net/tcp_states.h
    let inode = |line: &str| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let (_, own) = fields.get(1)?.rsplit_once(':')?;
        let listens = fields.get(3) == Some(&LISTEN) && u16::from_str_radix(own, 16).ok()? == port;
        listens.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    text.lines().skip(1).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_listen() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:3A9E 00000000:0000 0A 00000000:00000000 00:00000000 00000000  5678        0 4711 1 0 100 0 0 10 0
   1: 0100007F:3A9E 0100007F:8000 01 00000000:00000000 00:00000000 00000000  5678        0 4712 1 0 100 0 0 10 0
   2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
";
        assert_eq!(inodes(text, 15006), [4711]);
        assert!(inodes("", 15006).is_empty());
    }
}

//! Work in another network namespace.

use std::fs::File;
use std::thread;

use nix::sched::{CloneFlags, setns};

/// Runs something on a thread in another network namespace.
pub(crate) fn inside<R: Send>(path: &str, work: impl FnOnce() -> R + Send) -> R {
    let file = File::open(path).unwrap();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

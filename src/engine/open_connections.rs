//! Connections that are open when connection tracking begins.
//!
//! With the first rules that translate, the kernel begins to track connections, and takes the next packet of one that has been
//! open all the time for the first of a new one: it would be redirected, and the connection reset. A rule that lets such packets
//! pass would be a way past the sidecar. So each connection that is open gets its entry before the rules are in force: it goes on
//! as it was opened. A packet that opens a connection passes by no such entry, as the rules that close behind the translation
//! see to.
//!
//! What opens between the look and the rules is looked for once more when they are in force. In between, it is only its next
//! packet that would meet them without an entry. A connection that this host has asked for and that has not been answered is
//! none yet: its request is repeated, and then redirected.
//!
//! Where connections have been redirected already, by any program, nothing is done: then a connection without an entry may be one
//! whose entry was lost, and with a new one it would leave in clear. Nor is it done for one that was redirected by rules that
//! are gone, which is told by its other end: that is here, and takes it for another. Nor for one that a listener of the sidecar has
//! accepted from elsewhere: it may have been redirected, and with an entry of its own its answers would come from the wrong port.
//!
//! After an uninstallation the entries stay until they expire, as all do: connections that are open still need them where somebody else goes on
//! tracking, and where nobody does, nobody reads them. Those whose connections have ended meanwhile are removed before they could keep anybody out, by
//! the next installation.

use std::collections::{BTreeSet, HashSet};

use nix::errno::Errno;

use super::report::Report;
use crate::model::Note;
use crate::net::{FamilyName, Port};
use crate::netlink::{Kernel, Stop, Tuple, tracking};

/// The connections of the families in which tracking begins, in the network namespace of the calling thread.
#[derive(Debug)]
pub(super) struct OpenConnections {
    families: Vec<FamilyName>,
    /// The ports that connections are redirected to.
    listeners: BTreeSet<Port>,
    /// Those that were seen.
    seen: HashSet<Tuple>,
    made: usize,
    /// What kept us from it.
    problem: Option<String>,
}

impl OpenConnections {
    /// Gives each its entry. To be called before the rules are in force, and [`look_again`](Self::look_again) thereafter. Never
    /// fails: without entries, connections may be reset, but nothing gets past the rules.
    pub(super) fn keep(kernel: &mut Kernel, families: Vec<FamilyName>, listeners: BTreeSet<Port>) -> Self {
        let mut kept = Self { families, listeners, seen: HashSet::new(), made: 0, problem: None };
        kept.look(kernel, true);
        kept
    }

    /// Gives an entry to those that have opened since, and tells the report what there is to say.
    pub(super) fn look_again(mut self, kernel: &mut Kernel, report: &mut Report) {
        if self.problem.is_none() {
            self.look(kernel, false);
        }
        let about = "open connections";
        match self.problem {
            Some(problem) => {
                let text = format!("those that were opened before the rules may be reset: {problem}");
                report.notes.push(Note::warning(about, text));
            }
            None if self.made > 0 => {
                let text = format!("{} that were opened before the rules go on as they were opened", self.made);
                report.notes.push(Note::info(about, text));
            }
            None => {}
        }
    }

    fn look(&mut self, kernel: &mut Kernel, first: bool) {
        if let Err(problem) = self.try_to_look(kernel, first) {
            self.problem = Some(problem);
        }
    }

    fn try_to_look(&mut self, kernel: &mut Kernel, first: bool) -> Result<(), String> {
        let sockets = kernel.sock_diag().and_then(tracking::sockets).map_err(|stop| {
            format!("the open sockets cannot be listed: {}", why(&stop, "sock_diag", "inet_diag and tcp_diag"))
        })?;
        let open: Vec<_> = self
            .families
            .iter()
            .flat_map(|family| sockets.connections(*family, &self.listeners))
            .filter(|connection| !self.seen.contains(&connection.tuple))
            .collect();
        let refused = |stop| {
            format!("connection tracking cannot be told of them: {}", why(&stop, "ctnetlink", "nf_conntrack_netlink"))
        };
        let looked = kernel.netfilter().and_then(|socket| {
            let known = match first {
                true => tracking::known(socket, &self.families, &sockets.ends())?,
                false => HashSet::new(),
            };
            let unknown: Vec<_> = open
                .iter()
                .filter(|one| !known.contains(&one.tuple) && !known.contains(&one.tuple.reversed()))
                .copied()
                .collect();
            tracking::create(socket, &unknown)
        });
        // Where nothing is open, nothing can be reset.
        if open.is_empty() {
            return Ok(());
        }
        let made = looked.map_err(refused)?;
        self.made += made.entries;
        self.seen.extend(open.iter().map(|connection| connection.tuple));
        match made.errno {
            None => Ok(()),
            Some(Errno::ENOMEM) => Err(format!(
                "the table of connection tracking has no room for {} of them (net.netfilter.nf_conntrack_max)",
                made.failed
            )),
            Some(errno) => Err(format!("connection tracking does not take {} of them: {}", made.failed, errno.desc())),
        }
    }
}

/// What a refusal means.
fn why(stop: &Stop, part: &str, modules: &str) -> String {
    match stop {
        Stop::Missing | Stop::System(_, Errno::EINVAL | Errno::ENOENT | Errno::EOPNOTSUPP) => {
            format!("this kernel has no {part} (modules {modules})")
        }
        Stop::System(_, Errno::EPERM | Errno::EACCES) => format!("{part} is refused"),
        Stop::System(_, errno) => format!("{part}: {}", errno.desc()),
        Stop::Unknown => format!("an answer of {part} was lost"),
        Stop::TooLong(_) | Stop::Restless | Stop::Invalid(_) => format!("{part} gave no answer that is understood"),
    }
}

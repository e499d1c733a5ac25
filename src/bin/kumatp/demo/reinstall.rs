//! Replacing the rules while connections are made.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kumatp::Plan;
use kumatp::engine::Engine as _;
use kumatp::engine::netlink::Netlink;

use super::Result;
use super::traffic::{ConnectionResult, Protocol, visit};
use super::world::{APP, INBOUND_PORT, Namespace, OUTBOUND_PORT, WEB};

/// Installs the two plans in turn, while clients on both sides make connections that either plan
/// redirects. Returns how often rules were replaced, and what happened to the connections.
pub(crate) fn under_traffic(
    engine: &Netlink,
    plans: [&Plan; 2],
    times: usize,
    outside: &Namespace,
) -> Result<(usize, Tally)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let outbound = scope.spawn(|| visit_until(&stop, WEB, &ConnectionResult::Relayed(OUTBOUND_PORT)));
        let inbound = scope.spawn(|| -> io::Result<Tally> {
            outside.enter()?;
            Ok(visit_until(&stop, APP, &ConnectionResult::Relayed(INBOUND_PORT)))
        });
        let replaced = (0..times).try_fold(0, |replaced, round| {
            thread::sleep(Duration::from_millis(5));
            engine.apply(plans[round % 2]).map(|report| replaced + usize::from(report.changed))
        });
        stop.store(true, Ordering::Relaxed);
        let panicked = |_| "a client has panicked";
        let tally = outbound.join().map_err(panicked)?.and(inbound.join().map_err(panicked)??);
        Ok((replaced?, tally))
    })
}

fn visit_until(stop: &AtomicBool, target: SocketAddr, expected: &ConnectionResult) -> Tally {
    let mut tally = Tally::default();
    let end = Instant::now() + Duration::from_secs(3);
    while !stop.load(Ordering::Relaxed) && Instant::now() < end {
        tally.connections += 1;
        match visit(target, Protocol::Tcp) {
            outcome if outcome == *expected => {}
            ConnectionResult::Direct => tally.unredirected += 1,
            other => {
                tally.failed += 1;
                tally.problem.get_or_insert(other);
            }
        }
    }
    tally
}

/// What happened to many connections.
#[derive(Default)]
pub(crate) struct Tally {
    connections: usize,
    unredirected: usize,
    failed: usize,
    /// What happened to the first that failed.
    problem: Option<ConnectionResult>,
}

impl Tally {
    /// Whether there were connections, and all were redirected.
    pub(crate) fn is_well(&self) -> bool {
        self.connections > 0 && self.unredirected + self.failed == 0
    }

    fn and(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            unredirected: self.unredirected + other.unredirected,
            failed: self.failed + other.failed,
            problem: self.problem.or(other.problem),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, unredirected, failed, problem } = self;
        write!(f, "{connections} connections, {unredirected} unredirected, {failed} failed")?;
        problem.as_ref().map_or(Ok(()), |problem| write!(f, " ({problem})"))
    }
}

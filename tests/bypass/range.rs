//! Sends the packets of cases, answers for their peers as far as the host wants to hear more, and notes who heard of each.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use crate::cases::{self, Case, token};
use crate::lab::{Lab, heard};
use crate::segment::{ACK, PSH, SYN, Segment, TCP};

/// How long an ordinary connection may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who heard of a case.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    /// Listeners that accepted its connection, or heard what it says.
    pub(crate) heard: BTreeSet<&'static str>,
    /// What the greetings say that came back to it.
    pub(crate) greeted: BTreeSet<String>,
    /// Where it wanted to go, as a listener of the sidecar knows.
    pub(crate) original: Option<SocketAddr>,
}

impl Verdict {
    /// Whether a server of this name knows of the case, by its own account or by the packets that came back.
    pub(crate) fn reached(&self, who: &str) -> bool {
        self.heard.contains(who) || self.greeted.iter().any(|greeting| greeting.contains(who))
    }
}

/// Who sends, as listeners see it.
type Key = (bool, u16);

fn key(addr: SocketAddr) -> Key {
    (addr.is_ipv4(), addr.port())
}

struct Range<'a> {
    lab: &'a Lab,
    cases: Vec<&'a Case>,
    numbers: HashMap<Key, usize>,
    verdicts: Vec<Verdict>,
    open: Vec<(&'static str, TcpStream)>,
}

/// Sends all cases, and waits until connections that began after them have been served. `last_port` and the next two are theirs.
pub(crate) fn shoot(lab: &Lab, cases: &[Case], last_port: u16) -> io::Result<Vec<Verdict>> {
    let last: Vec<_> = [0, 10].iter().flat_map(|more| cases::ordinary(last_port + more)).collect();
    let all: Vec<_> = cases.iter().chain(&last).collect();
    let numbers = all.iter().enumerate().map(|(number, case)| (key(case.from), number)).collect();
    let mut range = Range { lab, numbers, verdicts: vec![Verdict::default(); all.len()], cases: all, open: Vec::new() };
    range.look()?;
    let rounds = cases.iter().map(|case| case.rounds.len()).max().unwrap_or(0);
    for round in 0..rounds {
        for frame in cases.iter().filter_map(|case| case.rounds.get(round)).flatten() {
            lab.link.send(frame.hardware, &frame.packet)?;
            range.look()?;
        }
    }
    for (number, case) in last.iter().enumerate() {
        lab.link.send(None, &case.rounds[0][0].packet)?;
        range.await_served(cases.len() + number)?;
    }
    range.look()?;
    let end = linger { l_onoff: 1, l_linger: 0 };
    for (_, stream) in &range.open {
        let _ = setsockopt(&stream.as_fd(), sockopt::Linger, &end);
    }
    range.verdicts.truncate(cases.len());
    Ok(range.verdicts)
}

impl Range<'_> {
    fn await_served(&mut self, number: usize) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.verdicts[number].heard.is_empty() || self.verdicts[number].greeted.is_empty() {
            if Instant::now() > end {
                return Err(io::Error::other("an ordinary connection is not served"));
            }
            thread::sleep(Duration::from_micros(200));
            self.look()?;
        }
        Ok(())
    }

    /// Notes all that was seen since the last time, and answers what wants an answer.
    fn look(&mut self) -> io::Result<()> {
        for seen in self.lab.link.left()?.into_iter().filter(|seen| seen.protocol == TCP) {
            let Some(number) = self.numbers.get(&key(seen.to)).copied() else { continue };
            let case = self.cases[number];
            if !seen.payload.is_empty() {
                self.verdicts[number].greeted.insert(String::from_utf8_lossy(&seen.payload).into_owned());
            }
            if seen.flags & (SYN | ACK) == SYN | ACK {
                let to = SocketAddr::new(case.to.ip(), seen.from.port());
                let mut answer = Segment::new(case.from, to, ACK);
                (answer.sequence, answer.acknowledged) = (seen.acknowledged, seen.sequence.wrapping_add(1));
                self.lab.link.send(None, &answer.packet())?;
                let says = answer.with(|answer| (answer.flags, answer.data) = (PSH | ACK, token(case.from)));
                self.lab.link.send(None, &says.packet())?;
            }
        }
        for accepted in self.lab.accepted() {
            if let Some(number) = self.numbers.get(&key(accepted.peer)) {
                let verdict = &mut self.verdicts[*number];
                verdict.heard.insert(accepted.who);
                verdict.original = verdict.original.or(accepted.original);
            }
            self.open.push((accepted.who, accepted.stream));
        }
        let mut said = Vec::new();
        self.open.retain(|(who, stream)| {
            let words = heard(stream);
            let is_over = !words.is_empty();
            said.extend(is_over.then(|| (*who, stream.local_addr().is_ok_and(|addr| addr.is_ipv4()), words)));
            !is_over
        });
        for (who, is_v4, words) in said {
            let number = self.cases.iter().position(|case| {
                let token = token(case.from);
                case.from.is_ipv4() == is_v4 && words.windows(token.len()).any(|part| part == token)
            });
            if let Some(number) = number {
                self.verdicts[number].heard.insert(who);
            }
        }
        Ok(())
    }
}

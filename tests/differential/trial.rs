//! One configuration and its packets, on one backend.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::sync::Mutex;

use arbitrary::Unstructured;
use kumatp::model::{EngineName, Plan};
use kumatp::net::{FamilyName, InterfaceName};
use kumatp::nftables::Native;
use kumatp::render::iptables;
use kumatp::simulate::{AnyPacket, Direction, Explanation, Simulator};
use kumatp::{Config, Facts, policy};

use crate::backend::Backend;
use crate::cases::Host;
use crate::flight::{self, Sightings};
use crate::ground::Ground;
use crate::shot::{self, Shot, Skipped};
use crate::{compare, configurations, foreign, say, wire};

/// How many disagreements are printed in full.
const PRINTED: usize = 12;

/// A configuration and packets for it.
pub(crate) struct Trial {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) facts: Facts,
    pub(crate) plan: Plan,
    pub(crate) shots: Vec<Shot>,
}

impl Trial {
    /// Of this configuration.
    pub(crate) fn new(name: String, config: Config, facts: Facts, shots: Vec<Shot>) -> Self {
        let plan = policy::plan(&config, &facts).expect("the configuration fits the facts");
        Self { name, config, facts, plan, shots }
    }

    /// Of this configuration, with nothing to send.
    pub(crate) fn without_packets(name: &str, (config, facts): Host) -> Self {
        Self::new(name.to_owned(), config, facts, Vec::new())
    }

    /// The same with packets from the edges of the configuration.
    pub(crate) fn with_packets(&self, seed: u64, count: usize) -> Self {
        let bytes = random_bytes(seed);
        let u = &mut Unstructured::new(&bytes);
        let first_port = 20000 + (seed % 16) as u16 * 2000;
        let shots = shot::draw(&self.config, &self.facts, u, count, first_port, &mut Skipped::new());
        let shots = shots.expect("there are enough bytes");
        Self::new(self.name.clone(), self.config.clone(), self.facts.clone(), shots)
    }

    /// The one with this number, of those that follow from a seed.
    pub(crate) fn random(seed: u64, number: u64, packets: usize, skipped: &mut Skipped) -> Self {
        let bytes = random_bytes(seed ^ number.wrapping_mul(0xff51_afd7_ed55_8ccd));
        let u = &mut Unstructured::new(&bytes);
        let (config, facts) = configurations::any(u).expect("there are enough bytes");
        // Other ports than those of the configurations before, whose last packets may come late.
        let first_port = 20000 + (number % 256) as u16 * 128;
        let shots = shot::draw(&config, &facts, u, packets, first_port, skipped).expect("there are enough bytes");
        Self::new(format!("configuration {number} of seed {seed}"), config, facts, shots)
    }

    /// What the simulator says of a packet and of the answer to it.
    pub(crate) fn simulate(&self, backend: Backend, shot: &Shot) -> Explanation<'_> {
        let engine = if backend.is_native() { EngineName::Netlink } else { EngineName::Iptables };
        // Whatever the facts say of its name.
        Simulator::of(&self.plan, engine).with_loopback(InterfaceName::lo()).explain(&shot.packet)
    }

    /// The native form must give the same answers to all of its packets.
    fn check_lowering(&self) {
        let native = Native::of(&self.plan);
        let by_native = Simulator::of_native(&native).with_loopback(InterfaceName::lo());
        let by_plan = Simulator::of(&self.plan, EngineName::Netlink).with_loopback(InterfaceName::lo());
        for shot in &self.shots {
            let (expected, got) = (by_plan.run(&shot.packet), by_native.run(&shot.packet));
            let same = (&expected.verdict, expected.zone, &expected.log) == (&got.verdict, got.zone, &got.log);
            assert!(same, "{}: {}\nplan:   {expected}\nnative: {got}", self.name, shot.packet);
        }
    }
}

/// Bytes that follow from a seed (SplitMix64, Steele, Lea, Flood 2014).
pub(crate) fn random_bytes(mut state: u64) -> Vec<u8> {
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..8192).flat_map(|_| next().to_le_bytes()).collect()
}

/// A backend and the ground that its rules are on.
pub(crate) struct Bench<'a> {
    pub(crate) backend: Backend,
    ground: &'a Ground,
    /// How many disagreements were printed, on all backends.
    printed: &'a Mutex<usize>,
}

/// Works with a backend on new ground, from where the host is.
pub(crate) fn on_new_ground(
    backend: Backend,
    printed: &Mutex<usize>,
    work: impl Fn(&mut Bench<'_>, &mut Tally) + Sync,
) -> Tally {
    let ground = Ground::new().expect("the ground can be made");
    let mut tally = Tally::default();
    ground.host.enter(|| work(&mut Bench { backend, ground: &ground, printed }, &mut tally));
    tally
}

impl Bench<'_> {
    /// Puts the rules into force, in place of those before, sends the packets and compares. Returns where each was seen.
    pub(crate) fn run(&mut self, trial: &Trial, tally: &mut Tally) -> Vec<Sightings> {
        self.backend.install(self.ground, &trial.plan).unwrap_or_else(|error| {
            panic!("{}, {:?}: {error}\n{}", trial.name, self.backend, iptables::plan(&trial.plan));
        });
        self.forget();
        if self.backend.is_native() {
            trial.check_lowering();
        }
        let explanations: Vec<_> = trial.shots.iter().map(|shot| trial.simulate(self.backend, shot)).collect();
        tally.configurations += 1;
        self.compare(trial, &explanations, compare::complaints, tally)
    }

    /// Sends the packets and compares with what was said of each, by these complaints.
    fn compare(
        &self,
        trial: &Trial,
        explanations: &[Explanation<'_>],
        complain: impl Fn(&Shot, &Explanation<'_>, &Sightings) -> Vec<String>,
        tally: &mut Tally,
    ) -> Vec<Sightings> {
        let complaints = |number: usize, seen: &Sightings| complain(&trial.shots[number], &explanations[number], seen);
        let seen = flight::fly(self.ground, &trial.config, &trial.facts, &trial.shots, |number, seen| {
            complaints(number, seen).is_empty()
        })
        .expect("packets can be sent and seen");
        for (number, (shot, seen)) in trial.shots.iter().zip(&seen).enumerate() {
            let explanation = &explanations[number];
            tally.count(shot, explanation, seen);
            let wrong = complaints(number, seen);
            if !wrong.is_empty() {
                tally.disagreements += 1;
                self.print(trial, shot, explanation, seen, &wrong);
            }
        }
        seen
    }

    /// Puts the rules into force and sends the packets, without a look at where they end.
    pub(crate) fn send_unjudged(&mut self, trial: &Trial, tally: &mut Tally) {
        self.backend.install(self.ground, &trial.plan).expect("the rules load");
        self.forget();
        flight::fly(self.ground, &trial.config, &trial.facts, &trial.shots, |_, _| true).expect("packets can be sent");
        tally.sequences += trial.shots.len();
    }

    /// Puts the rules into force, sends the packets and compares, with connection tracking as it is.
    pub(crate) fn send_after(&mut self, trial: &Trial, tally: &mut Tally) {
        self.backend.install(self.ground, &trial.plan).expect("the rules load");
        let explanations: Vec<_> = trial.shots.iter().map(|shot| trial.simulate(self.backend, shot)).collect();
        self.compare(trial, &explanations, compare::ends_wrong, tally);
    }

    /// Sends the packets with rules of others in force as well, and compares where that is decided.
    pub(crate) fn compare_beside_others<'r>(
        &self,
        trial: &Trial,
        others: &str,
        explain: &dyn Fn(&AnyPacket) -> Explanation<'r>,
        tally: &mut Tally,
    ) {
        let explanations: Vec<_> = trial.shots.iter().map(|shot| explain(&shot.packet)).collect();
        let before = tally.disagreements;
        let complain =
            |shot: &Shot, explanation: &Explanation<'_>, seen: &Sightings| match foreign::is_undecided(explanation) {
                true => Vec::new(),
                false => compare::ends_wrong(shot, explanation, seen),
            };
        self.compare(trial, &explanations, complain, tally);
        tally.beside_others += explanations.len();
        tally.undecided += explanations.iter().filter(|explanation| foreign::is_undecided(explanation)).count();
        if tally.disagreements > before {
            say(&format!("beside these rules of others:\n{others}"));
        }
    }

    /// Loads rules of others, or removes them.
    pub(crate) fn restore(&self, family: FamilyName, text: &str) {
        self.backend.restore(self.ground, family, text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }

    /// Empties connection tracking.
    pub(crate) fn forget(&self) {
        self.ground.forget().expect("connection tracking can be emptied");
    }

    /// Removes the rules, of which nothing may be left.
    pub(crate) fn uninstall(&mut self, tally: &mut Tally) {
        self.backend.remove(self.ground).expect("the rules can be removed");
        let left: String = ["iptables-legacy-save", "ip6tables-legacy-save", "nft list ruleset"]
            .map(|command| {
                let mut words = command.split(' ');
                let mut program = Command::new(words.next().expect("a program"));
                let output = program.args(words).output().expect("the program runs");
                String::from_utf8_lossy(&output.stdout).to_lowercase()
            })
            .concat();
        assert!(!left.contains("kuma"), "{:?} leaves something behind:\n{left}", self.backend);
        tally.uninstalled += 1;
    }

    fn print(&self, trial: &Trial, shot: &Shot, explanation: &Explanation<'_>, seen: &Sightings, wrong: &[String]) {
        let mut printed = self.printed.lock().expect("nobody panics with it");
        *printed += 1;
        if *printed > PRINTED {
            return;
        }
        let (name, backend, packet) = (&trial.name, self.backend, &shot.packet);
        say(&format!(
            "--- {name}, {backend:?}: {packet}\n{}\n{explanation}\n    but: {}\n{seen:?}",
            explanation.request,
            wrong.join("; ")
        ));
        if std::env::var_os("KUMATP_DIFFERENTIAL_RULES").is_some() {
            let facts = serde_json::to_string(&trial.facts).expect("facts have a JSON form");
            say(&format!("{:?}\n{facts}\n{}", trial.config, iptables::plan(&trial.plan)));
        }
    }
}

/// What was done and found on one backend.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) configurations: usize,
    pub(crate) packets: usize,
    pub(crate) disagreements: usize,
    pub(crate) uninstalled: usize,
    /// Packets that came before others of their connection.
    pub(crate) sequences: usize,
    /// Packets that met rules of others, and those of them of which it is not known where they end.
    pub(crate) beside_others: usize,
    pub(crate) undecided: usize,
    pub(crate) skipped: Skipped,
    kinds: BTreeMap<String, usize>,
}

impl Tally {
    fn count(&mut self, shot: &Shot, explanation: &Explanation<'_>, seen: &Sightings) {
        let outcome = &explanation.request;
        self.packets += 1;
        let direction = match shot.direction {
            Direction::Outbound => "outbound",
            Direction::Inbound => "inbound",
            Direction::Forwarded => "forwarded",
        };
        let words: String = outcome.verdict.to_string().chars().take_while(|c| !c.is_ascii_digit()).collect();
        let verdict = words.split(" to port").next().unwrap_or_default();
        *self.kinds.entry(format!("{direction} {verdict}")).or_default() += 1;
        if outcome.zone != 0 {
            *self.kinds.entry(format!("in zone {}", outcome.zone)).or_default() += 1;
        }
        if shot.flow.protocol == wire::UDP && !seen.heard.is_empty() {
            let how = if seen.answered == Some(true) { "answered" } else { "whose answer is lost" };
            *self.kinds.entry(format!("queries that the sidecar hears, {how}")).or_default() += 1;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { configurations, packets, disagreements, uninstalled, sequences, beside_others, undecided, .. } =
            self;
        write!(
            f,
            "{configurations} configurations, {packets} packets, {disagreements} disagreements, {uninstalled} uninstallations; \
             {sequences} sequences; {beside_others} packets beside rules of others, {undecided} of them undecided"
        )?;
        for (what, counts) in [
            ("ends", self.kinds.iter().map(|(a, b)| (a.as_str(), b)).collect::<Vec<_>>()),
            ("not sent", self.skipped.iter().map(|(a, b)| (*a, b)).collect()),
        ] {
            write!(f, "\n  {what}:")?;
            for (kind, count) in counts {
                write!(f, " {count} {kind};")?;
            }
        }
        Ok(())
    }
}

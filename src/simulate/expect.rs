//! Assertions for the tests of those who embed this crate.

use super::Simulator;
use super::explain::{Arrival, Explanation};
use super::outcome::{Outcome, Verdict};
use super::packet::AnyPacket;

impl<'r> Simulator<'r> {
    /// States the expected outcome of a packet, for tests: each method behind it panics if something else does, and then shows
    /// the trace.
    ///
    /// ```
    /// use kumatp::model::EngineName;
    /// use kumatp::simulate::Simulator;
    /// # use kumatp::{Config, Facts, net::Uid, policy};
    ///
    /// # let mut config = Config::default();
    /// # config.redirect.inbound.exclude_ports = "22".parse()?;
    /// # let plan = policy::plan(&config, &Facts::capable_host(Uid::SIDECAR))?;
    /// let rules = Simulator::of(&plan, EngineName::Netlink);
    /// rules.expect("tcp 10.1.2.3:443 uid 1000").redirected_to(15001).answered();
    /// rules.expect("tcp 10.1.2.3:443 uid 5678").delivered();
    /// rules.expect("inbound tcp 10.0.0.5:22").delivered().because("redirect.inbound.excludePorts[0]");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If `packet` is no text of an [`AnyPacket`].
    #[track_caller]
    pub fn expect(&self, packet: &str) -> Expectation<'r> {
        match packet.parse::<AnyPacket>() {
            Ok(packet) => self.expect_packet(&packet),
            Err(error) => panic!("{packet:?} is no packet: {error}"),
        }
    }

    /// The same with a packet that was made by methods.
    pub fn expect_packet(&self, packet: &AnyPacket) -> Expectation<'r> {
        Expectation { explanation: self.explain(packet) }
    }
}

/// What became of a packet, to be compared with what should; see [`Simulator::expect`].
#[derive(Debug, Clone)]
#[must_use = "nothing is compared until a method says with what"]
pub struct Expectation<'r> {
    explanation: Explanation<'r>,
}

impl<'r> Expectation<'r> {
    /// It is not redirected.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn delivered(self) -> Matched<'r> {
        self.ends(&Verdict::Delivered)
    }

    /// It is redirected to this port of the host.
    ///
    /// # Panics
    /// If it is not, or to another port.
    #[track_caller]
    pub fn redirected_to(self, port: u16) -> Matched<'r> {
        match crate::net::Port::new(port) {
            Some(port) => self.ends(&Verdict::Redirected { port }),
            None => panic!("0 is no port"),
        }
    }

    /// It is dropped.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn dropped(self) -> Matched<'r> {
        self.ends(&Verdict::Dropped)
    }

    /// It ends like this.
    ///
    /// # Panics
    /// If it ends otherwise.
    #[track_caller]
    pub fn ends(self, verdict: &Verdict) -> Matched<'r> {
        let matched = Matched { explanation: self.explanation };
        matched.compare(matched.explanation.request.verdict == *verdict, &verdict.to_string());
        matched
    }
}

/// A packet that ended as expected, and what else may be expected of it.
#[derive(Debug, Clone)]
pub struct Matched<'r> {
    explanation: Explanation<'r>,
}

impl<'r> Matched<'r> {
    /// The rule that decided came from this configuration key: `redirect.outbound.excludePorts[2]`, or without the number for
    /// any item of a list.
    ///
    /// # Panics
    /// If it came from another, or there is no such rule.
    #[track_caller]
    pub fn because(self, key: &str) -> Self {
        let matches = self.outcome().key().is_some_and(|origin| origin.key == key || origin.to_string() == key);
        self.compare(matches, &format!("a rule from {key}"));
        self
    }

    /// It is tracked in this conntrack zone.
    ///
    /// # Panics
    /// If it is tracked in another.
    #[track_caller]
    pub fn in_zone(self, zone: u16) -> Self {
        self.compare(self.outcome().zone == zone, &format!("zone {zone}"));
        self
    }

    /// It leaves this many lines in the kernel log.
    ///
    /// # Panics
    /// If it leaves more or fewer.
    #[track_caller]
    pub fn logged(self, lines: usize) -> Self {
        self.compare(self.outcome().log.len() == lines, &format!("{lines} lines in the kernel log"));
        self
    }

    /// Its answer comes to who asked.
    ///
    /// # Panics
    /// If it does not, or there is no answer to be expected.
    #[track_caller]
    pub fn answered(self) -> Self {
        let arrival = self.explanation.reply.as_ref().map(|reply| &reply.arrival);
        self.compare(matches!(arrival, Some(Arrival::AsSent | Arrival::TranslatedBack)), "an answer that arrives");
        self
    }

    /// Its answer does not come to who asked.
    ///
    /// # Panics
    /// If it does, or there is no answer to be expected.
    #[track_caller]
    pub fn unanswered(self) -> Self {
        let arrival = self.explanation.reply.as_ref().map(|reply| &reply.arrival);
        self.compare(matches!(arrival, Some(Arrival::Lost { .. })), "an answer that does not arrive");
        self
    }

    /// All that is known of it.
    pub fn explanation(&self) -> &Explanation<'r> {
        &self.explanation
    }

    fn outcome(&self) -> &Outcome<'r> {
        &self.explanation.request
    }

    #[track_caller]
    fn compare(&self, holds: bool, expected: &str) {
        if holds {
            return;
        }
        let Explanation { packet, request, reply, .. } = &self.explanation;
        let reply = reply.as_ref().map(|reply| match &reply.arrival {
            Arrival::Lost { reason } => format!("\nreply:    {}\nlost:     {reason}\n{}", reply.packet, reply.outcome),
            Arrival::Undecided { .. } => format!("\nreply:    {}\n{}", reply.packet, reply.outcome),
            _ => String::new(),
        });
        panic!("packet:   {packet}\nexpected: {expected}\ngot:      {request}{}", reply.unwrap_or_default());
    }
}

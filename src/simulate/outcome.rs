//! The outcome of a packet, and why.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::error::visible;
use crate::iptables_save::SavedRule;
use crate::model::{Comment, LogLevel, LogPrefix, Origin, Rule};
use crate::net::{Family, FamilyName, Port};
use crate::nftables;
use crate::render;

/// The outcome of a packet: where it ends, and which rules it met on the way.
///
/// As text, the verdict and the trace. As JSON an object with `verdict` (see [`Verdict`]), `zone`, `log`, `trace` and, where a rule
/// decided, `decidedBy`, its place in the trace.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Outcome<'r> {
    /// Where it ends.
    pub verdict: Verdict,
    /// The conntrack zone that it is tracked in; 0 is the one for all that no rule puts elsewhere.
    pub zone: u16,
    /// The lines that it leaves in the kernel log, in order.
    pub log: Vec<LogLine>,
    /// The rules that matched, in the order in which the packet met them.
    pub trace: Vec<Step<'r>>,
    /// Which step of the trace decided; `None` if no rule concerns the packet.
    pub decided_by: Option<usize>,
}

impl<'r> Outcome<'r> {
    /// The rule that decided; `None` if no rule concerns the packet.
    pub fn deciding(&self) -> Option<&Step<'r>> {
        self.trace.get(self.decided_by?)
    }

    /// The configuration key that the deciding rule came from.
    pub fn key(&self) -> Option<Origin> {
        self.deciding()?.key()
    }

    /// Takes back what was decided, for a reason that is none of the rules'.
    pub(super) fn leave_undecided(&mut self, reason: &str) {
        self.verdict = Verdict::Undecided { reason: reason.to_owned() };
        self.decided_by = None;
    }
}

/// Where a packet ends. As JSON an object: `{"end": "redirected", "port": 15001}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(tag = "end", rename_all = "camelCase")]
#[non_exhaustive]
pub enum Verdict {
    /// It is not redirected: it goes where it was sent.
    Delivered,
    /// It goes to a port of this host.
    Redirected {
        /// The port. As JSON a number.
        #[serde(serialize_with = "number")]
        port: Port,
    },
    /// It is gone.
    Dropped,
    /// It goes where its connection goes: that was decided when the connection began.
    Established,
    /// The rules have a part that is not known, and the answer depends on it. The last step of the trace is the rule.
    Undecided {
        /// What is not known.
        reason: String,
    },
}

fn number<S: Serializer>(port: &Port, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(port.number())
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered as sent"),
            Self::Redirected { port } => write!(f, "redirected to port {port}"),
            Self::Dropped => f.write_str("dropped"),
            Self::Established => f.write_str("delivered as its connection is"),
            Self::Undecided { reason } => write!(f, "undecided: {reason}"),
        }
    }
}

/// A line in the kernel log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct LogLine {
    /// What it begins with.
    pub prefix: LogPrefix,
    /// How severe it is.
    pub level: LogLevel,
}

/// A rule that matched.
///
/// As JSON an object with `table`, `chain`, `number`, `effect` and, where there are any, `rule` (the rule's text), `purpose` and `key`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Step<'r> {
    pub(super) place: RulePosition<'r>,
    /// What it did.
    pub effect: Effect,
}

impl<'r> Step<'r> {
    /// The table: iptables' name, or for nf_tables `ip kuma-mesh` or `ip6 kuma-mesh`.
    pub fn table(&self) -> &'r str {
        self.place.table
    }

    /// The chain.
    pub fn chain(&self) -> &'r str {
        self.place.chain
    }

    /// Which rule of the chain it is, counted from 1 in the order in which packets meet them; `None` for what is no rule of
    /// the plan: the policy of a chain, and what the netlink engine adds.
    pub fn number(&self) -> Option<usize> {
        self.place.rule.map(|_| self.place.index + 1)
    }

    /// The rule as iptables, or for nf_tables as nft, writes it, without its comment; `None` where there is no number.
    pub fn rule(&self) -> Option<String> {
        self.place.text()
    }

    /// What it is for, in words.
    pub fn purpose(&self) -> Option<&'r str> {
        self.place.rule.map_or(self.place.words, Described::purpose)
    }

    /// The configuration key that it came from.
    pub fn key(&self) -> Option<Origin> {
        self.place.key()
    }
}

/// `nat OUTPUT 3: -p tcp -j RETURN`, then what it is for and its key.
impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table(), self.chain())?;
        if let (Some(number), Some(rule)) = (self.number(), self.rule()) {
            write!(f, " {number}: {rule}")?;
        }
        match (self.purpose(), self.key()) {
            (Some(words), Some(key)) => write!(f, "  # {words} ({key})"),
            (Some(words), None) => write!(f, "  # {words}"),
            (None, Some(key)) => write!(f, "  # {key}"),
            (None, None) => Ok(()),
        }
    }
}

/// What a rule did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Effect {
    /// It ended the packet's way through the chains of this table.
    Accepted,
    /// The packet is gone.
    Dropped,
    /// Back to the chain before; from a built-in one, as [`Accepted`](Self::Accepted).
    Returned,
    /// On in another chain.
    Called,
    /// It translated the destination to a port of this host.
    Redirected,
    /// It wrote a line into the kernel log.
    Logged,
    /// It chose the conntrack zone, or would have if none had been chosen before.
    Tracked,
    /// It keeps the packet out of connection tracking, so that its connection is not translated.
    Untracked,
    /// Nothing that matters here.
    Passed,
    /// It is not known what it does, or whether it matches.
    Unknown,
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict)?;
        if self.zone != 0 {
            write!(f, ", tracked in zone {}", self.zone)?;
        }
        for line in &self.log {
            write!(f, ", logged with the prefix '{}'", visible(line.prefix.as_str()))?;
        }
        if self.trace.is_empty() {
            return f.write_str("\n  no rule matches it");
        }
        for (index, step) in self.trace.iter().enumerate() {
            let mark = if Some(index) == self.decided_by { '>' } else { ' ' };
            write!(f, "\n{mark} {step}")?;
        }
        Ok(())
    }
}

impl Serialize for Outcome<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Outcome", 5)?;
        object.serialize_field("verdict", &self.verdict)?;
        object.serialize_field("zone", &self.zone)?;
        object.serialize_field("log", &self.log)?;
        match self.decided_by {
            Some(index) => object.serialize_field("decidedBy", &index)?,
            None => object.skip_field("decidedBy")?,
        }
        object.serialize_field("trace", &self.trace)?;
        object.end()
    }
}

impl Serialize for Step<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Members<'a> {
            table: &'a str,
            chain: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            number: Option<usize>,
            #[serde(skip_serializing_if = "Option::is_none")]
            rule: Option<String>,
            effect: Effect,
            #[serde(skip_serializing_if = "Option::is_none")]
            purpose: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            key: Option<Origin>,
        }
        Members {
            table: self.table(),
            chain: self.chain(),
            number: self.number(),
            rule: self.rule(),
            effect: self.effect,
            purpose: self.purpose(),
            key: self.key(),
        }
        .serialize(serializer)
    }
}

/// Where a rule stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct RulePosition<'r> {
    family: FamilyName,
    table: &'r str,
    chain: &'r str,
    /// From 0.
    index: usize,
    rule: Option<&'r dyn Described>,
    words: Option<&'r str>,
}

impl<'r> RulePosition<'r> {
    pub(super) fn rule(
        family: FamilyName,
        table: &'r str,
        chain: &'r str,
        index: usize,
        rule: &'r dyn Described,
    ) -> Self {
        Self { family, table, chain, index, rule: Some(rule), words: None }
    }

    /// Of what is no rule.
    pub(super) fn added(family: FamilyName, table: &'r str, chain: &'r str, words: &'r str) -> Self {
        Self { family, table, chain, index: 0, rule: None, words: Some(words) }
    }
}

impl<'r> RulePosition<'r> {
    /// Whether it is no rule of a plan.
    pub(super) fn is_added(self) -> bool {
        self.rule.is_none()
    }

    /// The chain, with its table and family.
    pub(super) fn chain(self) -> (FamilyName, &'r str, &'r str) {
        (self.family, self.table, self.chain)
    }

    /// The rule as whoever lists rules would write it; nothing where it is none.
    pub(super) fn listed(self) -> Vec<String> {
        self.rule.map_or_else(Vec::new, |rule| rule.listed(self.family))
    }

    /// The rule's text, where it is a rule.
    pub(super) fn text(self) -> Option<String> {
        self.rule.map(|rule| rule.text(self.family))
    }

    /// The configuration key that it came from.
    pub(super) fn key(self) -> Option<Origin> {
        self.rule.and_then(Described::origin)
    }
}

/// Two places are equal if they are the same.
impl PartialEq for RulePosition<'_> {
    fn eq(&self, other: &Self) -> bool {
        let same_kind = self.rule.is_some() == other.rule.is_some() && self.words == other.words;
        let key = |place: &Self| (place.family, place.index, place.table.to_owned(), place.chain.to_owned());
        same_kind && key(self) == key(other)
    }
}

/// A rule that people can read about.
pub(super) trait Described: fmt::Debug + Sync {
    /// The rule without its comment.
    fn text(&self, family: FamilyName) -> String;

    /// The same as whoever lists rules would write it: one line or more.
    fn listed(&self, family: FamilyName) -> Vec<String> {
        vec![self.text(family)]
    }

    /// What it is for.
    fn purpose(&self) -> Option<&str>;

    /// The configuration key that it came from.
    fn origin(&self) -> Option<Origin>;
}

/// What a comment says that a rule is for; nothing, if it is the one that kumactl gives to every rule.
fn purpose(comment: &Comment) -> Option<&str> {
    Some(comment.words().unwrap_or(comment.as_str())).filter(|words| *words != "rule")
}

impl<F: Family> Described for Rule<F> {
    fn text(&self, _: FamilyName) -> String {
        let bare = Self { comment: None, ..self.clone() };
        render::iptables::rule(&bare, render::iptables::Style::Short)
    }

    fn listed(&self, family: FamilyName) -> Vec<String> {
        self.clone().split_multiport().into_iter().map(|rule| rule.canonical().text(family)).collect()
    }

    fn purpose(&self) -> Option<&str> {
        self.comment.as_ref().and_then(purpose)
    }

    fn origin(&self) -> Option<Origin> {
        self.origin
    }
}

impl Described for nftables::Rule {
    fn text(&self, family: FamilyName) -> String {
        let bare = Self { comment: None, ..self.clone() };
        render::nft::rule(&bare, family)
    }

    fn purpose(&self) -> Option<&str> {
        self.comment.as_ref().and_then(purpose)
    }

    fn origin(&self) -> Option<Origin> {
        self.origin()
    }
}

impl<F: Family> Described for SavedRule<F> {
    fn text(&self, family: FamilyName) -> String {
        match &self.rule {
            Ok(rule) => rule.text(family),
            Err(_) => self.spec.clone(),
        }
    }

    fn listed(&self, family: FamilyName) -> Vec<String> {
        match &self.rule {
            Ok(rule) => rule.listed(family),
            Err(_) => vec![self.spec.clone()],
        }
    }

    fn purpose(&self) -> Option<&str> {
        self.rule.as_ref().ok().and_then(Described::purpose)
    }

    fn origin(&self) -> Option<Origin> {
        None
    }
}

impl Described for nftables::Foreign {
    fn text(&self, family: FamilyName) -> String {
        [render::nft::conditions(&self.conditions, family), self.text.clone()].join("")
    }

    fn purpose(&self) -> Option<&str> {
        None
    }

    fn origin(&self) -> Option<Origin> {
        None
    }
}

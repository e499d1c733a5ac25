//! Rules that the model cannot say as a whole, in parts that it can say and parts that it cannot.

mod groups;
mod protocols;
mod reader;

use self::reader::Reader;
use super::SavedRule;
use crate::model::{Match, Target};
use crate::net::Family;

/// A rule in parts: if all `matches` hold, then `target`.
///
/// A packet that a known part does not hold for is not matched by the rule, whatever the unknown ones say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parts<F: Family> {
    /// The conditions. All of the rule's are in them: the parts that the model can say, and the text of the others.
    pub matches: Vec<PartialMatch<F>>,
    /// What happens if they hold.
    pub target: PartialTarget,
}

/// One of the conditions of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartialMatch<F: Family> {
    /// One that the model can say.
    Known(Match<F>),
    /// The protocol, where it is neither plain TCP nor plain UDP.
    Protocol {
        /// Its number; never 0, which is any protocol.
        number: u8,
        /// Whether it must be another.
        negated: bool,
    },
    /// The packet is in one of several connection-tracking states.
    CtState {
        /// The states; never none, and never what the model can say: just [`INVALID`](CtStates::INVALID), or just
        /// [`DNAT`](CtStates::DNAT) where it is not negated.
        states: CtStates,
        /// Whether it must be in none of them.
        negated: bool,
    },
    /// One that is not known here.
    Unknown {
        /// The option or match module with what belongs to it, as it is written.
        text: String,
    },
}

bitflags::bitflags! {
    /// Connection-tracking states, as `--ctstate` names them. A packet is in one of the first five; besides, its
    /// connection may be translated.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct CtStates: u8 {
        /// It fits no connection.
        const INVALID = 1;
        /// It opens a connection.
        const NEW = 1 << 1;
        /// It belongs to a connection that has been seen in both directions.
        const ESTABLISHED = 1 << 2;
        /// It opens a connection that another one announced, or is an ICMP error about one.
        const RELATED = 1 << 3;
        /// It was taken out of connection tracking.
        const UNTRACKED = 1 << 4;
        /// The source of its connection is translated.
        const SNAT = 1 << 5;
        /// The destination of its connection is translated.
        const DNAT = 1 << 6;
    }
}

/// What happens to a packet that all matches of a rule hold for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartialTarget {
    /// What the model can say. A [`Target::Jump`] may be to a chain that the text does not have: then it is a target
    /// that is not known here.
    Known(Target),
    /// On in another chain, and back after it, where the model refuses the chain's name.
    Jump {
        /// The other chain.
        chain: String,
    },
    /// On in another chain, and from its end to where this chain was jumped to from.
    Goto {
        /// The other chain.
        chain: String,
    },
    /// One that is not known here.
    Unknown {
        /// Its name: `DNAT`.
        name: String,
        /// Its options, as they are written.
        text: String,
    },
    /// None: on to the next rule.
    None,
}

impl PartialTarget {
    /// Whether it is certain that the packet goes on to the next rule with the same addresses, ports and
    /// connection-tracking state. Marks and the like, which the model knows no condition on, may be others; in the
    /// table mangle, that may also change the packet's route.
    pub fn goes_on(&self) -> bool {
        // Those that return XT_CONTINUE (linux net/netfilter/xt_*.c), without the ones that change what the model knows:
        // CT and NOTRACK.
        const GO_ON: [&str; 24] = [
            "AUDIT",
            "CHECKSUM",
            "CLASSIFY",
            "CONNMARK",
            "CONNSECMARK",
            "DSCP",
            "ECN",
            "HL",
            "HMARK",
            "IDLETIMER",
            "LED",
            "LOG",
            "MARK",
            "NFLOG",
            "RATEEST",
            "SECMARK",
            "SET",
            "TCPMSS",
            "TCPOPTSTRIP",
            "TEE",
            "TOS",
            "TRACE",
            "TTL",
            "ULOG",
        ];
        match self {
            Self::None | Self::Known(Target::Log { .. }) => true,
            Self::Unknown { name, .. } => GO_ON.contains(&name.as_str()),
            Self::Known(_) | Self::Jump { .. } | Self::Goto { .. } => false,
        }
    }
}

impl<F: Family> SavedRule<F> {
    /// The rule in parts. Those of a rule that the model can say are all known.
    ///
    /// ```
    /// use kumatp::model::Match;
    /// use kumatp::net::V4;
    /// use kumatp::iptables_save::{PartialMatch, PartialTarget};
    ///
    /// let text = "*nat\n-A OUTPUT -d 127.0.0.11/32 -p icmp -m addrtype --dst-type BROADCAST -j DNAT --to 10.0.0.1\nCOMMIT\n";
    /// let saved = kumatp::iptables_save::parse::<V4>(text)?;
    /// let parts = saved.tables[0].rules[0].parts();
    /// assert_eq!(parts.matches, [
    ///     PartialMatch::Known(Match::to("127.0.0.11/32".parse()?)),
    ///     PartialMatch::Protocol { number: 1, negated: false },
    ///     PartialMatch::Unknown { text: "-m addrtype --dst-type BROADCAST".into() },
    /// ]);
    /// assert_eq!(parts.target, PartialTarget::Unknown { name: "DNAT".into(), text: "--to 10.0.0.1".into() });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parts(&self) -> Parts<F> {
        match &self.rule {
            Ok(rule) => Parts {
                matches: rule.matches.iter().cloned().map(PartialMatch::Known).collect(),
                target: PartialTarget::Known(rule.target.clone()),
            },
            Err(_) => Parts::read(&self.spec),
        }
    }
}

impl<F: Family> Parts<F> {
    fn read(spec: &str) -> Self {
        Reader::read(spec).unwrap_or_else(|| Self {
            matches: vec![PartialMatch::Unknown { text: spec.to_owned() }],
            target: PartialTarget::Unknown {
                name: super::target(spec).unwrap_or_default().to_owned(),
                text: spec.to_owned(),
            },
        })
    }
}

#[cfg(test)]
mod tests;

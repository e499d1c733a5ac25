//! Rulesets as lists of steps: neighbouring rules that differ in one value are one step, and the two families'
//! rulesets are one.

use crate::model::{Chain, ChainName, CtState, End, Match, Owner, PortMatch, Rule, Ruleset, TableName, Target};
use crate::net::{Family, FamilyName, Protocol};

/// The chains of a ruleset, or of those of both families.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) chains: Vec<ChainSteps>,
}

#[derive(Debug)]
pub(super) struct ChainSteps {
    pub(super) table: TableName,
    pub(super) name: ChainName,
    pub(super) steps: Vec<Step>,
}

/// One rule, or several that ask for one of several values and do the same.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// What the rules' comments say.
    pub(super) words: Option<String>,
    /// The family that the step is for, if its conditions do not say so.
    pub(super) family: Option<FamilyName>,
    pub(super) protocol: Option<Protocol>,
    pub(super) conditions: Vec<Condition>,
    pub(super) target: Target,
    /// The listener of the sidecar that it redirects to.
    pub(super) listener: Option<&'static str>,
    /// How many rules it stands for.
    pub(super) rules: usize,
}

/// A condition: one of the values must hold, or none of them, as the words before them say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    /// The words before the values: `to port`.
    pub(super) lead: &'static str,
    pub(super) values: Vec<String>,
    kind: ConditionKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConditionKind {
    Address,
    Other,
    Negated,
    NegatedAddress,
}

impl Steps {
    /// The steps of one family.
    pub(super) fn of<F: Family>(ruleset: &Ruleset<F>) -> Self {
        let chains = ruleset.tables.iter().flat_map(|table| {
            table.chains.iter().map(|chain| ChainSteps {
                table: table.name,
                name: chain.name.clone(),
                steps: steps(chain),
            })
        });
        Self { chains: chains.collect() }
    }

    /// The steps of both families. What only one has says so, but for the rest of a chain that the other family has no
    /// rule to reach by.
    pub(super) fn merged(v4: Self, v6: Self) -> Self {
        let mut chains = Vec::new();
        let mut rest = v6.chains;
        for chain in v4.chains {
            let place = rest.iter().position(|other| other.table == chain.table && other.name == chain.name);
            let steps = match place.map(|place| rest.remove(place)) {
                Some(other) => merge(chain.steps, other.steps),
                None if chain.name.builtin().is_some() => merge(chain.steps, Vec::new()),
                None => chain.steps,
            };
            chains.push(ChainSteps { steps, ..chain });
        }
        chains.extend(rest.into_iter().map(|chain| match chain.name.builtin() {
            Some(_) => ChainSteps { steps: merge(Vec::new(), chain.steps), ..chain },
            None => chain,
        }));
        Self { chains }
    }
}

fn steps<F: Family>(chain: &Chain<F>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    // The condition whose values the last step lists, once it stands for rules that differ.
    let mut listed = None;
    for rule in chain.in_effect() {
        let step = Step::of(rule);
        if let Some(last) = steps.last_mut() {
            if let Some(place) =
                last.one_difference(&step).filter(|place| place.is_none() || listed.is_none() || *place == listed)
            {
                if let Some(place) = place {
                    last.conditions[place].values.extend(step.conditions[place].values.iter().cloned());
                    listed = Some(place);
                }
                last.rules += step.rules;
                continue;
            }
        }
        listed = None;
        steps.push(step);
    }
    steps
}

/// The steps of both families in an order that is right for each of them.
fn merge(v4: Vec<Step>, v6: Vec<Step>) -> Vec<Step> {
    let mut merged = Vec::new();
    let mut rest = v6.into_iter().peekable();
    let mut later: Vec<Step> = rest.clone().collect();
    later.reverse();
    for step in v4 {
        if !later.iter().rev().any(|other| step.is_like(other)) {
            merged.push(step.only(FamilyName::V4));
            continue;
        }
        for other in rest.by_ref() {
            later.pop();
            if step.is_like(&other) {
                merged.push(step.with_addresses_of(&other));
                break;
            }
            merged.push(other.only(FamilyName::V6));
        }
    }
    merged.extend(rest.map(|step| step.only(FamilyName::V6)));
    merged
}

impl Step {
    fn of<F: Family>(rule: &Rule<F>) -> Self {
        let mut step = Self {
            words: rule.comment.as_ref().map(|comment| comment.words().unwrap_or(comment.as_str()).to_owned()),
            family: None,
            protocol: None,
            conditions: Vec::new(),
            target: rule.target.clone(),
            listener: listener(rule),
            rules: 1,
        };
        for condition in &rule.matches {
            step.add(condition);
        }
        step
    }

    fn add<F: Family>(&mut self, condition: &Match<F>) {
        use ConditionKind::{Address, Negated, NegatedAddress, Other};
        let mut push = |leads: [&'static str; 2], kinds: [ConditionKind; 2], negated: bool, values: Vec<String>| {
            let which = usize::from(negated);
            self.conditions.push(Condition { lead: leads[which], values, kind: kinds[which] });
        };
        const PLAIN: [ConditionKind; 2] = [Other, Negated];
        match condition {
            Match::Source { net, negated } => {
                push(["from", "not from"], [Address, NegatedAddress], *negated, vec![short(net)]);
            }
            Match::Destination { net, negated } => {
                push(["to", "not to"], [Address, NegatedAddress], *negated, vec![short(net)]);
            }
            Match::InInterface { interface, negated } => {
                push(["in by", "not in by"], PLAIN, *negated, vec![interface.to_string()]);
            }
            Match::OutInterface { interface, negated } => {
                push(["out by", "not out by"], PLAIN, *negated, vec![interface.to_string()]);
            }
            Match::Owner { owner: Owner::Uid(range), negated } => {
                push(["by user", "not by user"], PLAIN, *negated, vec![range.to_string()]);
            }
            Match::Owner { owner: Owner::Gid(range), negated } => {
                push(["by group", "not by group"], PLAIN, *negated, vec![range.to_string()]);
            }
            Match::Local { end: End::Source } => push(["from this host", ""], PLAIN, false, Vec::new()),
            Match::Local { end: End::Destination } => push(["to this host", ""], PLAIN, false, Vec::new()),
            Match::Translated => push(["translated", ""], PLAIN, false, Vec::new()),
            Match::CtState { state: CtState::Invalid, negated } => {
                push(["invalid to connection tracking", "valid to connection tracking"], PLAIN, *negated, Vec::new());
            }
            Match::Transport(transport) => {
                let mut ports = |leads, ports: &Option<PortMatch>| {
                    if let Some(ports) = ports {
                        let values = ports.ports().ranges().iter().map(ToString::to_string).collect();
                        push(leads, PLAIN, ports.negated(), values);
                    }
                };
                ports(["from port", "not from port"], &transport.source);
                ports(["to port", "not to port"], &transport.destination);
                if transport.mid_stream {
                    push(["opens no connection", ""], PLAIN, false, Vec::new());
                }
                self.protocol = Some(transport.protocol);
            }
        }
    }

    /// The condition that alone differs from the other step's, and none if nothing does; nothing at all if the two
    /// steps cannot be one.
    fn one_difference(&self, other: &Self) -> Option<Option<usize>> {
        let alike = self.words == other.words
            && self.protocol == other.protocol
            && self.target == other.target
            && self.conditions.len() == other.conditions.len();
        if !alike {
            return None;
        }
        let pairs = self.conditions.iter().zip(&other.conditions).enumerate();
        let mut differences = pairs.filter(|(_, (a, b))| a != b);
        match (differences.next(), differences.next()) {
            (None, _) => Some(None),
            (Some((place, (a, b))), None) if a.lead == b.lead && a.is_one_of() => Some(Some(place)),
            _ => None,
        }
    }

    /// Whether the other family's step is this one but for addresses.
    fn is_like(&self, other: &Self) -> bool {
        self.words == other.words
            && self.protocol == other.protocol
            && self.target == other.target
            && self.conditions.len() == other.conditions.len()
            && self.conditions.iter().zip(&other.conditions).all(|(a, b)| a == b || a.is_address() && a.lead == b.lead)
    }

    fn with_addresses_of(mut self, other: &Self) -> Self {
        for (condition, other) in self.conditions.iter_mut().zip(&other.conditions) {
            if condition.is_address() {
                condition.values.extend(other.values.iter().cloned());
            }
        }
        self.rules += other.rules;
        self
    }

    fn only(mut self, family: FamilyName) -> Self {
        let said = self.conditions.iter().any(|condition| condition.kind == ConditionKind::Address);
        self.family = (!said).then_some(family);
        self
    }

    /// Whether it asks nothing of a packet of this protocol.
    pub(super) fn asks_nothing(&self, known: Option<Protocol>) -> bool {
        self.family.is_none() && self.conditions.is_empty() && (self.protocol.is_none() || self.protocol == known)
    }
}

impl Condition {
    fn is_address(&self) -> bool {
        matches!(self.kind, ConditionKind::Address | ConditionKind::NegatedAddress)
    }

    /// Whether more values let more packets through.
    fn is_one_of(&self) -> bool {
        matches!(self.kind, ConditionKind::Address | ConditionKind::Other)
    }
}

/// The listener that a rule redirects to, by the configuration key that asked for it. The sidecar takes nothing but DNS
/// by UDP.
fn listener<F: Family>(rule: &Rule<F>) -> Option<&'static str> {
    let key = rule.origin?.key;
    let udp = rule.matches.iter().any(|m| matches!(m, Match::Transport(t) if t.protocol == Protocol::Udp));
    match () {
        () if udp => Some("DNS"),
        () if key.starts_with("redirect.inbound.") => Some("inbound"),
        () => Some("outbound"),
    }
}

/// A prefix, without the length where it is one address.
fn short<F: Family>(net: &crate::net::Cidr<F>) -> String {
    match net.first() == net.last() {
        true => net.addr().to_string(),
        false => net.to_string(),
    }
}

//! From steps to nodes and arrows.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Graph, Kind, NodeId};
use super::labels;
use super::steps::{ChainSteps, Step, Steps};
use crate::model::{BuiltinChain, ChainName, TableName, Target};
use crate::net::{Port, Protocol};

/// Draws the chains that packets of these families meet, in the order in which they meet them.
pub(super) fn draw(steps: &Steps, families: &str) -> Graph {
    let mut drawing = Drawing::new(&steps.chains);
    let starts = drawing.place_starts(families);
    drawing.place_steps();
    for (start, chain) in starts {
        let entry = drawing.entry(chain, 0);
        drawing.graph.edge(start, entry, None);
    }
    for chain in 0..steps.chains.len() {
        for step in 0..steps.chains[chain].steps.len() {
            drawing.connect(chain, step);
        }
    }
    // Stable: "yes" stays before "no".
    crate::sorted::by_key(&mut drawing.graph.edges, |edge| edge.from);
    drawing.graph
}

/// Where a packet's way ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Passes,
    Redirected(Port),
    Dropped,
    /// Back to one of several places, of those that jumped to this chain.
    Back(usize),
}

struct Drawing<'a> {
    chains: &'a [ChainSteps],
    /// Where each chain is jumped to from.
    callers: Vec<Vec<(usize, usize)>>,
    /// The protocol of every packet that comes to a chain.
    known: Vec<Option<Protocol>>,
    listeners: BTreeMap<Port, BTreeSet<&'static str>>,
    graph: Graph,
    nodes: BTreeMap<(usize, usize), NodeId>,
    ends: BTreeMap<End, NodeId>,
    /// The chains whose continuation is being looked for, lest jumps in a circle have no end.
    looking: Vec<usize>,
}

impl<'a> Drawing<'a> {
    fn new(chains: &'a [ChainSteps]) -> Self {
        let mut callers = vec![Vec::new(); chains.len()];
        for (index, chain) in chains.iter().enumerate() {
            for (place, step) in chain.steps.iter().enumerate() {
                if let Some(called) = find(chains, chain.table, &step.target) {
                    callers[called].push((index, place));
                }
            }
        }
        let known = known(chains, &callers);
        Self {
            chains,
            callers,
            known,
            listeners: listeners(chains),
            graph: Graph::default(),
            nodes: BTreeMap::new(),
            ends: BTreeMap::new(),
            looking: Vec::new(),
        }
    }

    /// The chains of a hook in the order of the tables' priorities (linux include/uapi/linux/netfilter_ipv4.h): on the
    /// way in and out of this host, addresses are translated last.
    fn stages(&self, hook: BuiltinChain) -> Vec<usize> {
        let last = matches!(hook, BuiltinChain::Input | BuiltinChain::Postrouting);
        let mut stages: Vec<_> = (0..self.chains.len())
            .filter(|index| self.chains[*index].name.builtin() == Some(hook) && !self.chains[*index].steps.is_empty())
            .collect();
        crate::sorted::by_key(&mut stages, |index| {
            let table = self.chains[*index].table;
            (last && table == TableName::Nat, table)
        });
        stages
    }

    /// Makes the nodes that packets come from, and names the chain that each leads to.
    fn place_starts(&mut self, families: &str) -> Vec<(NodeId, usize)> {
        let mut starts = Vec::new();
        for hook in BuiltinChain::ALL {
            if let Some(first) = self.stages(hook).first() {
                let lines = vec![labels::origin(hook).to_owned(), format!("({families})")];
                starts.push((self.graph.node(Kind::Start, lines), *first));
            }
        }
        starts
    }

    /// Makes the nodes of all steps, each chain's behind those of the chains that lead to it.
    fn place_steps(&mut self) {
        let mut order = Vec::new();
        for hook in BuiltinChain::ALL {
            for stage in self.stages(hook) {
                self.follow(stage, &mut order);
            }
        }
        for chain in 0..self.chains.len() {
            self.follow(chain, &mut order);
        }
        for chain in order {
            self.place_chain(chain);
        }
    }

    fn follow(&self, chain: usize, order: &mut Vec<usize>) {
        if order.contains(&chain) {
            return;
        }
        order.push(chain);
        for step in &self.chains[chain].steps {
            if let Some(called) = find(self.chains, self.chains[chain].table, &step.target) {
                self.follow(called, order);
            }
        }
    }

    fn place_chain(&mut self, chain: usize) {
        let ChainSteps { table, name, steps } = &self.chains[chain];
        if let [step] = &steps[..] {
            // A frame around one box would say nothing more.
            if name.builtin().is_none() && self.is_final(chain, step) {
                let node = self.graph.node(Kind::Step, vec![name.to_string()]);
                self.graph.nodes[node.0].rules = step.rules;
                self.nodes.insert((chain, 0), node);
                return;
            }
        }
        if steps.is_empty() {
            return;
        }
        let group = self.graph.group(format!("{table} {name}"));
        for (place, step) in steps.iter().enumerate() {
            let kind = if self.is_question(chain, step) { Kind::Decision } else { Kind::Step };
            let lines = labels::step(step, self.known[chain], kind == Kind::Decision);
            let node = self.graph.node(kind, lines);
            self.graph.nodes[node.0].rules = step.rules;
            self.graph.nodes[node.0].group = Some(group);
            self.nodes.insert((chain, place), node);
        }
    }

    /// Whether every packet is redirected by this step.
    fn is_final(&self, chain: usize, step: &Step) -> bool {
        step.asks_nothing(self.known[chain]) && matches!(step.target, Target::Redirect { .. })
    }

    /// Whether a packet goes one of two ways from it.
    fn is_question(&self, chain: usize, step: &Step) -> bool {
        !step.asks_nothing(self.known[chain]) && !matches!(step.target, Target::Log { .. } | Target::Zone { .. })
    }

    /// Draws the arrows that leave a step.
    fn connect(&mut self, chain: usize, place: usize) {
        let Some(&node) = self.nodes.get(&(chain, place)) else { return };
        let step = &self.chains[chain].steps[place];
        let is_question = self.is_question(chain, step);
        let to = match &step.target {
            Target::Accept => self.leave(chain),
            Target::Drop => self.end(End::Dropped),
            Target::Return => self.after(chain),
            Target::Redirect { port } => self.end(End::Redirected(*port)),
            Target::Log { .. } | Target::Zone { .. } => self.entry(chain, place + 1),
            Target::Jump { chain: name } => match find(self.chains, self.chains[chain].table, &step.target) {
                Some(called) => self.entry(called, 0),
                None => self.foreign(name, chain, place),
            },
        };
        self.graph.edge(node, to, is_question.then_some(true));
        if is_question {
            let next = self.entry(chain, place + 1);
            self.graph.edge(node, next, Some(false));
        }
    }

    /// A chain that another program has.
    fn foreign(&mut self, name: &ChainName, chain: usize, place: usize) -> NodeId {
        let node = self.graph.node(Kind::Step, vec![name.to_string(), "(another program's chain)".to_owned()]);
        let next = self.entry(chain, place + 1);
        self.graph.edge(node, next, None);
        node
    }

    /// What a packet meets at a step of a chain, or behind its last.
    fn entry(&mut self, chain: usize, place: usize) -> NodeId {
        match self.nodes.get(&(chain, place)) {
            Some(node) => *node,
            None => self.after(chain),
        }
    }

    /// Where a packet goes behind the last step of a chain.
    fn after(&mut self, chain: usize) -> NodeId {
        if let Some(hook) = self.chains[chain].name.builtin() {
            let stages = self.stages(hook);
            let next = stages.iter().skip_while(|stage| **stage != chain).nth(1);
            return match next {
                Some(next) => self.entry(*next, 0),
                None => self.end(End::Passes),
            };
        }
        if self.looking.contains(&chain) {
            return self.end(End::Back(chain));
        }
        self.looking.push(chain);
        let callers = self.callers[chain].clone();
        let nodes = crate::sorted::set(callers.into_iter().map(|(caller, place)| self.entry(caller, place + 1)));
        self.looking.pop();
        match nodes.first() {
            Some(node) if nodes.len() == 1 => *node,
            _ => self.end(End::Back(chain)),
        }
    }

    /// Where a packet goes that is done with the table.
    fn leave(&mut self, chain: usize) -> NodeId {
        let mut reached = BTreeSet::from([chain]);
        let mut open = vec![chain];
        while let Some(chain) = open.pop() {
            open.extend(self.callers[chain].iter().map(|(caller, _)| *caller).filter(|caller| reached.insert(*caller)));
        }
        let hooks: Vec<_> = reached.into_iter().filter(|chain| self.chains[*chain].name.builtin().is_some()).collect();
        match hooks[..] {
            [hook] => self.after(hook),
            _ => self.end(End::Passes),
        }
    }

    fn end(&mut self, end: End) -> NodeId {
        if let Some(node) = self.ends.get(&end) {
            return *node;
        }
        let (kind, lines) = match end {
            End::Passes => (Kind::Passes, vec!["goes on as it is".to_owned()]),
            End::Dropped => (Kind::Dropped, vec!["dropped".to_owned()]),
            End::Back(_) => (Kind::Step, vec!["back to the rule behind the jump".to_owned()]),
            End::Redirected(port) => (
                Kind::Redirected,
                match self.listeners.get(&port) {
                    Some(names) => {
                        let names = names.iter().copied().collect::<Vec<_>>().join(" and ");
                        vec![format!("{names} listener of the sidecar"), format!("(port {port})")]
                    }
                    None => vec![format!("port {port} of this host")],
                },
            ),
        };
        let node = self.graph.node(kind, lines);
        if let End::Back(chain) = end {
            self.graph.nodes[node.0].group =
                self.nodes.get(&(chain, 0)).and_then(|first| self.graph.nodes[first.0].group);
        }
        self.ends.insert(end, node);
        node
    }
}

/// The chain that a target jumps to.
fn find(chains: &[ChainSteps], table: TableName, target: &Target) -> Option<usize> {
    let Target::Jump { chain: name } = target else { return None };
    chains.iter().position(|chain| chain.table == table && chain.name == *name)
}

/// The protocol of all that comes to a chain: where only TCP is sent to, TCP need not be asked for.
fn known(chains: &[ChainSteps], callers: &[Vec<(usize, usize)>]) -> Vec<Option<Protocol>> {
    let mut known = vec![None; chains.len()];
    // A chain's callers may be known later than it; each round settles at least one.
    for _ in chains {
        for (chain, callers) in callers.iter().enumerate() {
            let mut protocols =
                callers.iter().map(|(caller, place)| chains[*caller].steps[*place].protocol.or(known[*caller]));
            let first = protocols.next().flatten();
            let builtin = chains[chain].name.builtin().is_some();
            known[chain] = first.filter(|_| !builtin && protocols.all(|protocol| protocol == first));
        }
    }
    known
}

/// The sidecar's listeners by their ports, as the rules that redirect to them show.
fn listeners(chains: &[ChainSteps]) -> BTreeMap<Port, BTreeSet<&'static str>> {
    let mut listeners = BTreeMap::<_, BTreeSet<_>>::new();
    for step in chains.iter().flat_map(|chain| &chain.steps) {
        if let (Target::Redirect { port }, Some(listener)) = (&step.target, step.listener) {
            listeners.entry(*port).or_default().insert(listener);
        }
    }
    listeners
}

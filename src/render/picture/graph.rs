//! What a picture is made of: nodes, the arrows between them, and frames around some.

/// A picture, in no syntax yet. Nodes, arrows and frames stand in the order in which a packet meets them.
#[derive(Debug, Default)]
pub(in crate::render) struct Graph {
    pub(in crate::render) nodes: Vec<Node>,
    pub(in crate::render) edges: Vec<Edge>,
    pub(in crate::render) groups: Vec<Group>,
}

/// A node, by its place in [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::render) struct NodeId(pub(in crate::render) usize);

/// A frame, by its place in [`Graph::groups`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::render) struct GroupId(pub(in crate::render) usize);

#[derive(Debug)]
pub(in crate::render) struct Node {
    pub(in crate::render) kind: Kind,
    /// The lines of its text.
    pub(in crate::render) lines: Vec<String>,
    /// The frame around it.
    pub(in crate::render) group: Option<GroupId>,
    /// How many rules of the plan it stands for.
    pub(in crate::render) rules: usize,
}

/// What a node is, which decides its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::render) enum Kind {
    /// Where packets come from.
    Start,
    /// A question with two ways on.
    Decision,
    /// Something that happens on the way, or a chain that asks nothing.
    Step,
    /// The packet goes where it would have gone without the rules.
    Passes,
    /// The packet goes to a port of this host instead.
    Redirected,
    /// The packet is gone.
    Dropped,
}

#[derive(Debug)]
pub(in crate::render) struct Edge {
    pub(in crate::render) from: NodeId,
    pub(in crate::render) to: NodeId,
    /// The answer that it stands for, of a [`Kind::Decision`].
    pub(in crate::render) answer: Option<bool>,
}

#[derive(Debug)]
pub(in crate::render) struct Group {
    pub(in crate::render) title: String,
}

impl Graph {
    /// Adds a node without rules and frame.
    pub(super) fn node(&mut self, kind: Kind, lines: Vec<String>) -> NodeId {
        self.nodes.push(Node { kind, lines, group: None, rules: 0 });
        NodeId(self.nodes.len() - 1)
    }

    /// Adds a frame.
    pub(super) fn group(&mut self, title: String) -> GroupId {
        self.groups.push(Group { title });
        GroupId(self.groups.len() - 1)
    }

    /// Adds an arrow.
    pub(super) fn edge(&mut self, from: NodeId, to: NodeId, answer: Option<bool>) {
        self.edges.push(Edge { from, to, answer });
    }

    /// The nodes of a frame, or those in none.
    pub(in crate::render) fn members(&self, group: Option<GroupId>) -> impl Iterator<Item = (NodeId, &Node)> {
        let nodes = self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index), node));
        nodes.filter(move |(_, node)| node.group == group)
    }

    /// The frames with their numbers.
    pub(in crate::render) fn groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter().enumerate().map(|(index, group)| (GroupId(index), group))
    }
}

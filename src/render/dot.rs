//! A picture of a plan in Graphviz's language [DOT](https://graphviz.org/doc/info/lang.html), as text.

use std::fmt::{self, Write as _};

use super::picture::{self, Graph, Kind, Node, NodeId};
use crate::model::{Plan, Ruleset};
use crate::net::Family;

/// The picture of [`mermaid::plan`](super::mermaid::plan) for `dot -Tsvg`. The same plan gives the same text.
///
/// ```
/// # let facts = kumatp::facts::Facts::capable_host(kumatp::net::Uid::SIDECAR);
/// let plan = kumatp::policy::plan(&Default::default(), &facts)?;
/// let picture = kumatp::render::dot::plan(&plan);
/// assert!(picture.starts_with("digraph kumatp {\n"));
/// # Ok::<(), kumatp::Error>(())
/// ```
pub fn plan(plan: &Plan) -> String {
    text(&picture::plan(plan))
}

/// The picture of the rules of one family.
pub fn ruleset<F: Family>(ruleset: &Ruleset<F>) -> String {
    text(&picture::ruleset(ruleset))
}

fn text(graph: &Graph) -> String {
    let mut text = String::from("digraph kumatp {\n");
    text.push_str("    graph [fontname=\"sans-serif\"]\n");
    text.push_str("    node [fontname=\"sans-serif\", fontsize=11]\n");
    text.push_str("    edge [fontname=\"sans-serif\", fontsize=10]\n");
    for (id, group) in graph.groups() {
        // Only what is called a cluster gets a frame.
        let _ = writeln!(text, "    subgraph cluster_{} {{", id.0);
        let _ = writeln!(text, "        label=\"{}\"", Label(std::slice::from_ref(&group.title)));
        write_nodes(&mut text, graph.members(Some(id)), "        ");
        text.push_str("    }\n");
    }
    write_nodes(&mut text, graph.members(None), "    ");
    for edge in &graph.edges {
        let label = match edge.answer {
            Some(true) => " [label=\"yes\"]",
            Some(false) => " [label=\"no\"]",
            None => "",
        };
        let _ = writeln!(text, "    n{} -> n{}{label}", edge.from.0, edge.to.0);
    }
    text.push_str("}\n");
    text
}

fn write_nodes<'a>(text: &mut String, nodes: impl Iterator<Item = (NodeId, &'a Node)>, indent: &str) {
    for (id, node) in nodes {
        let look = match node.kind {
            Kind::Start => "shape=box, style=rounded",
            Kind::Decision => "shape=hexagon, margin=0",
            Kind::Step => "shape=box",
            Kind::Passes => "shape=box, style=\"rounded,filled\", fillcolor=\"#d9ead3\"",
            Kind::Redirected => "shape=box, style=\"rounded,filled\", fillcolor=\"#cfe2f3\"",
            Kind::Dropped => "shape=box, style=\"rounded,filled\", fillcolor=\"#f4cccc\"",
        };
        let _ = writeln!(text, "{indent}n{} [label=\"{}\", {look}]", id.0, Label(&node.lines));
    }
}

/// Lines between double quotes, in ASCII: a backslash and `&` have a meaning there too.
struct Label<'a>(&'a [String]);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\\n")?;
            }
            for c in line.chars() {
                match c {
                    '"' | '\\' | '&' | '<' | '>' => write!(f, "&#{};", u32::from(c))?,
                    ' '..='~' => f.write_char(c)?,
                    c if c.is_control() => f.write_char(' ')?,
                    // Graphviz takes entities of three bytes of UTF-8 at most.
                    '\u{10000}'.. => f.write_char('?')?,
                    c => write!(f, "&#{};", u32::from(c))?,
                }
            }
        }
        Ok(())
    }
}

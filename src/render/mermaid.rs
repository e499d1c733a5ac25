//! A picture of a plan as a [Mermaid](https://mermaid.js.org/syntax/flowchart.html) flowchart, as text.

use std::fmt::{self, Write as _};

use super::picture::{self, Graph, Kind, Node, NodeId};
use crate::model::{Plan, Ruleset};
use crate::net::Family;

/// A flowchart of the rules: where packets come from, what is asked about them, in order, and where they go. It is what
/// Markdown viewers show in a block of the language `mermaid`. The same plan gives the same text.
///
/// - A frame is a chain; a hexagon is a question. It has the words of the rules' comments, and below them what the rules
///   compare. Neighbouring rules that do the same and differ in one value only are one question, which lists up to six
///   values.
/// - Both families are in one picture: addresses of both stand side by side, and what else only one has begins with
///   `IPv4` or `IPv6`.
/// - In a chain that only TCP is sent to, nothing asks for TCP again.
///
/// It is for readers and not for programs: what is drawn, and in which words, may change.
///
/// ```
/// # let facts = kumatp::facts::Facts::capable_host(kumatp::net::Uid::SIDECAR);
/// let plan = kumatp::policy::plan(&Default::default(), &facts)?;
/// let picture = kumatp::render::mermaid::plan(&plan);
/// assert!(picture.starts_with("flowchart TD\n"));
/// assert!(picture.contains("from 127.0.0.6 or"));
/// # Ok::<(), kumatp::Error>(())
/// ```
pub fn plan(plan: &Plan) -> String {
    text(&picture::plan(plan))
}

/// A flowchart of the rules of one family.
pub fn ruleset<F: Family>(ruleset: &Ruleset<F>) -> String {
    text(&picture::ruleset(ruleset))
}

fn text(graph: &Graph) -> String {
    let mut text = String::from("flowchart TD\n");
    for (id, group) in graph.groups() {
        let _ = writeln!(text, "    subgraph g{}[\"{}\"]", id.0, Label(std::slice::from_ref(&group.title)));
        write_nodes(&mut text, graph.members(Some(id)), "        ");
        text.push_str("    end\n");
    }
    write_nodes(&mut text, graph.members(None), "    ");
    for edge in &graph.edges {
        let arrow = match edge.answer {
            Some(true) => "-->|yes|",
            Some(false) => "-->|no|",
            None => "-->",
        };
        let _ = writeln!(text, "    n{} {arrow} n{}", edge.from.0, edge.to.0);
    }
    write_colours(&mut text, graph);
    text
}

fn write_nodes<'a>(text: &mut String, nodes: impl Iterator<Item = (NodeId, &'a Node)>, indent: &str) {
    for (id, node) in nodes {
        let (open, close) = match node.kind {
            Kind::Start | Kind::Passes | Kind::Redirected | Kind::Dropped => ("([", "])"),
            Kind::Decision => ("{{", "}}"),
            Kind::Step => ("[", "]"),
        };
        let _ = writeln!(text, "{indent}n{}{open}\"{}\"{close}", id.0, Label(&node.lines));
    }
}

/// Ends can be told apart at a glance; text is black, so that it can be read where the viewer's background is dark.
fn write_colours(text: &mut String, graph: &Graph) {
    for (kind, class, colour) in [
        (Kind::Passes, "passes", "#d9ead3"),
        (Kind::Redirected, "redirected", "#cfe2f3"),
        (Kind::Dropped, "dropped", "#f4cccc"),
    ] {
        let nodes = graph.nodes.iter().enumerate().filter(|(_, node)| node.kind == kind);
        let names: Vec<_> = nodes.map(|(index, _)| format!("n{index}")).collect();
        if !names.is_empty() {
            let _ = writeln!(text, "    classDef {class} fill:{colour},color:#000");
            let _ = writeln!(text, "    class {} {class}", names.join(","));
        }
    }
}

/// Lines between double quotes. Whatever could mean something to Mermaid, to HTML or to Markdown, which newer versions
/// look for in labels, is written as an entity: `#34;` is a quote. In Markdown a list begins with a digit or a sign, so a
/// line begins with neither.
struct Label<'a>(&'a [String]);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("<br/>")?;
            }
            for (place, c) in line.chars().enumerate() {
                let plain =
                    c.is_ascii_alphabetic() || c == '(' || place > 0 && (c.is_ascii_digit() || ".,;/-_)? ".contains(c));
                match (plain, c.is_control()) {
                    (true, _) => f.write_char(c)?,
                    (false, true) => f.write_char(' ')?,
                    (false, false) => write!(f, "#{};", u32::from(c))?,
                }
            }
        }
        Ok(())
    }
}

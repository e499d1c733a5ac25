//! What the nodes of a picture say.

use super::steps::{Condition, Step};
use crate::model::{BuiltinChain, Target};
use crate::net::Protocol;

/// How many values of a list are shown if not all are.
const SHOWN: usize = 5;

/// The longest line, in characters; a longer word has a line of its own.
const WIDTH: usize = 44;

/// Where the packets of a hook come from.
pub(super) fn origin(hook: BuiltinChain) -> &'static str {
    match hook {
        BuiltinChain::Prerouting => "arrives from outside",
        BuiltinChain::Input => "is for this host",
        BuiltinChain::Forward => "passes through this host",
        BuiltinChain::Output => "is made on this host",
        BuiltinChain::Postrouting => "leaves this host",
    }
}

/// The lines of a step: what its rules are for, then what they ask of a packet that is known to be of a protocol.
pub(super) fn step(step: &Step, known: Option<Protocol>, is_question: bool) -> Vec<String> {
    let words = step.words.clone().or_else(|| in_passing(&step.target));
    let mut lines = words.map(|words| wrapped(words.split_whitespace(), " ")).unwrap_or_default();
    if step.asks_nothing(known) {
        if lines.is_empty() {
            lines.push("everything else".to_owned());
        }
        return lines;
    }
    let mut conditions = conditions(step, known);
    if let (false, Some(first)) = (is_question || lines.is_empty(), conditions.first_mut()) {
        first.insert_str(0, "if ");
    }
    lines.extend(conditions);
    if let (true, Some(last)) = (is_question, lines.last_mut()) {
        last.push('?');
    }
    lines
}

/// What a target does that does not end the packet's way.
fn in_passing(target: &Target) -> Option<String> {
    match target {
        Target::Log { prefix, level } => Some(format!("log as {prefix} at level {level}")),
        Target::Zone { zone } => Some(format!("track in zone {zone}")),
        _ => None,
    }
}

/// Lines of conditions, none of which is broken between two lines unless it is too long for one.
fn conditions(step: &Step, known: Option<Protocol>) -> Vec<String> {
    let family = step.family.map(|family| family.to_string());
    let protocol = step.protocol.filter(|protocol| Some(*protocol) != known);
    let protocol = protocol.map(|protocol| protocol.to_string().to_ascii_uppercase());
    let conditions: Vec<_> = family.into_iter().chain(protocol).chain(step.conditions.iter().map(condition)).collect();
    let lines = wrapped(conditions.iter().map(String::as_str), "; ");
    lines.iter().flat_map(|line| wrapped(line.split_whitespace(), " ")).collect()
}

fn condition(condition: &Condition) -> String {
    let Condition { lead, values, .. } = condition;
    match &values[..] {
        [] => (*lead).to_owned(),
        [one] => format!("{lead} {one}"),
        [most @ .., last] if values.len() <= SHOWN + 1 => format!("{lead} {} or {last}", most.join(", ")),
        _ => format!("{lead} {} and {} more", values[..SHOWN].join(", "), values.len() - SHOWN),
    }
}

/// Lines of as many pieces as fit.
fn wrapped<'a>(pieces: impl Iterator<Item = &'a str>, between: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in pieces {
        match lines.last_mut() {
            Some(line) if line.chars().count() + between.len() + piece.chars().count() <= WIDTH => {
                line.push_str(between);
                line.push_str(piece);
            }
            Some(line) => {
                line.push_str(between.trim_end());
                lines.push(piece.to_owned());
            }
            None => lines.push(piece.to_owned()),
        }
    }
    lines
}

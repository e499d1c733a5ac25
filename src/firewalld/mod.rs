//! firewalld's `direct.xml`: kumatp's rules in a document that also holds other rules, and iptables text
//! turned into one.
//!
//! firewalld flushes what it does not know when it starts, so rules that have to outlive it belong
//! into its own configuration.

#[cfg(all(feature = "host", target_os = "linux"))]
mod store;
mod words;

#[cfg(all(feature = "host", target_os = "linux"))]
pub use store::{DIRECT_XML, store, unstore};

use std::ops::Range;

use crate::error::{Error, Problem};
use crate::iptables_save::{self, Saved, SavedPlacement, tokens::tokens};
use crate::model::{ChainPair, Comment, Plan, TableName};
use crate::net::{Family, V4, V6};
use crate::render::firewalld::{Entries, Entry};

/// A document with the rules of a plan in it, in place of older ones of ours. All else stays as it
/// is, byte for byte; an empty document is made new.
///
/// Ours are chains named `KUMA_MESH_…`; rules in such a chain, or that jump to one, or whose comment
/// begins with [`Comment::PREFIX`]; passed-through commands on such a chain or with such a rule. A
/// rule that the plan has and the document too, word by word, is left where it is.
///
/// # Errors
/// [`Error::Config`] if the document is not XML, or not firewalld's.
pub fn merge(existing: &str, plan: &Plan) -> Result<String, Error> {
    let planned = Entries::of(plan);
    if existing.trim().is_empty() {
        return Ok(planned.document());
    }
    let document = Document::parse(existing)?;
    let mut ours = String::new();
    for entry in planned.iter().filter(|entry| !document.has_foreign(entry)) {
        entry.write(&mut ours);
    }
    Ok(document.with(&ours))
}

/// The document without our entries, as [`merge`] knows them; `None` if it has none.
///
/// Rules that were stored without comments cannot be told from others' if they neither are in one
/// of our chains nor jump to one; they stay.
///
/// # Errors
/// As [`merge`].
pub fn remove(existing: &str) -> Result<Option<String>, Error> {
    if existing.trim().is_empty() {
        return Ok(None);
    }
    let document = Document::parse(existing)?;
    Ok((!document.ours.is_empty()).then(|| document.with("")))
}

/// A whole document with the rules of a text for iptables-restore, with or without the headings
/// `### IPv4 ###` and `### IPv6 ###`; without them, it is all IPv4.
///
/// Every rule passes, whatever it says: firewalld hands it to iptables. Repeats of a rule are
/// written once. Inserted rules come before appended ones by their priority.
///
/// ```
/// let text = "*nat\n-N X\n-A X -p tcp -m set --match-set a src -j RETURN\nCOMMIT\n";
/// let document = kumatp::firewalld::translate(text)?;
/// assert!(document.contains("priority=\"3\">-p tcp -m set --match-set a src -j RETURN</rule>"));
/// # Ok::<(), kumatp::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`] with the line that is not of the syntax, or with everything that a direct
/// configuration cannot say: tables that firewalld does not know, policies of built-in chains, rules
/// inserted below rules that the text does not have, control characters.
pub fn translate(text: &str) -> Result<String, Error> {
    let texts = iptables_save::families(text);
    let (mut entries, mut problems) = (Entries::default(), Vec::new());
    if let Some(text) = texts.v4 {
        translate_family(&iptables_save::parse::<V4>(&text)?, &mut entries, &mut problems);
    }
    if let Some(text) = texts.v6 {
        translate_family(&iptables_save::parse::<V6>(&text)?, &mut entries, &mut problems);
    }
    match problems.is_empty() {
        true => Ok(entries.document()),
        false => Err(Error::Config(problems)),
    }
}

fn translate_family<F: Family>(saved: &Saved<F>, entries: &mut Entries, problems: &mut Vec<Problem>) {
    let mut problem = |path: String, value: &str, expected: String| {
        problems.push(Problem { path: format!("{} {path}", F::NAME), value: value.to_owned(), expected });
    };
    for table in &saved.tables {
        if let Err(error) = table.name.parse::<TableName>() {
            problem("table".into(), &table.name, error.expected().to_owned());
            continue;
        }
        for chain in &table.chains {
            let path = || format!("{} {}", table.name, chain.name);
            match chain.policy.as_deref() {
                _ if !is_xml(&chain.name) => problem(path(), &chain.name, "a name without control characters".into()),
                None => entries.add_chain(F::NAME, &table.name, &chain.name),
                // What it is without being asked for.
                Some("ACCEPT") => {}
                Some(policy) => {
                    problem(path(), policy, "the policy ACCEPT, as direct.xml cannot say another".into());
                }
            }
        }
        for rule in &table.rules {
            let path = || format!("{} {}", table.name, rule.chain);
            let Some(args) = arguments(&rule.spec).filter(|_| is_xml(&rule.chain)) else {
                problem(path(), &rule.spec, "arguments without line breaks and control characters".into());
                continue;
            };
            match rule.placement {
                SavedPlacement::Append => entries.append(F::NAME, &table.name, &rule.chain, args),
                SavedPlacement::Insert(number) => {
                    let before = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
                    if let Err(most) = entries.try_insert(F::NAME, &table.name, &rule.chain, before, args) {
                        problem(path(), &number.to_string(), format!("a place from 1 to {}", most + 1));
                    }
                }
            }
        }
    }
}

/// The words of a rule as firewalld splits them: the very text, unless it would be split in another
/// way than iptables does.
fn arguments(spec: &str) -> Option<String> {
    let words = tokens(spec).ok()?;
    let words = || words.iter().map(|word| word.text.as_ref());
    if words().next().is_none() || !is_xml(spec) {
        return None;
    }
    let same = words::split(spec).is_some_and(|split| split.iter().map(String::as_str).eq(words()));
    Some(if same { spec.to_owned() } else { words::join(words()) })
}

/// Whether XML can hold it, and firewalld gives it back as it is.
fn is_xml(text: &str) -> bool {
    text.chars().all(|c| (c == '\t' || !c.is_control()) && !matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{2028}'))
}

/// An existing document, taken apart.
struct Document<'a> {
    text: &'a str,
    /// The places of our entries, in order.
    ours: Vec<Range<usize>>,
    foreign: Vec<Foreign>,
    /// Where new entries go, and what has to surround them.
    end: End,
}

/// A rule of somebody else.
struct Foreign {
    ipv: String,
    table: String,
    chain: String,
    priority: String,
    words: Vec<String>,
}

enum End {
    /// Before the closing tag, which begins here.
    Closing(usize),
    /// In place of these two characters, `/>`, of an element without content; with its name.
    Empty(usize),
}

impl<'a> Document<'a> {
    fn parse(text: &'a str) -> Result<Self, Error> {
        let wrong = |value: &str, expected: String| {
            Error::from(Problem { path: "direct.xml".into(), value: value.to_owned(), expected })
        };
        let xml = roxmltree::Document::parse(text)
            .map_err(|error| wrong(&error.to_string(), "an XML document as firewalld writes it".into()))?;
        let root = xml.root_element();
        if root.tag_name().name() != "direct" {
            return Err(wrong(root.tag_name().name(), "the element <direct> outermost".into()));
        }
        let (mut ours, mut foreign) = (Vec::new(), Vec::new());
        for node in root.children().filter(roxmltree::Node::is_element) {
            let attribute = |name| node.attribute(name).unwrap_or_default();
            let content: String = node.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).collect();
            let words = words::split(&content).unwrap_or_default();
            let is_ours = match node.tag_name().name() {
                "chain" => ChainPair::owns(attribute("chain")),
                "rule" => ChainPair::owns(attribute("chain")) || is_our_rule(&words),
                "passthrough" => is_our_rule(&words),
                _ => false,
            };
            if is_ours {
                ours.push(node.range());
            } else if node.tag_name().name() == "rule" {
                let [ipv, table, chain, priority] =
                    ["ipv", "table", "chain", "priority"].map(|a| attribute(a).to_owned());
                foreign.push(Foreign { ipv, table, chain, priority, words });
            }
        }
        let range = root.range();
        let element = &text[range.clone()];
        let end = match element.ends_with("/>") && !root.has_children() && !element.contains("</") {
            true => End::Empty(range.end - 2),
            false => {
                let closing = element.rfind("</").ok_or_else(|| wrong(element, "the closing tag </direct>".into()))?;
                End::Closing(range.start + closing)
            }
        };
        Ok(Self { text, ours, foreign, end })
    }

    fn has_foreign(&self, entry: &Entry<'_>) -> bool {
        let Some((priority, args)) = entry.rule else { return false };
        let words = words::split(args).unwrap_or_default();
        self.foreign.iter().any(|rule| {
            rule.ipv == entry.ipv()
                && rule.table == entry.table
                && rule.chain == entry.chain
                && rule.priority.trim().parse() == Ok(priority)
                && rule.words == words
        })
    }

    /// The text without our entries, and with these lines at the end.
    fn with(&self, lines: &str) -> String {
        let mut text = String::with_capacity(self.text.len() + lines.len());
        let mut from = 0;
        for range in &self.ours {
            let range = self.whole_lines(range);
            text.push_str(self.text.get(from..range.start).unwrap_or_default());
            from = range.end.max(from);
        }
        match self.end {
            End::Empty(at) => {
                text.push_str(&self.text[from..at]);
                text.push_str(">\n");
                text.push_str(lines);
                text.push_str("</direct>");
                text.push_str(&self.text[at + 2..]);
            }
            End::Closing(at) => {
                text.push_str(&self.text[from..at]);
                // The blanks before the closing tag stay before it.
                let indentation = text.len() - text.trim_end_matches([' ', '\t']).len();
                let indentation = text.split_off(text.len() - indentation);
                if !lines.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                text.push_str(lines);
                text.push_str(&indentation);
                text.push_str(&self.text[at..]);
            }
        }
        text
    }

    /// An entry with its line, if nothing else is on it.
    fn whole_lines(&self, range: &Range<usize>) -> Range<usize> {
        let before = self.text[..range.start].trim_end_matches([' ', '\t']);
        let after = self.text[range.end..].trim_start_matches([' ', '\t', '\r']);
        match (before.ends_with('\n'), after.strip_prefix('\n')) {
            (true, Some(rest)) => before.len()..self.text.len() - rest.len(),
            _ => range.clone(),
        }
    }
}

/// Whether a rule, or a command with one, is on our chains, jumps to one, or has a comment of ours.
fn is_our_rule(words: &[String]) -> bool {
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let ours: fn(&str) -> bool = match word {
            "-j" | "--jump" | "-g" | "--goto" | "-A" | "--append" | "-I" | "--insert" | "-N" | "--new-chain" | "-D"
            | "--delete" | "-F" | "--flush" | "-X" | "--delete-chain" => ChainPair::owns,
            "--comment" => |text| Comment::is_ours(text),
            // Their values may be anything, an option too.
            "--log-prefix" | "--nflog-prefix" | "--string" | "--hex-string" | "--name" => |_| false,
            _ => continue,
        };
        if words.next().is_some_and(ours) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;

//! Lines: tables, chains, and where each rule goes.

use super::tokens::{OpenQuote, Token, tokens};
use super::{Saved, SavedChain, SavedPlacement, SavedRule, SavedTable, spec};
use crate::error::{Error, Problem};
use crate::model::Placement;
use crate::net::{Family, FamilyName};

/// Reads the text of one family.
///
/// ```
/// use kumatp::net::V4;
///
/// let saved = kumatp::save::parse::<V4>("*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p tcp -j RETURN\n-A OUTPUT -m set --x -j RETURN\nCOMMIT\n")?;
/// let rules = &saved.table("nat").unwrap().rules;
/// assert!(rules[0].rule.is_ok());
/// assert_eq!(rules[1].rule.as_ref().unwrap_err().reason, "'-m set'");
/// assert_eq!(rules[1].spec, "-m set --x -j RETURN");
/// # Ok::<(), kumatp::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`] with the first line that is not of the syntax, and its number. Commands other
/// than adding chains and rules are not read.
pub fn parse<F: Family>(text: &str) -> Result<Saved<F>, Error> {
    let mut saved = Saved { tables: Vec::new() };
    let mut open = None;
    for line in Lines::of(text) {
        let line = line?;
        match line.text.as_bytes().first() {
            None | Some(b'#') => {}
            Some(b'*') => {
                if open.is_some() {
                    return Err(line.wrong("COMMIT before the next table"));
                }
                let name = line.text[1..].split_ascii_whitespace().next();
                let name = name.ok_or_else(|| line.wrong("the name of a table after the '*'"))?.to_owned();
                open = Some(SavedTable { name, chains: Vec::new(), rules: Vec::new() });
            }
            _ if line.text == "COMMIT" => match open.take() {
                Some(table) => saved.tables.push(table),
                None => return Err(line.wrong("a table, such as '*nat', before COMMIT")),
            },
            _ => match &mut open {
                Some(table) => line.read_into(table)?,
                None => return Err(line.wrong("a table, such as '*nat', before its chains and rules")),
            },
        }
    }
    match open {
        None => Ok(saved),
        Some(table) => Err(Error::from(Problem {
            path: "the end of the text".into(),
            value: String::new(),
            expected: format!("COMMIT after the table {}", table.name),
        })),
    }
}

/// The texts of both families, out of one with the headings `### IPv4 ###` and `### IPv6 ###`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Families {
    /// The lines under the first heading, or before any. The other lines are empty, so that line
    /// numbers hold. `None` if there is nothing but comments.
    pub v4: Option<String>,
    /// The same for the other heading.
    pub v6: Option<String>,
}

/// Splits a text at the headings `### IPv4 ###` and `### IPv6 ###`; without them, it is all IPv4.
pub fn families(text: &str) -> Families {
    let (mut v4, mut v6) = (String::new(), String::new());
    let mut family = FamilyName::V4;
    for line in text.lines() {
        let words = line.trim();
        let heading = FamilyName::ALL.into_iter().find(|family| words == format!("### {family} ###"));
        family = heading.unwrap_or(family);
        let (mine, other) = match family {
            FamilyName::V4 => (&mut v4, &mut v6),
            FamilyName::V6 => (&mut v6, &mut v4),
        };
        if heading.is_none() {
            mine.push_str(line);
        }
        mine.push('\n');
        other.push('\n');
    }
    let some = |text: String| {
        let empty = text.lines().all(|line| line.trim().is_empty() || line.starts_with('#'));
        (!empty).then_some(text)
    };
    Families { v4: some(v4), v6: some(v6) }
}

/// A line with its number. A rule with a line break in a quoted text is one line.
struct Line<'a> {
    number: usize,
    text: &'a str,
}

struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        Self { rest: text, number: 1 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Line<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let number = self.number;
        let first = self.rest.find('\n').unwrap_or(self.rest.len());
        let rule = self.rest.trim_start_matches([' ', '\t']).starts_with(['-', '[']);
        let Some(end) = (if rule { rule_end(self.rest) } else { Some(first) }) else {
            let line = Line { number, text: &self.rest[..first] };
            self.rest = "";
            return Some(Err(line.wrong("a '\"' at the end of the quoted text")));
        };
        let text = &self.rest[..end];
        self.number += text.matches('\n').count() + 1;
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        Some(Ok(Line { number, text: text.trim_matches([' ', '\t', '\r']) }))
    }
}

/// Where the line of a rule ends: at the first line break outside of quotes.
fn rule_end(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '\n' if !quoted => return Some(at),
            _ => {}
        }
    }
    (!quoted).then_some(text.len())
}

impl Line<'_> {
    fn wrong(&self, expected: impl Into<String>) -> Error {
        let path = format!("line {}", self.number);
        Error::from(Problem { path, value: self.text.to_owned(), expected: expected.into() })
    }

    fn read_into<F: Family>(&self, table: &mut SavedTable<F>) -> Result<(), Error> {
        if let Some(declaration) = self.text.strip_prefix(':') {
            let mut words = declaration.split_ascii_whitespace();
            let (Some(name), Some(policy)) = (words.next(), words.next()) else {
                return Err(self.wrong("a chain and its policy, such as ':OUTPUT ACCEPT [0:0]'"));
            };
            declare(table, name, (policy != "-").then(|| policy.to_owned()));
            return Ok(());
        }
        let words = tokens(self.text).map_err(|OpenQuote| self.wrong("a '\"' at the end of the quoted text"))?;
        // What `iptables-save -c` puts before a rule.
        let skipped = usize::from(words.first().is_some_and(|word| word.text.starts_with('[')));
        let [command, chain, rest @ ..] = &words[skipped..] else {
            return Err(self.wrong("a command and a chain, such as '-A OUTPUT'"));
        };
        let chain_name = chain.text.clone().into_owned();
        let (placement, rest) = match command.text.as_ref() {
            "-N" | "--new-chain" if rest.is_empty() => {
                declare(table, &chain_name, None);
                return Ok(());
            }
            "-A" | "--append" => (SavedPlacement::Append, rest),
            "-I" | "--insert" => match rest {
                [number, rest @ ..] if number.text.bytes().all(|b| b.is_ascii_digit()) && !number.text.is_empty() => {
                    let place = number.text.parse().ok().filter(|place| *place > 0);
                    (SavedPlacement::Insert(place.ok_or_else(|| self.wrong("a place from 1 up"))?), rest)
                }
                _ => (SavedPlacement::Insert(1), rest),
            },
            _ => return Err(self.wrong("one of the commands -N, -A and -I first")),
        };
        let spec = self.from(rest);
        let place = match placement {
            SavedPlacement::Append => Placement::Append,
            SavedPlacement::Insert(_) => Placement::Insert,
        };
        let rule = spec::rule(spec, place);
        table.rules.push(SavedRule { chain: chain_name, placement, spec: spec.to_owned(), rule });
        Ok(())
    }

    /// The text from the first of these words on.
    fn from(&self, words: &[Token<'_>]) -> &str {
        words.first().map_or("", |word| &self.text[word.range.start..])
    }
}

fn declare<F: Family>(table: &mut SavedTable<F>, name: &str, policy: Option<String>) {
    if table.chains.iter().all(|chain| chain.name != name) {
        table.chains.push(SavedChain { name: name.to_owned(), policy });
    }
}

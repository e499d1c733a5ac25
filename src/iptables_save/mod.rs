//! Reads what iptables-save and ip6tables-save print and what iptables-restore takes, into the
//! [model](crate::model): the inverse of [`render::iptables`](crate::render::iptables).
//!
//! What the model cannot say is not guessed at: such a rule is [`Unknown`], with its text.

mod both;
mod json;
mod order;
mod parts;
mod spec;
mod text;
pub(crate) mod tokens;
mod write;

pub use both::SavedFamilies;
pub use json::to_json;
pub use parts::{CtStates, PartialMatch, PartialTarget, Parts};
pub use text::{Families, families, parse};
pub use write::write;

use std::collections::HashMap;

use crate::error::{Error, Problem};
use crate::model::{Chain, ChainName, Placement, Rule, Ruleset, Table};
use crate::net::Family;
use tokens::tokens;

/// The rules of one family, as a text has them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved<F: Family> {
    /// The tables, in the order of the text.
    pub tables: Vec<SavedTable<F>>,
}

/// A table of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavedTable<F: Family> {
    /// Its name: usually one of [`TableName`](crate::model::TableName)'s.
    pub name: String,
    /// The chains that the text declares, each once.
    pub chains: Vec<SavedChain>,
    /// The rules, in the order of the text.
    pub rules: Vec<SavedRule<F>>,
}

/// A chain that a text declares, by `:CHAIN POLICY` or `-N CHAIN`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SavedChain {
    /// Its name.
    pub name: String,
    /// What happens to packets at its end; `None` for user-defined chains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// A rule of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavedRule<F: Family> {
    /// The chain that it goes to.
    pub chain: String,
    /// Where in the chain.
    pub placement: SavedPlacement,
    /// The conditions and the target, as they are written; usable again after `-D CHAIN`. A quoted
    /// text may hold a line break, which iptables-restore cannot read.
    pub spec: String,
    /// The same in the model's terms.
    pub rule: Result<Rule<F>, Unknown>,
}

/// Where a rule goes in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_enums, reason = "there is a place and an end")]
pub enum SavedPlacement {
    /// `-A`: at the end.
    Append,
    /// `-I`: at this place, counted from 1.
    Insert(u32),
}

/// A rule that the model cannot say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("the rule has {reason}, which is not known here")]
#[non_exhaustive]
pub struct Unknown {
    /// The part that is not known, as it is written.
    pub reason: String,
}

impl<F: Family> Saved<F> {
    /// The first table of this name.
    pub fn table(&self, name: &str) -> Option<&SavedTable<F>> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The rules in the model's terms.
    ///
    /// A rule that is inserted below rules that the text does not have cannot be said in the model,
    /// nor can a policy other than ACCEPT, which every built-in chain has by itself.
    ///
    /// # Errors
    /// [`Error::Config`] with every rule and policy that the model cannot say.
    pub fn ruleset(&self) -> Result<Ruleset<F>, Error> {
        let mut problems = Vec::new();
        let mut tables: Vec<Table<F>> = Vec::new();
        for saved in &self.tables {
            match saved.name.parse() {
                Ok(name) if tables.iter().all(|table| table.name != name) => {
                    tables.push(Table::new(name, saved.chains(&mut problems)));
                }
                Ok(_) => problems.push(problem(&saved.name, &saved.name, "each table once")),
                Err(error) => problems.push(error.at("table")),
            }
        }
        match problems.is_empty() {
            true => Ok(Ruleset::new(tables)),
            false => Err(Error::Config(problems)),
        }
    }
}

impl<F: Family> SavedTable<F> {
    fn chains(&self, problems: &mut Vec<Problem>) -> Vec<Chain<F>> {
        let mut chains: Vec<Chain<F>> = Vec::new();
        for declared in &self.chains {
            if let Some(policy) = declared.policy.as_deref().filter(|policy| *policy != "ACCEPT") {
                problems.push(problem(&format!("{} {}", self.name, declared.name), policy, "the policy ACCEPT"));
            }
            match declared.name.parse() {
                Ok(name) => chains.push(Chain::new(name)),
                Err(error) => problems.push(error.at(format!("{}: chain", self.name))),
            }
        }
        let mut places: HashMap<ChainName, usize> =
            chains.iter().enumerate().rev().map(|(place, chain)| (chain.name.clone(), place)).collect();
        for saved in &self.rules {
            let at = format!("{} {}", self.name, saved.chain);
            let rule = match &saved.rule {
                Ok(rule) => rule.clone(),
                Err(unknown) => {
                    problems.push(problem(&at, &saved.spec, format!("a rule without {}", unknown.reason)));
                    continue;
                }
            };
            match saved.chain.parse::<ChainName>() {
                Ok(name) => match places.get(&name) {
                    Some(found) => place(&mut chains[*found], rule, saved, &at, problems),
                    None if name.builtin().is_some() => {
                        places.insert(name.clone(), chains.len());
                        let mut chain = Chain::new(name);
                        place(&mut chain, rule, saved, &at, problems);
                        chains.push(chain);
                    }
                    None => problems.push(problem(&at, &saved.chain, "a chain that the text declares")),
                },
                Err(error) => problems.push(error.at(at)),
            }
        }
        // Built-in ones first, as the model has them; the sort is stable.
        crate::sorted::by_key(&mut chains, |chain| !chain.is_builtin());
        chains
    }
}

/// Puts a rule where the text says: the model keeps inserted rules in the order of their places.
fn place<F: Family>(chain: &mut Chain<F>, rule: Rule<F>, saved: &SavedRule<F>, at: &str, problems: &mut Vec<Problem>) {
    let SavedPlacement::Insert(number) = saved.placement else {
        chain.push(rule);
        return;
    };
    let inserted: Vec<usize> =
        (0..chain.rules.len()).filter(|i| chain.rules[*i].placement == Placement::Insert).collect();
    match usize::try_from(number).ok().and_then(|n| n.checked_sub(1)) {
        Some(before) if before < inserted.len() => chain.rules.insert(inserted[before], rule),
        Some(before) if before == inserted.len() => chain.push(rule),
        _ => problems.push(problem(at, &number.to_string(), format!("a place from 1 to {}", inserted.len() + 1))),
    }
}

fn problem(path: &str, value: &str, expected: impl Into<String>) -> Problem {
    Problem { path: path.to_owned(), value: value.to_owned(), expected: expected.into() }
}

impl<F: Family> SavedRule<F> {
    /// The rule's first comment, decoded; also of rules that are [`Unknown`].
    pub fn comment(&self) -> Option<String> {
        comment(&self.spec)
    }

    /// What the rule jumps or goes to: the name after `-j` or `-g`.
    pub fn target(&self) -> Option<&str> {
        target(&self.spec)
    }
}

/// The first comment in the words of a rule.
pub(crate) fn comment(spec: &str) -> Option<String> {
    let tokens = tokens(spec).ok()?;
    let at = options(&tokens).find(|at| tokens[*at].is("--comment"))?;
    tokens.get(at + 1).map(|token| token.text.clone().into_owned())
}

/// The name after `-j` or `-g` in the words of a rule.
pub(crate) fn target(spec: &str) -> Option<&str> {
    let tokens = tokens(spec).ok()?;
    let at = options(&tokens).find(|at| ["-j", "--jump", "-g", "--goto"].iter().any(|name| tokens[*at].is(name)))?;
    let name = &spec[tokens.get(at + 1)?.range.clone()];
    Some(name.trim_matches('"'))
}

/// Where options stand. The values of options that take any text are passed over, since such a
/// value may look like an option: iptables-save quotes only values with characters that need it.
fn options<'a>(tokens: &'a [tokens::Token<'a>]) -> impl Iterator<Item = usize> + 'a {
    let mut next = 0;
    std::iter::from_fn(move || {
        let at = next;
        let token = tokens.get(at)?;
        next += if TEXT.iter().any(|name| token.is(name)) { 2 } else { 1 };
        Some(at)
    })
}

/// Options whose values are any text.
const TEXT: [&str; 9] = [
    "--comment",
    "--log-prefix",
    "--nflog-prefix",
    "--string",
    "--hex-string",
    "--name",
    "--hashlimit-name",
    "--match-set",
    "--path",
];

#[cfg(test)]
mod tests;

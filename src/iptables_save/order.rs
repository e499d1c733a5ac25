//! The order in which a packet meets the rules of a text.

use std::collections::BTreeMap;

use super::{SavedPlacement, SavedRule, SavedTable, problem};
use crate::error::Error;
use crate::net::Family;

impl<F: Family> SavedTable<F> {
    /// The chains with their rules in the order in which a packet meets them, once the text is loaded into an empty table:
    /// the chains that are declared, and those that have rules.
    ///
    /// # Errors
    /// [`Error::Config`] if a rule is inserted below rules that the text does not have.
    pub fn in_effect(&self) -> Result<BTreeMap<&str, Vec<&SavedRule<F>>>, Error> {
        let mut chains: BTreeMap<&str, Vec<&SavedRule<F>>> =
            crate::sorted::map(self.chains.iter().map(|chain| (chain.name.as_str(), Vec::new())));
        let mut problems = Vec::new();
        for rule in &self.rules {
            let rules = chains.entry(&rule.chain).or_default();
            let index = match rule.placement {
                SavedPlacement::Append => Some(rules.len()),
                SavedPlacement::Insert(place) => usize::try_from(place).ok().and_then(|place| place.checked_sub(1)),
            };
            match index.filter(|index| *index <= rules.len()) {
                Some(index) => rules.insert(index, rule),
                None => {
                    let at = format!("{} {}", self.name, rule.chain);
                    problems.push(problem(&at, &rule.spec, format!("a place from 1 to {}", rules.len() + 1)));
                }
            }
        }
        match problems.is_empty() {
            true => Ok(chains),
            false => Err(Error::Config(problems)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::net::V4;

    fn orders(text: &str) -> Result<String, crate::Error> {
        let saved = parse::<V4>(&format!("*nat\n{text}COMMIT\n")).unwrap();
        let chains = saved.tables[0].in_effect()?;
        let one = |(name, rules): (&&str, &Vec<&super::SavedRule<V4>>)| {
            let specs: Vec<_> = rules.iter().map(|rule| rule.spec.trim_start_matches("-j ")).collect();
            format!("{name}: {}", specs.join(" "))
        };
        Ok(chains.iter().map(one).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn inserted_rules_come_where_they_are_put() {
        assert_eq!(
            orders(":OUTPUT ACCEPT [0:0]\n:X - [0:0]\n-A OUTPUT -j A\n-I OUTPUT -j B\n-A OUTPUT -j C\n-I OUTPUT 2 -j D\n-I OUTPUT 5 -j E\n-A Y -j F\n")
                .unwrap(),
            "OUTPUT: B D A C E; X: ; Y: F"
        );
    }

    #[test]
    fn a_place_below_what_is_not_there_is_refused() {
        let error = orders("-A OUTPUT -j A\n-I OUTPUT 3 -j B\n").unwrap_err();
        assert_eq!(error.to_string(), "nat OUTPUT: '-j B' is not valid: expected a place from 1 to 2");
    }
}

//! What a look into a set of other programs says about a packet.

use super::constants::*;
use super::facts::{Reader, number};
use super::registers::Value;
use crate::error::visible;
use crate::netlink::constants::*;
use crate::netlink::expression::bytes;
use crate::nftables::{Deed, Fact, Field, Part, Span};

/// A set or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) name: String,
    pub(super) flags: u32,
    pub(super) key_length: usize,
    pub(super) elements: Vec<Element>,
    /// Whether the elements were read.
    pub(super) read: bool,
}

/// An element of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    /// The end of an interval, included; only where an element is one.
    pub(super) key_end: Option<Vec<u8>>,
    pub(super) flags: u32,
    /// What a map of verdicts has for it.
    pub(super) deed: Option<Deed>,
}

impl Set {
    /// Whether its elements stay what they are: packets put none in and take none out.
    pub(super) fn is_steady(&self) -> bool {
        self.flags & NFT_SET_EVAL == 0
    }

    /// That the values are in the set, or are not in it.
    pub(super) fn holds(&self, reader: Reader<'_>, values: Option<&[Value]>, inverted: bool) -> Part {
        let Some(keys) = values.filter(|_| self.read).and_then(|values| self.keys(reader, values)) else {
            return Part::If(vec![vec![self.unknown(values)]]);
        };
        let lists = together(keys.into_iter().map(|(facts, _)| facts).filter(|facts| possible(facts)).collect());
        if !inverted {
            return Part::If(lists);
        }
        let one = |list: &Vec<Fact>| if list.len() == 1 { reader.not(list) } else { vec![self.unknown(values)] };
        let all: Vec<Fact> = match lists.iter().any(Vec::is_empty) {
            // Everything is in the set.
            true => vec![Fact::Never],
            false => lists.iter().flat_map(one).collect(),
        };
        Part::If(if possible(&all) { vec![all] } else { Vec::new() })
    }

    /// What the map says of the values.
    pub(super) fn choose(&self, reader: Reader<'_>, values: Option<&[Value]>) -> Part {
        let choices = values.filter(|_| self.read).and_then(|values| {
            let keys = self.keys(reader, values)?;
            let keys = keys.into_iter().filter(|(facts, _)| possible(facts));
            keys.map(|(facts, deed)| Some((facts, deed?))).collect::<Option<Vec<_>>>()
        });
        let unknown = || vec![(vec![self.unknown(values)], Deed::Unknown(format!("vmap {}", self.title()).into()))];
        Part::Choose(choices.unwrap_or_else(unknown))
    }

    /// As it is asked for.
    pub(super) fn title(&self) -> String {
        format!("@{}", visible(&self.name))
    }

    fn unknown(&self, values: Option<&[Value]>) -> Fact {
        let asked: Vec<_> = values.into_iter().flatten().map(super::text::value).collect();
        Fact::Unknown(format!("{} {}", asked.join(" . "), self.title()).trim().into())
    }

    /// What each element says of the values; those that say something of all others come last.
    fn keys(&self, reader: Reader<'_>, values: &[Value]) -> Option<Vec<(Vec<Fact>, Option<Deed>)>> {
        let (all, some): (Vec<_>, Vec<_>) =
            self.elements.iter().partition(|element| element.flags & NFT_SET_ELEM_CATCHALL != 0);
        let mut found = Vec::new();
        match values {
            [one] if self.flags & NFT_SET_INTERVAL != 0 && some.iter().all(|element| element.key_end.is_none()) => {
                for (first, last, deed) in self.intervals(&some)? {
                    found.push((vec![reader.between(one, &first, &last)], deed));
                }
            }
            _ => {
                for element in some {
                    found.push((concatenation(reader, values, element)?, element.deed.clone()));
                }
            }
        }
        found.extend(all.into_iter().map(|element| (Vec::new(), element.deed.clone())));
        Some(found)
    }

    /// The intervals that begin and end at elements.
    #[expect(clippy::type_complexity, reason = "the two ends of an interval, and what it maps to")]
    fn intervals(&self, elements: &[&Element]) -> Option<Vec<(Vec<u8>, Vec<u8>, Option<Deed>)>> {
        let mut sorted: Vec<_> = Vec::with_capacity(elements.len());
        for element in elements {
            sorted.push((number(&element.key)?, element.flags & NFT_SET_ELEM_INTERVAL_END == 0, &element.deed));
        }
        // Where one interval ends and another begins, the end comes first.
        sorted.sort_by_key(|(key, begins, _)| (*key, *begins));
        let mut found = Vec::new();
        let mut sorted = sorted.into_iter().peekable();
        while let Some((first, begins, deed)) = sorted.next() {
            if !begins {
                continue;
            }
            let last = match sorted.peek() {
                Some((next, ..)) => next.checked_sub(1)?,
                None => u128::MAX >> (128 - 8 * self.key_length.clamp(1, 16)),
            };
            found.push((bytes(first, self.key_length), bytes(last, self.key_length), deed.clone()));
        }
        Some(found)
    }
}

/// What an element says of values that stand one behind another, each from a multiple of 4 bytes on.
fn concatenation(reader: Reader<'_>, values: &[Value], element: &Element) -> Option<Vec<Fact>> {
    let mut facts = Vec::new();
    let mut at = 0;
    for value in values {
        let first = element.key.get(at..at + value.length)?;
        match &element.key_end {
            None => facts.extend(reader.equal(value, first)),
            Some(end) => facts.push(reader.between(value, first, end.get(at..at + value.length)?)),
        }
        at += value.length.next_multiple_of(4);
    }
    Some(facts)
}

/// Whether all may hold.
pub(super) fn possible(facts: &[Fact]) -> bool {
    !facts.contains(&Fact::Never)
}

/// Values of one field are one list.
fn together(lists: Vec<Vec<Fact>>) -> Vec<Vec<Fact>> {
    let mut common: Option<Field> = None;
    let mut spans: Vec<Span> = Vec::with_capacity(lists.len());
    for list in &lists {
        match &list[..] {
            [Fact::Value { field, spans: own }] if common.is_none_or(|common| common == *field) => {
                common = Some(*field);
                spans.extend(own.iter().copied());
            }
            _ => return lists,
        }
    }
    let Some(field) = common else { return lists };
    vec![vec![Fact::Value { field, spans: Span::union(spans).into() }]]
}

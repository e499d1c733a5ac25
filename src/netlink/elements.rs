//! What is in an interval set.

use std::sync::Arc;

use super::constants::NFT_SET_ELEM_INTERVAL_END;
use crate::nftables::Span;

/// The elements of a set. The order in which the kernel lists them has no effect, and neither has the end at 0, which says that
/// the values before the first interval are in none.
///
/// Equal elements have the same form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Elements {
    /// Intervals, as sets of ours have them: sorted, neither overlapping nor touching. Shared with whoever has the same.
    Intervals(Arc<[Span]>),
    /// Anything else: sorted.
    Others(Vec<Element>),
}

/// The first value of an interval, or the one behind its last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    /// `NFT_SET_ELEM_*`.
    pub(super) flags: u32,
    /// Whether it has more than a key: an expression, a value or a time limit.
    pub(super) more: bool,
}

impl Default for Elements {
    fn default() -> Self {
        Self::Intervals(Arc::default())
    }
}

impl Elements {
    /// Each of them, in order, in a set whose keys have so many bytes.
    pub(super) fn iter(&self, width: usize) -> impl Iterator<Item = (Key<'_>, u32)> {
        let (spans, others) = match self {
            Self::Intervals(spans) => (&spans[..], &[][..]),
            Self::Others(elements) => (&[][..], &elements[..]),
        };
        let ends = spans.iter().flat_map(move |span| {
            // An interval up to the highest value has no end.
            let end = (span.last < highest(width)).then(|| (span.last + 1, NFT_SET_ELEM_INTERVAL_END));
            std::iter::once((span.first, 0)).chain(end)
        });
        let ends = ends.map(move |(value, flags)| (Key::Number(value.to_be_bytes(), width), flags));
        ends.chain(others.iter().map(|element| (Key::Bytes(&element.key), element.flags)))
    }
}

/// The key of an element.
pub(super) enum Key<'a> {
    /// The last bytes of a number, so many of them.
    Number([u8; 16], usize),
    Bytes(&'a [u8]),
}

impl Key<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Number(bytes, width) => &bytes[bytes.len() - (*width).min(bytes.len())..],
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// The highest value of so many bytes.
fn highest(width: usize) -> u128 {
    match width {
        0 => 0,
        _ => u128::MAX >> (128 - 8 * width.min(16)),
    }
}

/// Takes the elements of a set one by one, as the kernel lists them.
///
/// What turns out to be as expected is not kept: the set then shares what is expected. The kernel lists intervals from the highest
/// to the lowest or the other way round, and this needs no more than the one before. Elements in any other order are kept and
/// sorted.
#[derive(Debug)]
pub(super) struct Reader {
    /// The length of a key.
    width: usize,
    expected: Arc<[Span]>,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Intervals(Intervals),
    Others(Vec<Element>),
}

/// Intervals in the order in which they are listed.
#[derive(Debug, Clone, Default)]
struct Intervals {
    /// Whether each value is higher than the one before; not known before there are two.
    ascending: Option<bool>,
    /// The value before, and whether an interval ends there.
    last: Option<(u128, bool)>,
    /// How many intervals at the beginning of the list are those that were expected there.
    same: usize,
    /// The others, behind these.
    own: Vec<Span>,
}

impl Reader {
    /// For a set whose keys have so many bytes, and which may have these intervals.
    pub(super) fn new(width: usize, expected: Arc<[Span]>) -> Self {
        Self { width, expected, kept: Kept::Intervals(Intervals::default()) }
    }

    /// The next element.
    pub(super) fn push(&mut self, key: &[u8], flags: u32, more: bool) {
        if !more && flags == NFT_SET_ELEM_INTERVAL_END && key.iter().all(|byte| *byte == 0) {
            return;
        }
        if let Kept::Intervals(intervals) = &mut self.kept {
            let value = number(key).filter(|_| key.len() == self.width && !more);
            let end = match flags {
                0 => Some(false),
                NFT_SET_ELEM_INTERVAL_END => Some(true),
                _ => None,
            };
            if let Some((value, end)) = value.zip(end) {
                if intervals.push(value, end, self.width, &self.expected).is_some() {
                    return;
                }
            }
            self.kept = Kept::Others(intervals.elements(self.width, &self.expected));
        }
        if let Kept::Others(others) = &mut self.kept {
            others.push(Element { key: key.to_vec(), flags, more });
        }
    }

    /// What there was, once all have been taken.
    pub(super) fn finish(self) -> Elements {
        let Self { width, expected, kept } = self;
        let mut others = match kept {
            Kept::Intervals(intervals) => match intervals.clone().finish(width, &expected) {
                Some(spans) => return Elements::Intervals(spans),
                None => intervals.elements(width, &expected),
            },
            Kept::Others(others) => others,
        };
        others.sort_unstable();
        // In order they may be intervals after all.
        let mut again = Intervals::default();
        let taken = others.iter().try_for_each(|element| {
            let plain = element.key.len() == width && !element.more && element.flags & !NFT_SET_ELEM_INTERVAL_END == 0;
            again.push(number(&element.key).filter(|_| plain)?, element.flags != 0, width, &expected)
        });
        match taken.and_then(|()| again.finish(width, &expected)) {
            Some(spans) => Elements::Intervals(spans),
            None => Elements::Others(others),
        }
    }
}

impl Intervals {
    /// Takes the next value. `None`, with nothing changed, if it makes the list none of intervals that lie apart.
    fn push(&mut self, value: u128, end: bool, width: usize, expected: &[Span]) -> Option<()> {
        let Some((before, ended)) = self.last else {
            self.last = Some((value, end));
            return Some(());
        };
        let ascending = value > before;
        // An end at the end of nothing is none, and neither is a beginning in an interval.
        if value == before || ended == end || self.ascending.is_some_and(|way| way != ascending) {
            return None;
        }
        if self.ascending.is_none() {
            match (ascending, ended) {
                (true, true) => return None,
                // The highest interval goes up to the highest value.
                (false, false) => self.add(Span { first: before, last: highest(width) }, false, expected),
                _ => {}
            }
            self.ascending = Some(ascending);
        }
        match (ascending, end) {
            (true, true) => self.add(Span { first: before, last: value - 1 }, true, expected),
            (false, false) => self.add(Span { first: value, last: before - 1 }, false, expected),
            _ => {}
        }
        self.last = Some((value, end));
        Some(())
    }

    /// Adds an interval, which is only counted while all are as expected.
    fn add(&mut self, span: Span, ascending: bool, expected: &[Span]) {
        let next = match ascending {
            true => expected.get(self.same),
            false => expected.len().checked_sub(self.same + 1).map(|at| &expected[at]),
        };
        match self.own.is_empty() && next == Some(&span) {
            true => self.same += 1,
            false => self.own.push(span),
        }
    }

    /// The intervals in order, if the last value may be the last.
    fn finish(mut self, width: usize, expected: &Arc<[Span]>) -> Option<Arc<[Span]>> {
        let ascending = self.ascending.unwrap_or(true);
        match self.last {
            Some((first, false)) if ascending => self.add(Span { first, last: highest(width) }, true, expected),
            // The lowest interval has to begin.
            Some((_, true)) if !ascending || self.ascending.is_none() => return None,
            _ => {}
        }
        Some(match self.own.is_empty() && self.same == expected.len() {
            true => Arc::clone(expected),
            false => self.spans(ascending, expected).into(),
        })
    }

    /// The intervals so far, sorted.
    fn spans(mut self, ascending: bool, expected: &[Span]) -> Vec<Span> {
        if ascending {
            return expected[..self.same].iter().copied().chain(self.own).collect();
        }
        self.own.reverse();
        self.own.extend(&expected[expected.len() - self.same..]);
        self.own
    }

    /// All that was taken, one by one.
    fn elements(&self, width: usize, expected: &[Span]) -> Vec<Element> {
        let ascending = self.ascending.unwrap_or(true);
        // What the last value began is not among the intervals yet.
        let open = self.last.filter(|(_, end)| self.ascending.is_none() || *end != ascending);
        let spans = Elements::Intervals(self.clone().spans(ascending, expected).into());
        let element = |(key, flags): (Key<'_>, u32)| Element { key: key.bytes().to_vec(), flags, more: false };
        let flags = |end| if end { NFT_SET_ELEM_INTERVAL_END } else { 0 };
        let open = open.map(|(value, end)| element((Key::Number(value.to_be_bytes(), width), flags(end))));
        spans.iter(width).map(element).chain(open).collect()
    }
}

/// A number of at most 16 bytes, big endian.
fn number(key: &[u8]) -> Option<u128> {
    let mut bytes = [0; 16];
    bytes[16_usize.checked_sub(key.len())?..].copy_from_slice(key);
    Some(u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use arbitrary::Unstructured;
    use arbtest::arbtest;

    use super::*;

    /// The plain way: everything is kept and sorted, then compared.
    fn plainly(list: &[Element]) -> Vec<Element> {
        let end_at_0 = |one: &Element| one.flags == 1 && !one.more && one.key.iter().all(|byte| *byte == 0);
        let mut list: Vec<_> = list.iter().filter(|one| !end_at_0(one)).cloned().collect();
        list.sort();
        list
    }

    fn read(list: &[Element], width: usize, expected: &Arc<[Span]>) -> Elements {
        let mut reader = Reader::new(width, expected.clone());
        list.iter().for_each(|one| reader.push(&one.key, one.flags, one.more));
        reader.finish()
    }

    fn listed(elements: &Elements, width: usize) -> Vec<Element> {
        let each = elements.iter(width);
        each.map(|(key, flags)| Element { key: key.bytes().to_vec(), flags, more: false }).collect()
    }

    /// Intervals that lie apart, often at the ends of all that there is.
    fn spans(u: &mut Unstructured<'_>, width: usize) -> arbitrary::Result<Arc<[Span]>> {
        let mut spans: Vec<Span> = Vec::new();
        let mut next = if u.arbitrary()? { 0 } else { u.int_in_range(1..=3)? };
        for _ in 0..u.int_in_range(0..=5)? {
            let last = next + u.int_in_range(0..=2)?;
            spans.push(Span { first: next, last });
            next = last + u.int_in_range(2..=4)?;
        }
        if u.arbitrary()? {
            spans.push(Span { first: next, last: highest(width) });
        }
        Ok(spans.into())
    }

    #[test]
    fn comparing_while_reading_is_as_strict_as_comparing_lists() {
        let (mut same, mut other, mut odd) = (0, 0, 0);
        arbtest(|u| {
            let width = *u.choose(&[1, 2, 4, 16])?;
            let wanted = spans(u, width)?;
            let there = if u.arbitrary()? { wanted.clone() } else { spans(u, width)? };
            let mut list = listed(&Elements::Intervals(there), width);
            // As another kernel lists them, and with what somebody did to them.
            match u.int_in_range(0..=3)? {
                0 => list.reverse(),
                1 if !list.is_empty() => {
                    for at in 0..list.len() {
                        list.swap(at, u.choose_index(at + 1)?);
                    }
                }
                _ => {}
            }
            for _ in 0..u.int_in_range(0..=2)? {
                let key = bytes(u.int_in_range(0..=9)?, width);
                let made = Element { key, flags: u.int_in_range(0..=2)?, more: u.ratio(1, 8)? };
                let at = u.int_in_range(0..=list.len())?;
                match u.int_in_range(0..=3)? {
                    0 if at < list.len() => drop(list.remove(at)),
                    1 if at < list.len() => list[at] = made,
                    2 if at < list.len() => list.push(list[at].clone()),
                    3 => list.insert(at, made),
                    _ => {}
                }
            }
            let (found, unexpecting) = (read(&list, width, &wanted), read(&list, width, &Arc::default()));
            assert_eq!(found, unexpecting, "{list:?}");
            let equal = plainly(&list) == listed(&Elements::Intervals(wanted.clone()), width);
            assert_eq!(found == Elements::Intervals(wanted.clone()), equal, "{list:?}\n{wanted:?}");
            match &found {
                Elements::Intervals(spans) => {
                    assert_eq!(listed(&found, width), plainly(&list));
                    assert_eq!(Arc::ptr_eq(spans, &wanted), equal, "what is expected is shared");
                    if equal { same += 1 } else { other += 1 }
                }
                Elements::Others(all) => {
                    assert_eq!(*all, plainly(&list));
                    odd += 1;
                }
            }
            Ok(())
        })
        .size_min(200)
        .size_max(4_000)
        .budget_ms(1_000);
        assert!(same > 0 && other > 0 && odd > 0, "{same} {other} {odd}");
    }

    fn bytes(value: u128, width: usize) -> Vec<u8> {
        value.to_be_bytes()[16 - width..].to_vec()
    }

    /// Neither the expected intervals nor those that are there are built: whatever the number, nothing is kept of what is as
    /// expected, and no more than what differs of the rest.
    #[test]
    fn what_is_as_expected_is_not_kept() {
        for count in [1_000, 10_000, 100_000_u128] {
            let expected: Arc<[Span]> = (0..count).map(|n| Span { first: n << 5, last: (n << 5) + 15 }).collect();
            let mut list = listed(&Elements::Intervals(expected.clone()), 4);
            for _ in 0..2 {
                list.reverse();
                let mut reader = Reader::new(4, expected.clone());
                for one in &list {
                    reader.push(&one.key, one.flags, false);
                    let Kept::Intervals(kept) = &reader.kept else { panic!("{:?}", reader.kept) };
                    assert_eq!(kept.own.capacity(), 0);
                }
                let Elements::Intervals(spans) = reader.finish() else { panic!() };
                assert!(Arc::ptr_eq(&spans, &expected));
            }
            // One is longer: from there on the intervals are kept, each once.
            list[3].key = bytes(45 + 8, 4);
            let Elements::Intervals(spans) = read(&list, 4, &expected) else { panic!() };
            assert_eq!(spans.len(), expected.len());
            let differing: Vec<_> = (0..spans.len()).filter(|at| spans[*at] != expected[*at]).collect();
            assert_eq!(differing, [1]);
        }
    }
}

//! Sorting by one routine for all types.
//!
//! The standard library makes its own for each type, of about 5 kB, also where a sorted map or set is made of an iterator:
//! there were forty of them in the C library. What is sorted here is short, or its order costs little beside the rest.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// As `slice::sort_by`.
pub(crate) fn by<T>(items: &mut [T], compare: impl Fn(&T, &T) -> Ordering) {
    for (a, b) in swaps(items.len(), &|a, b| compare(&items[a], &items[b])) {
        items.swap(a, b);
    }
}

/// As `slice::sort_by_key`.
pub(crate) fn by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    by(items, |a, b| key(a).cmp(&key(b)));
}

/// As `Iterator::collect`.
pub(crate) fn map<K: Ord, V>(entries: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    entries.into_iter().for_each(|(key, value)| {
        map.insert(key, value);
    });
    map
}

/// As `Iterator::collect`.
pub(crate) fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    items.into_iter().for_each(|item| {
        set.insert(item);
    });
    set
}

/// What has to change places, one after the other, so that so many items are sorted.
fn swaps(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<(usize, usize)> {
    let mut swaps = Vec::new();
    if (1..count).all(|at| compare(at - 1, at).is_le()) {
        return swaps;
    }
    // At each place, where the item stands that belongs there.
    let mut from: Vec<usize> = (0..count).collect();
    from.sort_by(|a, b| compare(*a, *b));
    for first in 0..count {
        let mut at = first;
        loop {
            let next = std::mem::replace(&mut from[at], at);
            if next == first || next == at {
                break;
            }
            swaps.push((at, next));
            at = next;
        }
    }
    swaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_sorted_as_the_standard_library_sorts_it() {
        arbtest::arbtest(|bytes| {
            let mut ours: Vec<(u8, String)> = bytes.arbitrary()?;
            let mut theirs = ours.clone();
            // By one part only: the other one tells whether the sort is stable.
            by_key(&mut ours, |(key, _)| *key % 8);
            theirs.sort_by_key(|(key, _)| *key % 8);
            assert_eq!(ours, theirs);
            assert_eq!(map(ours.clone()), theirs.iter().cloned().collect());
            assert_eq!(set(ours), theirs.into_iter().collect());
            Ok(())
        });
    }
}

//! Finding the name that was probably meant.

use crate::error::InvalidValue;

/// Names longer than this are nobody's slip of the finger, and comparing them would take long.
const LONGEST: usize = 80;

/// The name among `names` that is nearest to `text`, letter case aside, unless all are far from it.
pub(in crate::config) fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    within(text, names, (text.chars().count() / 3).max(1))
}

/// The same, where no more than `tolerated` characters may differ.
pub(in crate::config) fn within<'a>(
    text: &str,
    names: impl IntoIterator<Item = &'a str>,
    tolerated: usize,
) -> Option<&'a str> {
    if text.len() > LONGEST {
        return None;
    }
    let text = text.to_lowercase();
    names
        .into_iter()
        .map(|name| (distance(&text, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= tolerated)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The one among `all` that has this name to the letter.
///
/// # Errors
/// That it is none of them, whose sort is `what`, and which one was probably meant.
pub(in crate::config) fn one_of<T: Copy, const N: usize>(
    text: &str,
    what: &str,
    all: [T; N],
    name: impl Fn(T) -> &'static str,
) -> Result<T, InvalidValue> {
    all.into_iter().find(|one| name(*one) == text).ok_or_else(|| {
        let names = all.map(name);
        let hint = nearest(text, names).map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
        InvalidValue::new(text, format!("one of {what}{}{hint}", names.join(", ")))
    })
}

/// How many characters must be inserted, deleted or replaced to make one text the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn near_and_far() {
        let names = ["excludePorts", "excludePortsForIPs", "enabled"];
        assert_eq!(nearest("excludePort", names), Some("excludePorts"));
        assert_eq!(nearest("exclude-ports-for-ips", names), Some("excludePortsForIPs"));
        assert_eq!(nearest("somethingNew", names), None);
        assert_eq!(nearest(&"e".repeat(1 << 20), names), None);
    }
}

//! How YAML 1.1, which Kuma's programs read, takes what a document has.

use std::cell::OnceCell;
use std::collections::HashSet;

use super::{KumaDifference, KumaProgram};
use crate::config::Format;

/// Whether a text of a document is in quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    Yes,
    No,
    /// It occurs with quotes and without.
    Maybe,
}

/// The document as it was written, since the tree does not tell how texts were quoted.
pub(super) struct Style<'a> {
    text: &'a str,
    json: bool,
    words: OnceCell<Words<'a>>,
}

/// The texts of a document that stand in quotes, and all words besides.
#[derive(Default)]
struct Words<'a> {
    quoted: HashSet<&'a str>,
    plain: HashSet<&'a str>,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Self {
        let mut words = Self::default();
        let mut rest = text;
        let parts = |c: char| c.is_whitespace() || "[]{},:#".contains(c);
        while let Some(first) = rest.chars().next() {
            let quote = Some(first).filter(|c| matches!(c, '"' | '\''));
            let end = quote.and_then(|quote| rest[1..].find(quote));
            if let Some(end) = end {
                words.quoted.insert(&rest[1..=end]);
                rest = &rest[end + 2..];
            } else if parts(first) {
                rest = &rest[first.len_utf8()..];
            } else {
                let (word, after) = rest.split_at(rest.find(parts).unwrap_or(rest.len()));
                words.plain.insert(word);
                rest = after;
            }
        }
        words
    }
}

impl<'a> Style<'a> {
    pub(super) fn of(text: &'a str, format: Format) -> Self {
        // As in the reader of documents: what looks like JSON and is, is JSON.
        let looks_so = text.trim_start_matches('\u{feff}').trim_start().starts_with('{');
        let json = format == Format::Json
            || (looks_so && serde_json::from_str::<serde::de::IgnoredAny>(text.trim_start_matches('\u{feff}')).is_ok());
        Self { text, json, words: OnceCell::new() }
    }

    /// Whether a text value is in quotes.
    pub(super) fn quotes(&self, value: &str) -> Quotes {
        if self.json {
            return Quotes::Yes;
        }
        let words = self.words.get_or_init(|| Words::of(self.text));
        match (words.quoted.contains(value), words.plain.contains(value)) {
            (true, false) => Quotes::Yes,
            (true, true) => Quotes::Maybe,
            (false, _) => Quotes::No,
        }
    }

    /// What makes both programs refuse the document as a whole.
    pub(super) fn refused_as_a_whole(&self) -> Vec<KumaDifference> {
        let escapes =
            [("\\/", "'/' without a backslash"), ("\\ud", "the character itself instead of a pair of escapes")];
        let of_json = escapes.into_iter().filter(|(escape, _)| self.json && self.has_escape(escape));
        let version = self.text.lines().find(|line| line.starts_with("%YAML") && line.trim() != "%YAML 1.1");
        let version = version.filter(|_| !self.json).map(|line| (line, "YAML 1.1, which needs no such line"));
        let difference = |(value, reason): (&str, &str)| KumaDifference {
            path: "document".to_owned(),
            value: value.to_owned(),
            programs: KumaProgram::ALL.to_vec(),
            refused: true,
            reason: reason.to_owned(),
        };
        of_json.chain(version).map(difference).collect()
    }

    /// Whether an escape of JSON is in the text, where its backslash is not one that was escaped itself.
    fn has_escape(&self, escape: &str) -> bool {
        let lower = self.text.to_ascii_lowercase();
        lower.match_indices(escape).any(|(start, _)| {
            let backslashes = lower[..start].bytes().rev().take_while(|byte| *byte == b'\\').count();
            // Of \uD000 to \uDFFF, those from \uD800 on are halves of a character.
            let half = escape != "\\ud" || matches!(lower.as_bytes().get(start + 3), Some(b'8'..=b'9' | b'a'..=b'f'));
            backslashes % 2 == 0 && half
        })
    }
}

/// The words that YAML 1.1 takes for a switch where they are not in quotes.
pub(super) fn switch(word: &str) -> Option<bool> {
    match word {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// What YAML 1.1 makes of a text that is none to it where it is not in quotes: a word for a switch, a number with a zero in
/// front, which is octal if it can be, or one with underscores.
pub(super) fn plain(text: &str) -> Option<String> {
    if let Some(on) = switch(text) {
        return Some(on.to_string());
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = digits.replace('_', "");
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let octal = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte < b'8');
    let number = u64::from_str_radix(&digits, if octal { 8 } else { 10 }).ok()?;
    Some(format!("{sign}{number}")).filter(|number| number != text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the library that Kuma uses was seen to do it.
    #[test]
    fn plain_scalars_of_yaml_1_1() {
        for (text, expected) in [
            ("05678", Some("5678")),
            ("015001", Some("6657")),
            ("0159", Some("159")),
            ("-010", Some("-8")),
            ("1_000", Some("1000")),
            ("0_8", Some("8")),
            ("yes", Some("true")),
            ("N", Some("false")),
            ("yEs", None),
            ("5678", None),
            ("0", None),
            ("kuma-dp", None),
            ("0100:5", None),
            ("_1", None),
        ] {
            assert_eq!(plain(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    #[cfg(feature = "yaml")]
    fn quotes_are_seen() {
        for (text, expected) in [
            ("a: yes", Quotes::No),
            ("a: 'yes'", Quotes::Yes),
            ("a: \"yes\" # yesterday", Quotes::Yes),
            ("{a: 'yes', b: yes}", Quotes::Maybe),
            ("{\"a\": \"yes\"}", Quotes::Yes),
            ("a: |-\n  yes", Quotes::No),
        ] {
            assert_eq!(Style::of(text, Format::Yaml).quotes("yes"), expected, "{text}");
        }
    }
}

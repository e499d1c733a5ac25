//! Words as iptables-restore splits them, which is not as a shell does.

use std::borrow::Cow;
use std::ops::Range;

/// A word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// The word, without its quotes.
    pub(crate) text: Cow<'a, str>,
    /// Where it stands in the line, with its quotes.
    pub(crate) range: Range<usize>,
    /// Whether any of it was quoted.
    pub(crate) quoted: bool,
}

impl Token<'_> {
    /// Whether the word is this one, and cannot be a value that looks like it: iptables-save never
    /// quotes the name of an option.
    pub(crate) fn is(&self, name: &str) -> bool {
        !self.quoted && self.text == name
    }
}

/// A quoted text that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenQuote;

/// Splits a line at blanks. Double quotes keep blanks together; only within them a backslash takes
/// the next character as it is; a closing quote ends the word (iptables/xshared.c, `add_param_to_argv`).
pub(crate) fn tokens(line: &str) -> Result<Vec<Token<'_>>, OpenQuote> {
    let mut tokens = Vec::new();
    let mut chars = line.char_indices().peekable();
    while let Some(&(start, c)) = chars.peek() {
        if is_blank(c) {
            chars.next();
            continue;
        }
        let (mut text, mut plain, mut quoted, mut end) = (String::new(), start, false, line.len());
        while let Some((at, c)) = chars.next() {
            if is_blank(c) {
                end = at;
                break;
            }
            if c != '"' {
                text.push(c);
                continue;
            }
            quoted = true;
            loop {
                match chars.next().ok_or(OpenQuote)? {
                    (_, '\\') => text.push(chars.next().ok_or(OpenQuote)?.1),
                    (at, '"') => {
                        end = at + 1;
                        break;
                    }
                    (_, c) => text.push(c),
                }
            }
            plain = end;
            break;
        }
        let text = if plain == start { Cow::Borrowed(&line[start..end]) } else { Cow::Owned(text) };
        tokens.push(Token { text, range: start..end, quoted });
    }
    Ok(tokens)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        tokens(line).unwrap().into_iter().map(|t| t.text.into_owned()).collect()
    }

    #[test]
    fn as_iptables_restore_does() {
        assert_eq!(words("-A  X\t-j Y "), ["-A", "X", "-j", "Y"]);
        assert_eq!(words(r#"--comment "a b \"c\" \\ it\'s" -j"#), ["--comment", r#"a b "c" \ it's"#, "-j"]);
        assert_eq!(words(r#""" x"#), ["", "x"]);
        assert_eq!(words(r#"a"b c"d"#), ["ab c", "d"]);
        assert_eq!(words(r"a\ 'b c'"), [r"a\", "'b", "c'"]);
        for open in [r#"a "b"#, r#"a "b\"#, r#"a "b\""#] {
            assert_eq!(tokens(open), Err(OpenQuote));
        }
    }

    #[test]
    fn the_place_of_a_word_is_known() {
        let line = r#"-m comment --comment "a\"b" -j X"#;
        let found: Vec<_> = tokens(line).unwrap().into_iter().map(|t| &line[t.range]).collect();
        assert_eq!(found, ["-m", "comment", "--comment", r#""a\"b""#, "-j", "X"]);
    }
}

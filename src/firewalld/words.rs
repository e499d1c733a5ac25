//! The arguments of a direct rule, which firewalld splits as a POSIX shell does.

/// Splits as Python's `shlex.split`, which firewalld uses; `None` if a quoted text does not end.
pub(super) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// Joins words so that [`split`] gives them again, in double quotes where quotes are needed, as
/// iptables writes them.
pub(super) fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\');
        if !word.is_empty() && word.chars().all(plain) {
            text.push_str(word);
            continue;
        }
        text.push('"');
        for c in word.chars() {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_a_shell_does() {
        assert_eq!(
            split(r#"-m  x --comment "a \"b\" \n" 'c"d'e\ f ''"#).unwrap(),
            ["-m", "x", "--comment", r#"a "b" \n"#, r#"c"de f"#, ""]
        );
        assert_eq!(split("'a"), None);
        assert_eq!(split("\"a\\"), None);
        assert_eq!(split(" \n").unwrap(), [""; 0]);
    }

    #[test]
    fn joined_words_are_split_again() {
        let words = ["-m", "it's", "a b", "\"", "\\", "", "é", "$x"];
        assert_eq!(split(&join(words)).unwrap(), words);
        assert_eq!(join(["-j", "a b"]), "-j \"a b\"");
    }
}

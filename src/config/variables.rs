//! Variables in a file.

use crate::error::{Error, InvalidValue};

/// The variables of a text with one on each line, `NAME=VALUE`, in their order: an environment file, what
/// `kubectl set env --list` or `env` prints.
///
/// Blanks around names and values do not count, nor do a pair of quotes around a value, the word `export` before a name,
/// empty lines, and lines that begin with `#`. Nothing is expanded.
///
/// ```
/// use kumatp::config::variables;
///
/// let text = "# of the control plane\nKUMA_MODE=zone\n\nexport ZONE=\"east 1\"\n";
/// let expected = [("KUMA_MODE", "zone"), ("ZONE", "east 1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
/// assert_eq!(variables(text)?, expected);
///
/// let error = variables("A=1\nKUMA_MODE: zone\n").unwrap_err();
/// assert_eq!(error.to_string(), "line 2: 'KUMA_MODE: zone' is not valid: expected NAME=VALUE");
/// # Ok::<(), kumatp::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`] with every line that is something else. The path is the number of the line.
pub fn variables(text: &str) -> Result<Vec<(String, String)>, Error> {
    let mut variables = Vec::new();
    let mut problems = Vec::new();
    // A mark that editors on other systems put before a text is no part of the first name.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match variable(line) {
            Some(variable) => variables.push(variable),
            None => problems.push(InvalidValue::new(line, "NAME=VALUE").at(format!("line {}", index + 1))),
        }
    }
    if problems.is_empty() { Ok(variables) } else { Err(Error::Config(problems)) }
}

fn variable(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_.-".contains(c));
    is_name.then(|| (name.to_owned(), unquoted(value.trim()).to_owned()))
}

fn unquoted(value: &str) -> &str {
    let inner = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, name, value) in [
            ("A=1", "A", "1"),
            (" A = 1 2 ", "A", "1 2"),
            ("A=", "A", ""),
            ("A='x'", "A", "x"),
            ("A=\"x", "A", "\"x"),
            ("A='", "A", "'"),
            ("A==", "A", "="),
            ("export A.b-c=1\r", "A.b-c", "1"),
            ("\u{feff}A=1", "A", "1"),
        ] {
            assert_eq!(variables(line), Ok(vec![(name.to_owned(), value.to_owned())]), "{line:?}");
        }
        assert_eq!(variables("\n  # A=1\n"), Ok(Vec::new()));
    }

    #[test]
    fn every_wrong_line_is_named() {
        let error = variables("=1\nA=1\nA B=2\nwords\n").unwrap_err();
        let paths: Vec<&str> = error.problems().iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["line 1", "line 3", "line 4"]);
    }
}

//! The one error type of the crate.

use std::borrow::Cow;
use std::fmt;

/// Why a value was refused, before it is known which field it was meant for.
///
/// Every `FromStr` of this crate fails with it. It always names the offending value and what
/// would be right; whoever knows the field turns it into a [`Problem`] by [`InvalidValue::at`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not valid: expected {expected}", Quoted(.value))]
pub struct InvalidValue {
    value: String,
    expected: Cow<'static, str>,
}

impl InvalidValue {
    /// A refusal of `value`, where `expected` completes the sentence "expected …".
    pub fn new(value: impl Into<String>, expected: impl Into<Cow<'static, str>>) -> Self {
        Self { value: value.into(), expected: expected.into() }
    }

    /// The offending value, as it was given.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What would be right.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// Says which field the value was meant for.
    pub fn at(self, path: impl Into<String>) -> Problem {
        Problem { path: path.into(), value: self.value, expected: self.expected.into_owned() }
    }
}

/// One thing that is wrong with a document: where, which value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{path}: {}", Complaint(.value, .expected))]
#[non_exhaustive]
pub struct Problem {
    /// The field, for example `redirect.vnet.networks[1]`, `--redirect-dns-port` or the name of an
    /// environment variable; empty for the document as a whole.
    pub path: String,
    /// The offending value, as it was given.
    pub value: String,
    /// What would be right; completes the sentence "expected …".
    pub expected: String,
}

impl Problem {
    /// The same, where what has the field is a part of something else: a file, an annotation, a member of a document.
    pub fn within(mut self, whole: impl fmt::Display) -> Self {
        self.path = format!("{whole}: {}", self.path);
        self
    }
}

/// Everything that can go wrong in this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration, or another document or option, is not valid. Holds all of its problems.
    #[error("{}", Joined(.0))]
    Config(Vec<Problem>),

    /// A fact about the host is missing or makes the plan impossible.
    #[error("{fact}: {problem}; {remedy}")]
    Facts {
        /// The field of [`Facts`](crate::facts::Facts), or the configuration key that needs it.
        fact: String,
        /// What is wrong, with the offending value.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// The host, an engine or a program lacks a part that is needed.
    #[error("{what} is not supported: {remedy}")]
    Unsupported {
        /// What is missing, with its name.
        what: String,
        /// What to do about it.
        remedy: String,
    },

    /// The caller lacks a privilege.
    #[error("cannot {action}: permission denied; {needed} is needed")]
    Permission {
        /// What was attempted, as a verb phrase.
        action: String,
        /// The missing capability or identity.
        needed: String,
    },

    /// Something else is installed, or changed at the same time.
    #[error("conflict: {problem}; {remedy}")]
    Conflict {
        /// What stands in the way.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// The operating system refused.
    #[error("cannot {action}: {message}")]
    Os {
        /// What was attempted, as a verb phrase that names the object.
        action: String,
        /// What the system said.
        message: String,
        /// The error number, where there was one.
        errno: Option<i32>,
    },

    /// A program that was run failed.
    #[error("{program} failed ({status}): {message}")]
    Program {
        /// The path of the program, with its arguments.
        program: String,
        /// Its exit status, or the signal that ended it.
        status: String,
        /// What it wrote to standard error, shortened.
        message: String,
    },

    /// Several parts of an operation failed, each for itself; what could be done has been. One line each.
    #[error("{}", Joined(.0))]
    Several(Vec<Error>),

    /// A step failed because of another error. It says what that means, in the words of `failure`; see
    /// [`decisive`](Self::decisive) for which of the two counts.
    #[error("{failure}")]
    Because {
        /// What it comes to.
        failure: Box<Error>,
        /// What is behind it.
        #[source]
        cause: Box<Error>,
    },
}

impl Error {
    /// An [`Error::Os`] from an I/O error.
    pub fn io(action: impl Into<String>, error: &std::io::Error) -> Self {
        let message = match error.raw_os_error() {
            // The number is carried separately; std's " (os error 2)" would say it twice.
            Some(_) => error.to_string().split(" (os error").next().unwrap_or_default().to_owned(),
            None => error.to_string(),
        };
        Self::Os { action: action.into(), message, errno: error.raw_os_error() }
    }

    /// The same, because of another error, which is its [`source`](std::error::Error::source) then.
    pub fn because(self, cause: Error) -> Self {
        Self::Because { failure: Box::new(self), cause: Box::new(cause) }
    }

    /// What tells the kind: of several errors the first; of one with a cause the cause, if the system has refused something or a
    /// privilege is missing, since no step that fails of it is a failure of another kind.
    pub fn decisive(&self) -> &Self {
        match self {
            Self::Several(errors) => errors.first().map_or(self, Self::decisive),
            Self::Because { failure, cause } => match cause.decisive() {
                refused @ (Self::Os { .. } | Self::Permission { .. }) => refused,
                _ => failure.decisive(),
            },
            error => error,
        }
    }

    /// The same, where what is not valid is a part of something else: a file, an annotation, a member of a document.
    pub fn within(self, whole: impl fmt::Display) -> Self {
        match self {
            Self::Config(problems) => {
                Self::Config(problems.into_iter().map(|problem| problem.within(&whole)).collect())
            }
            other => other,
        }
    }

    /// The problems of an [`Error::Config`]; empty for every other error.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Config(problems) => problems,
            _ => &[],
        }
    }

    /// The number that the operating system gave, if it was involved.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Os { errno, .. } => *errno,
            Self::Several(errors) => errors.iter().find_map(Self::errno),
            Self::Because { failure, cause } => cause.errno().or_else(|| failure.errno()),
            _ => None,
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Config(vec![problem])
    }
}

/// The text with what cannot be seen escaped, so that nothing can disturb a message. Quotes and backslashes stay as they are.
pub(crate) fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut visible, c| {
        match c {
            '\'' | '"' | '\\' => visible.push(c),
            // Control characters, and those that change how others look.
            _ => visible.extend(c.escape_debug()),
        }
        visible
    })
}

/// What is wrong with a value. A text that is no document has none to show.
struct Complaint<'a>(&'a str, &'a str);

impl fmt::Display for Complaint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, expected) = self;
        match value.is_empty() && ["valid YAML: ", "valid JSON: "].iter().any(|syntax| expected.starts_with(syntax)) {
            true => write!(f, "not {expected}"),
            false => write!(f, "{} is not valid: expected {expected}", Quoted(value)),
        }
    }
}

/// How many there are of something, as text: `1 rule`, `2 rules`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A value as messages quote it: very long values cut.
pub(crate) fn quoted(value: &str) -> impl fmt::Display + '_ {
    Quoted(value)
}

/// Quotes a value for a message: very long values cut.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX: usize = 120;
        match self.0.char_indices().nth(MAX) {
            Some((end, _)) => write!(f, "'{}…'", visible(&self.0[..end])),
            None => write!(f, "'{}'", visible(self.0)),
        }
    }
}

struct Joined<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_several() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "rule")), ["0 rules", "1 rule", "2 rules"]);
    }

    #[test]
    fn a_problem_names_field_value_and_remedy() {
        let problem = InvalidValue::new("70000", "a port from 1 to 65535").at("redirect.dns.port");
        assert_eq!(problem.to_string(), "redirect.dns.port: '70000' is not valid: expected a port from 1 to 65535");
    }

    #[test]
    fn quotes_are_not_escaped() {
        let text = InvalidValue::new(r#"it's "2s" of C:\x"#, "a duration").to_string();
        assert_eq!(text, r#"'it's "2s" of C:\x' is not valid: expected a duration"#);
    }

    #[test]
    fn hostile_values_cannot_break_a_message() {
        let long = "é".repeat(500);
        let text = InvalidValue::new(format!("a\n\u{1b}[2J{long}"), "something else").to_string();
        assert!(!text.contains('\n') && !text.contains('\u{1b}'));
        assert!(text.contains('…'));
    }

    #[test]
    fn a_refusal_by_the_system_decides_however_often_it_is_wrapped() {
        let refused = Error::io("remove /sys/fs/bpf/kumatp", &std::io::Error::from_raw_os_error(1));
        let conflict = || Error::Conflict { problem: "it stays".into(), remedy: "uninstall".into() };
        let wrapped = conflict().because(Error::Several(vec![conflict().because(refused.clone()), conflict()]));
        assert_eq!((wrapped.to_string(), wrapped.errno()), (conflict().to_string(), Some(1)));
        assert_eq!(wrapped.decisive(), &refused);
        let source = std::error::Error::source(&wrapped).unwrap();
        assert!(source.to_string().starts_with(&conflict().to_string()), "{source}");
        // What a program says is what the step that ran it makes of it.
        let program = Error::Program { program: "nft".into(), status: "exit status 1".into(), message: "no".into() };
        assert_eq!(conflict().because(program).decisive(), &conflict());
    }

    #[test]
    fn problems_of_a_part_name_the_whole() {
        let problem = || InvalidValue::new("x", "y").at("wait");
        assert_eq!(Error::from(problem()).within("a.yaml").problems()[0].path, "a.yaml: wait");
        let other = Error::Os { action: "read".into(), message: "no".into(), errno: None };
        assert_eq!(other.clone().within("a.yaml"), other);
    }

    #[test]
    fn io_errors_say_the_number_once() {
        let error = Error::io("read /nowhere", &std::io::Error::from_raw_os_error(2));
        assert_eq!(error.to_string(), "cannot read /nowhere: No such file or directory");
        assert_eq!(error.errno(), Some(2));
    }
}

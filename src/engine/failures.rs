//! What went wrong where a part that fails keeps no other from being dealt with.

use crate::error::Error;

/// The failures of an operation, in order.
#[derive(Debug, Default)]
pub(super) struct Failures(Vec<Error>);

impl Failures {
    pub(super) fn add(&mut self, error: Error) {
        match error {
            Error::Several(errors) => errors.into_iter().for_each(|error| self.add(error)),
            error if !self.0.contains(&error) => self.0.push(error),
            _ => {}
        }
    }

    /// Adds what is no failure by itself, but is to be told where there is one.
    pub(super) fn add_to_others(&mut self, error: Option<Error>) {
        if !self.0.is_empty() {
            error.into_iter().for_each(|error| self.add(error));
        }
    }

    /// Whether nothing has failed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What an operation gave; none if it failed.
    pub(super) fn take<T>(&mut self, outcome: Result<T, Error>) -> Option<T> {
        outcome.map_err(|error| self.add(error)).ok()
    }

    /// What was done, if nothing has failed.
    pub(super) fn or<T>(mut self, done: T) -> Result<T, Error> {
        match self.0.len() {
            0 => Ok(done),
            1 => Err(self.0.remove(0)),
            _ => Err(Error::Several(self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(problem: &str) -> Error {
        Error::Conflict { problem: problem.into(), remedy: "wait".into() }
    }

    #[test]
    fn each_failure_is_told_once() {
        let mut failures = Failures::default();
        assert_eq!(failures.take(Ok(1)), Some(1));
        assert_eq!(Failures::default().or(2), Ok(2));
        failures.add(error("a"));
        assert_eq!(failures.take::<()>(Err(Error::Several(vec![error("a"), error("b")]))), None);
        let all = failures.or(()).unwrap_err();
        assert_eq!(all, Error::Several(vec![error("a"), error("b")]));
        assert_eq!(all.to_string(), "conflict: a; wait\nconflict: b; wait");
        let mut one = Failures::default();
        one.add(error("a"));
        assert_eq!(one.or(()), Err(error("a")));
    }
}

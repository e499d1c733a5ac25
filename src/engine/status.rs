//! How what is installed compares with a plan.

/// How what is installed compares with a plan.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
#[non_exhaustive]
pub enum Status {
    /// Nothing is installed.
    Absent,
    /// What is installed is what the plan asks for or, without one, what was installed.
    Current,
    /// Something else is installed, or it has been changed.
    Drifted {
        /// What is different, in words; never empty.
        differences: Vec<String>,
    },
    /// Something is installed, and there is nothing to compare it with, or no way to.
    Uncompared {
        /// Why not, in words.
        reason: String,
    },
}

impl Status {
    /// The same, with another difference if there is one; nothing can be missing of what is absent.
    pub(crate) fn and(self, difference: Option<String>) -> Self {
        match (self, difference) {
            (Self::Drifted { mut differences }, Some(difference)) => {
                differences.push(difference);
                Self::Drifted { differences }
            }
            (Self::Current | Self::Uncompared { .. }, Some(difference)) => {
                Self::Drifted { differences: vec![difference] }
            }
            (status, _) => status,
        }
    }

    /// The status of something that is there and differs in this.
    pub(crate) fn of(differences: Vec<String>) -> Self {
        match differences.is_empty() {
            true => Self::Current,
            false => Self::Drifted { differences },
        }
    }
}

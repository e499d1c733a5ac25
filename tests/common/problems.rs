//! What holds for every refusal of a document, whatever is in it.

use kumatp::Error;

/// Each problem says where it is and what would be right, and no character disturbs the message.
pub(crate) fn are_told(error: &Error) {
    assert!(!error.problems().is_empty(), "{error:?}");
    for problem in error.problems() {
        assert!(!problem.path.is_empty() && !problem.expected.is_empty(), "{problem:?}");
        assert!(!problem.to_string().contains(char::is_control), "{problem:?}");
    }
}

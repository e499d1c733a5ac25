//! What reads the rules in force, for questions about packets.

use super::asked::Question;
use crate::error::Error;
use crate::in_force::Installed;
use crate::netlink::Kernel;

/// A back end of this host, as far as it can read rules: its own and those of other programs.
pub(super) trait Reader {
    /// Adds what it reads in the network namespace of the calling thread. What could not be read is noted.
    fn read(&self, kernel: &mut Kernel, question: Question<'_>, found: &mut Installed) -> Result<(), Error>;
}

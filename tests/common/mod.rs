//! What several test programs share.

pub(crate) mod skip;
pub(crate) mod world;

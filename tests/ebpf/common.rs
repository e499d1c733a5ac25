//! What the other engines' tests have, in the places where their files look for it.

pub(crate) mod skip {
    pub(crate) use crate::netns::skipped;
}
#[path = "../common/world/mod.rs"]
pub(crate) mod world;

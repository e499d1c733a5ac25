use std::fmt;

use super::names::Name;
use super::native::{Action, Chain, Native, Rule, Table};
use crate::model::Comment;

/// The version of the native form. It changes when the same plan is lowered to other rules, so that
/// an installation by another version is not taken for the same.
pub const SCHEMA: u32 = 1;

/// What each table says of itself: by which version of the native form it was made, and from which
/// plan.
///
/// It is the comment of the only rule of a regular chain that nothing jumps to. The comment of the
/// table itself would be the better place, but kernels before 5.10 do not keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Marker {
    /// The [`SCHEMA`] of the version that made the table.
    pub schema: u32,
    /// The digest of the tables of both families.
    pub digest: u128,
}

impl Marker {
    /// The chain that holds it.
    pub const CHAIN: &'static str = "kuma_mesh_marker";

    /// The marker of tables that have none yet.
    pub(super) fn of(native: &Native) -> Self {
        let mut digest = Fnv::default();
        serde_json::to_writer(&mut digest, native).expect("the native form has string keys only");
        Self { schema: SCHEMA, digest: digest.0 }
    }

    /// The marker in a rule's comment, if it is one.
    pub fn parse(comment: &str) -> Option<Self> {
        let mut words = comment.strip_prefix(Comment::PREFIX)?.split(' ');
        let (Some("schema"), Some(schema), Some("digest"), Some(digest), None) =
            (words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            return None;
        };
        Some(Self { schema: schema.parse().ok()?, digest: u128::from_str_radix(digest, 16).ok()? })
    }

    /// The chain's name was kept free by the lowering.
    pub(super) fn put_into(self, table: &mut Table) {
        let rule = Rule {
            conditions: Vec::new(),
            action: Action::Return,
            comment: Some(Comment::ours(&self.to_string())),
            sources: Vec::new(),
        };
        table.chains.push(Chain { name: Name::nearest(Self::CHAIN), base: None, rules: vec![rule] });
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schema {} digest {:032x}", self.schema, self.digest)
    }
}

/// FNV-1a with 128 bits: the same on every machine, and no one gains by a collision.
struct Fnv(u128);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl std::io::Write for Fnv {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_digest_is_fnv_1a() {
        let mut fnv = Fnv::default();
        fnv.write_all(b"foobar").unwrap();
        assert_eq!(fnv.0, 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }

    #[test]
    fn a_marker_is_read_back() {
        let marker = Marker { schema: 1, digest: 0xab };
        assert_eq!(Marker::parse(Comment::ours(&marker.to_string()).as_str()), Some(marker));
        for text in ["", "schema 1 digest ab", "kuma/mesh/transparent/proxy/schema 1 digest xyz"] {
            assert_eq!(Marker::parse(text), None);
        }
    }
}

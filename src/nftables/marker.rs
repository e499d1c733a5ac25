use std::fmt;

use super::names::Name;
use super::native::{Action, Chain, Rule, Table};
use crate::model::Comment;

/// The version of the native form. It changes when the same plan is lowered to other rules, so that
/// an installation by another version is not taken for the same.
pub const SCHEMA: u32 = 2;

/// What each table says of itself: by which version of the native form it was made, what was in the
/// tables of both families, and how much of it in this one.
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
    /// The number of rules in this table, without the marker's own.
    pub rules: usize,
    /// The number of intervals in the sets of this table.
    pub intervals: usize,
}

impl Marker {
    /// The chain that holds it.
    pub const CHAIN: &'static str = "kuma_mesh_marker";

    /// The digest of tables without a marker. The order of their chains, which has no effect, does
    /// not count.
    pub(crate) fn digest<'a>(tables: impl IntoIterator<Item = &'a Table>) -> u128 {
        let mut digest = Fnv::default();
        for table in tables {
            let mut chains: Vec<_> = table.chains.iter().collect();
            chains.sort_by(|a, b| a.name.cmp(&b.name));
            serde_json::to_writer(&mut digest, &(table.family, chains)).expect("the native form has string keys only");
        }
        digest.0
    }

    /// The marker of a table that has none yet.
    pub(crate) fn of(table: &Table, digest: u128) -> Self {
        let intervals = table.sets().iter().map(|set| set.spans.len()).sum();
        let rules = table.chains.iter().map(|chain| chain.rules.len()).sum();
        Self { schema: SCHEMA, digest, rules, intervals }
    }

    /// The marker in a rule's comment, if it is one.
    pub fn parse(comment: &str) -> Option<Self> {
        let mut words = comment.strip_prefix(Comment::PREFIX)?.split(' ');
        let mut after = |name| words.next().filter(|word| *word == name).and_then(|_| words.next());
        let marker = Self {
            schema: after("schema")?.parse().ok()?,
            digest: u128::from_str_radix(after("digest")?, 16).ok()?,
            rules: after("rules")?.parse().ok()?,
            intervals: after("intervals")?.parse().ok()?,
        };
        words.next().is_none().then_some(marker)
    }

    /// Puts it into the table. The chain's name was kept free by the lowering.
    pub(crate) fn put_into(self, table: &mut Table) {
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
        let Self { schema, digest, rules, intervals } = self;
        write!(f, "schema {schema} digest {digest:032x} rules {rules} intervals {intervals}")
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
        let marker = Marker { schema: 1, digest: 0xab, rules: 40, intervals: 0 };
        assert_eq!(Marker::parse(Comment::ours(&marker.to_string()).as_str()), Some(marker));
        let ours = |words: &str| format!("{}{words}", Comment::PREFIX);
        for text in [
            String::new(),
            marker.to_string(),
            ours("schema 1 digest ab"),
            ours("schema 1 digest xyz rules 1 intervals 0"),
            ours(&format!("{marker} and more")),
        ] {
            assert_eq!(Marker::parse(&text), None);
        }
    }
}

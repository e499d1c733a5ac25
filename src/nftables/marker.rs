use std::fmt;

use super::names::Name;
use super::native::{Action, Chain, Native, Rule, Table};
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
    /// Whether the installation has put `::6` on the loopback interface, where the kernel itself does not keep that (before
    /// Linux 5.18). Only the table of IPv6 says so.
    pub address: bool,
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
            crate::sorted::by(&mut chains, |a, b| a.name.cmp(&b.name));
            serde_json::to_writer(&mut digest, &(table.family, chains)).expect("the native form has string keys only");
        }
        digest.0
    }

    /// The marker of a table that has none yet.
    pub(crate) fn of(table: &Table, digest: u128) -> Self {
        let intervals = table.sets().iter().map(|set| set.spans.len()).sum();
        let rules = table.chains.iter().map(|chain| chain.rules.len()).sum();
        Self { schema: SCHEMA, digest, rules, intervals, address: false }
    }

    /// The marker in a rule's comment, if it is one. One of another schema may say more.
    pub fn parse(comment: &str) -> Option<Self> {
        let mut words = comment.strip_prefix(Comment::PREFIX)?.split(' ');
        let mut after = |name| words.next().filter(|word| *word == name).and_then(|_| words.next());
        let mut marker = Self {
            schema: after("schema")?.parse().ok()?,
            digest: u128::from_str_radix(after("digest")?, 16).ok()?,
            rules: after("rules")?.parse().ok()?,
            intervals: after("intervals")?.parse().ok()?,
            address: false,
        };
        let rest: Vec<_> = words.collect();
        marker.address = rest == ADDED;
        (rest.is_empty() || marker.address || marker.schema != SCHEMA).then_some(marker)
    }

    /// Whether two say the same of the rules.
    pub(crate) fn is_of_the_same_rules(&self, other: &Self) -> bool {
        *self == Self { address: self.address, ..*other }
    }

    /// Puts it into the table. The chain's name was kept free by the lowering.
    pub(crate) fn put_into(self, table: &mut Table) {
        let rule = Rule {
            conditions: Vec::new(),
            action: Action::Return,
            comment: Some(Comment::ours(&self.to_string())),
            sources: Vec::new(),
            added: None,
        };
        table.chains.push(Chain { name: Name::nearest(Self::CHAIN), base: None, rules: vec![rule] });
    }
}

impl Native {
    /// The same, whose markers say that `::6` on the loopback interface is ours: in both tables, as others may remove one.
    #[cfg(all(feature = "host", target_os = "linux"))]
    pub(crate) fn with_address(mut self) -> Self {
        if self.v6.is_none() {
            // Then the address is removed.
            return self;
        }
        let tables = std::iter::once(&mut self.v4).chain(&mut self.v6);
        let chains = tables.flat_map(|table| &mut table.chains).filter(|chain| chain.name.as_str() == Marker::CHAIN);
        for comment in chains.flat_map(|chain| &mut chain.rules).filter_map(|rule| rule.comment.as_mut()) {
            if let Some(marker) = Marker::parse(comment.as_str()) {
                *comment = Comment::ours(&Marker { address: true, ..marker }.to_string());
            }
        }
        self
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schema, digest, rules, intervals, address } = self;
        write!(f, "schema {schema} digest {digest:032x} rules {rules} intervals {intervals}")?;
        match address {
            true => write!(f, " {}", ADDED.join(" ")),
            false => Ok(()),
        }
    }
}

/// How a marker says that the address was added.
const ADDED: [&str; 2] = ["added", "::6"];

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
        let marker = Marker { schema: SCHEMA, digest: 0xab, rules: 40, intervals: 0, address: false };
        let most = Marker { digest: u128::MAX, rules: 9_999_999, intervals: 9_999_999, address: true, ..marker };
        for marker in [marker, most, Marker { schema: 1, ..marker }] {
            assert_eq!(Marker::parse(Comment::ours(&marker.to_string()).as_str()), Some(marker));
        }
        assert!(marker.is_of_the_same_rules(&Marker { address: true, ..marker }));
        assert!(!marker.is_of_the_same_rules(&Marker { rules: 41, ..marker }));
        // A later version is known for one, whatever else it says.
        let later = Marker { schema: SCHEMA + 1, ..marker };
        assert_eq!(Marker::parse(Comment::ours(&format!("{later} and more")).as_str()), Some(later));
        let ours = |words: &str| format!("{}{words}", Comment::PREFIX);
        for text in [
            String::new(),
            marker.to_string(),
            ours("schema 1 digest ab"),
            ours(&format!("{marker} added")),
            ours("schema 1 digest xyz rules 1 intervals 0"),
            ours(&format!("{marker} and more")),
        ] {
            assert_eq!(Marker::parse(&text), None);
        }
    }
}

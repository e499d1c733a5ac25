//! What a back end is: one way of having a plan in force. It knows itself and the ground that it stands on, and none of the others;
//! what to do about those, [`takeover`](super::takeover) decides.

use super::asked::{Asked, Question};
use super::failures::Failures;
use super::installation::Installation;
use super::location::Location;
use super::passthrough::Passthrough;
use super::report::Report;
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::{EngineName, Note, Options, Plan};
use crate::net::FamilyName;

/// What was seen at a location.
#[derive(Debug)]
pub(super) enum Look {
    /// There is no installation.
    Absent,
    /// There is one.
    Present(Present),
    /// There may be one.
    Unknown(Unknown),
}

/// An installation that is there.
#[derive(Debug, Default)]
pub(super) struct Present {
    /// The families that it deals with; none if that is not known.
    pub(super) families: Vec<FamilyName>,
    /// Why it cannot be removed from here, if that is known.
    pub(super) stuck: Option<Error>,
    /// What could not be looked at besides.
    pub(super) unknown: Option<Unknown>,
}

/// Why it is not known whether there is an installation.
#[derive(Debug)]
pub(super) struct Unknown {
    pub(super) doubt: Doubt,
    /// Why it is not known.
    pub(super) reason: Error,
    /// The same about IPv6, if there may be something for that.
    pub(super) of_ipv6: Option<String>,
    /// What is to be said of it.
    pub(super) note: Note,
}

/// What speaks for an installation that cannot be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Something that can be one is in force, and the caller may not see what it is.
    Suspected,
    /// There is a place for one, and the caller may not look into it.
    Unseen,
    /// Nothing is where it would usually be. Elsewhere the caller may not look.
    Unasked,
}

impl Look {
    /// The families of what is there, as far as they are known.
    pub(super) fn families(&self) -> &[FamilyName] {
        match self {
            Self::Present(present) => &present.families,
            Self::Absent | Self::Unknown(_) => &[],
        }
    }

    /// What is not known.
    pub(super) fn unknown(&self) -> Option<&Unknown> {
        match self {
            Self::Absent => None,
            Self::Present(present) => present.unknown.as_ref(),
            Self::Unknown(unknown) => Some(unknown),
        }
    }
}

/// An operation under way that changes something.
#[derive(Debug)]
pub(super) struct Work<'a, G> {
    pub(super) ground: &'a mut G,
    pub(super) config: &'a Options,
    /// Only says what would be done.
    pub(super) dry_run: bool,
    /// The address and the record.
    pub(super) passthrough: &'a mut Passthrough,
    pub(super) report: &'a mut Report,
}

/// Why a plan could not be put in force.
#[derive(Debug)]
pub(super) struct Stopped {
    pub(super) error: Error,
    /// Whether everything is as it was.
    pub(super) undone: bool,
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self { error, undone: true }
    }
}

/// What was taken away.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Where nothing of ours is left.
    pub(super) gone: Vec<Location>,
    /// What could not be removed.
    pub(super) failures: Failures,
}

/// What was found of installations.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) installations: Vec<Installation>,
    /// Why there may be others.
    pub(super) unknown: Option<Unknown>,
}

impl Compared {
    /// One installation, and nothing that is not known.
    pub(super) fn of(installation: Installation) -> Self {
        Self { installations: vec![installation], unknown: None }
    }
}

/// One way of having a plan in force on a kind of ground.
pub(super) trait Backend<G> {
    /// The engine that it is behind.
    fn engine(&self) -> EngineName;

    /// Whether an installation says itself whether the address `::6` is ours.
    fn has_marker(&self) -> bool {
        false
    }

    /// What the host can do with it, without trying.
    fn presumed(&self, ground: &mut G, config: &Options) -> Result<HostAbilities, Error>;

    /// What is installed at a location of its engine.
    fn look(&self, ground: &mut G, question: Question<'_>, location: Location) -> Result<Look, Error>;

    /// Whether it works here at all and can carry this plan out, as far as that shows before anything is changed.
    fn check(&self, ground: &mut G, config: &Options, plan: Option<&Plan>) -> Result<(), Error>;

    /// Puts a plan in force, in the place of what is at all [locations](Location::of) that it can remove from. Whether others
    /// `redirect` connections meanwhile is for it to know. What of its own could not be removed is in the answer.
    fn put(&self, work: &mut Work<'_, G>, plan: &Plan, redirected: bool) -> Result<Failures, Stopped>;

    /// Takes away what is at its locations, but for those that are spared.
    fn take_away(&self, work: &mut Work<'_, G>, spared: &[Location]) -> Result<Taken, Error>;

    /// How what is installed at the locations of its engine compares with a plan or, without one, with what was installed. What
    /// else there is to say is noted; what is not known, the caller says.
    fn compare(&self, ground: &mut G, asked: &Asked<'_>, notes: &mut Vec<Note>) -> Result<Compared, Error>;
}

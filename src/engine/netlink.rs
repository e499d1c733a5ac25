//! The engine that talks to the kernel's nf_tables, without any program.
//!
//! It has tables of its own, `ip kuma-mesh` and `ip6 kuma-mesh`, and replaces both in one batch: an
//! installation over an older one leaves no moment without redirection, and one that fails changes
//! nothing. It needs `CAP_NET_ADMIN`, and nothing else.

mod abilities;
mod problem;

use nix::libc;

use self::problem::Attempt;
use super::record::{Place, Record};
use super::{Engine, EngineName, Report, Status, loopback};
use crate::config::Config;
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::{Note, Plan};
use crate::net::FamilyName;
use crate::netlink::{Batch, Content, Dump, Namespace, Socket};
use crate::nftables::{Marker, Native, TABLE};

/// How many times an operation is begun again because others changed the rules meanwhile.
const ATTEMPTS: usize = 8;

/// The kernel's nf_tables, in the caller's network namespace or another one.
///
/// ```no_run
/// use kumatp::engine::Engine;
/// use kumatp::engine::netlink::Netlink;
/// # let plan: kumatp::Plan = todo!();
///
/// let report = Netlink::default().apply(&plan)?;
/// println!("{}", report.steps.join("\n"));
/// # Ok::<(), kumatp::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Netlink {
    namespace: Option<Namespace>,
}

impl Netlink {
    /// Works in another network namespace. The caller's thread stays where it is.
    pub fn in_namespace(namespace: Namespace) -> Self {
        Self { namespace: Some(namespace) }
    }

    /// How what is installed compares with a plan. Everything in our tables is compared, not only what
    /// they say of themselves.
    ///
    /// # Errors
    /// If the rules cannot be read.
    pub fn status(&self, plan: &Plan) -> Result<Status, Error> {
        self.run(|| {
            let (found, _) = Socket::open().and_then(|mut socket| socket.dump()).map_err(Error::from)?;
            let native = Native::of(plan);
            Ok(match (&found, differences(&Wanted::of(&native), &found)) {
                (Dump { v4: None, v6: None, .. }, _) => Status::Absent,
                (_, list) if list.is_empty() => Status::Current,
                (_, differences) => Status::Drifted { differences },
            })
        })
    }

    /// What an installation says of itself; none if there is none, or one without a marker.
    ///
    /// # Errors
    /// If the rules cannot be read.
    pub fn marker(&self) -> Result<Option<Marker>, Error> {
        self.run(|| {
            let (found, _) = Socket::open().and_then(|mut socket| socket.dump()).map_err(Error::from)?;
            Ok(found.v4.as_ref().or(found.v6.as_ref()).and_then(Content::marker))
        })
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        match &self.namespace {
            None => work(),
            Some(namespace) => namespace.run(work)?,
        }
    }
}

impl Engine for Netlink {
    fn name(&self) -> EngineName {
        EngineName::Netlink
    }

    /// Rehearses rules of every kind that a plan can have: the kernel looks whether it could make them,
    /// and does not. That may load modules of the kernel.
    fn abilities(&self, config: &Config) -> Result<HostAbilities, Error> {
        self.run(|| abilities::look(config))
    }

    /// One batch for both families. If exactly these rules are there, nothing is sent.
    fn apply(&self, plan: &Plan) -> Result<Report, Error> {
        self.run(|| {
            let mut report = Report::new(EngineName::Netlink);
            let mut address = Address::recall(&mut report);
            let native = Native::of(plan);
            let mut socket = Socket::open()?;
            // The rules send connections to ::6, so it has to be there before they are.
            let added = native.v6.is_some() && address.add(&mut report)?;
            if let Err(error) = install(&mut socket, &native, &mut report) {
                if added {
                    let _ = address.remove(&mut report);
                }
                return Err(error);
            }
            if native.v6.is_none() {
                address.remove(&mut report)?;
            }
            Ok(report)
        })
    }

    fn uninstall(&self, _config: &Config) -> Result<Report, Error> {
        self.run(|| {
            let mut report = Report::new(EngineName::Netlink);
            let mut address = Address::recall(&mut report);
            let mut socket = Socket::open()?;
            remove(&mut socket, &mut report)?;
            address.remove(&mut report)?;
            Ok(report)
        })
    }
}

/// What is to be in the tables of both families.
struct Wanted {
    v4: Content,
    v6: Option<Content>,
}

impl Wanted {
    fn of(native: &Native) -> Self {
        Self { v4: Content::of(&native.v4), v6: native.v6.as_ref().map(Content::of) }
    }

    fn of_family(&self, family: FamilyName) -> Option<&Content> {
        match family {
            FamilyName::V4 => Some(&self.v4),
            FamilyName::V6 => self.v6.as_ref(),
        }
    }
}

/// How what was found differs from what is wanted.
fn differences(wanted: &Wanted, found: &Dump) -> Vec<String> {
    let mut list = Vec::new();
    for family in FamilyName::ALL {
        let table = tables(&[family]);
        match (wanted.of_family(family), found.of(family)) {
            (None, None) => {}
            (Some(_), None) => list.push(format!("{table} is missing")),
            (None, Some(_)) => list.push(format!("{table} is there, and the plan leaves {family} out")),
            (Some(wanted), Some(found)) => {
                if wanted.marker() != found.marker() {
                    list.push(format!("{table} was made from another plan, or by another version"));
                }
                list.extend(wanted.differences(found).into_iter().map(|difference| format!("{table}: {difference}")));
            }
        }
    }
    list
}

/// Puts the rules in force.
fn install(socket: &mut Socket, native: &Native, report: &mut Report) -> Result<(), Error> {
    let wanted = Wanted::of(native);
    // The first time, the tables that are not there need not be removed, if nobody makes them
    // meanwhile: the generation sees to that. Closing a socket after a removal takes 10 ms.
    let mut trusting = true;
    for _ in 0..ATTEMPTS {
        let (found, generation) = socket.dump()?;
        if differences(&wanted, &found).is_empty() {
            return Ok(());
        }
        let fresh = trusting && found.v4.is_none() && found.v6.is_none();
        let mut batch = Batch::new(fresh.then_some(generation));
        let (mut made, mut removed) = (Vec::new(), Vec::new());
        for family in FamilyName::ALL {
            let content = wanted.of_family(family);
            if !fresh && (content.is_some() || found.of(family).is_some()) {
                batch.remove(family);
            }
            match content {
                Some(content) => {
                    batch.add(family, content);
                    made.push(family);
                }
                None if found.of(family).is_some() => removed.push(family),
                None => {}
            }
        }
        match problem::send(socket, &batch.commit(), Some(native))? {
            Attempt::Done => {}
            Attempt::Changed => {
                trusting = false;
                continue;
            }
            // What is there then, the next round tells.
            Attempt::Unknown => {
                if !differences(&wanted, &socket.dump()?.0).is_empty() {
                    continue;
                }
            }
        }
        let verb = if found == Dump::default() { "installed" } else { "replaced" };
        report.step(format!("{verb} {}", tables(&made)));
        if !removed.is_empty() {
            report.step(format!("removed {}", tables(&removed)));
        }
        return Ok(());
    }
    Err(problem::restless())
}

/// Removes the tables that are there.
fn remove(socket: &mut Socket, report: &mut Report) -> Result<(), Error> {
    let mut removed = Vec::new();
    for _ in 0..ATTEMPTS {
        let families = socket.families()?;
        if families.is_empty() {
            if !removed.is_empty() {
                report.step(format!("removed {}", tables(&removed)));
            }
            return Ok(());
        }
        let mut batch = Batch::new(None);
        families.iter().for_each(|family| batch.remove(*family));
        // However it went, the next look tells what is there.
        problem::send(socket, &batch.commit(), None)?;
        removed = families;
    }
    Err(problem::restless())
}

/// The tables of some families, for people.
fn tables(families: &[FamilyName]) -> String {
    let name = |family: &FamilyName| match family {
        FamilyName::V4 => format!("ip {TABLE}"),
        FamilyName::V6 => format!("ip6 {TABLE}"),
    };
    let noun = if families.len() == 1 { "the table" } else { "the tables" };
    format!("{noun} {}", families.iter().map(name).collect::<Vec<_>>().join(" and "))
}

/// The sidecar's own IPv6 address on the loopback interface, and whether it was us who added it.
struct Address {
    place: Option<Place>,
    record: Record,
}

impl Address {
    fn recall(report: &mut Report) -> Self {
        let place = Place::of_this_namespace();
        let record = place.as_ref().map_err(Clone::clone).and_then(Place::load).unwrap_or_else(|error| {
            report
                .notes
                .push(Note::info("record", format!("what an older installation noted down is not known: {error}")));
            Record::default()
        });
        Self { place: place.ok(), record }
    }

    /// True if it was not there.
    fn add(&mut self, report: &mut Report) -> Result<bool, Error> {
        let added = match loopback::add() {
            // Adding an address that is there needs the privilege as well.
            Err(Error::Os { errno: Some(libc::EPERM), .. }) => return Err(problem::not_permitted()),
            other => other?,
        };
        if added {
            report.step("added ::6/128 to the loopback interface");
            self.note(true, report);
        }
        Ok(added)
    }

    fn remove(&mut self, report: &mut Report) -> Result<(), Error> {
        if self.record.loopback_address {
            if loopback::remove()? {
                report.step("removed ::6/128 from the loopback interface");
            }
            self.note(false, report);
        }
        Ok(())
    }

    /// Not being able to write is no reason to leave traffic unredirected.
    fn note(&mut self, ours: bool, report: &mut Report) {
        self.record.loopback_address = ours;
        let Some(place) = &self.place else { return };
        if let Err(error) = place.store(&self.record) {
            let text = format!("{error}; a later uninstall will not know whose ::6 on the loopback interface is");
            report.notes.push(Note::info("record", text));
        }
    }
}

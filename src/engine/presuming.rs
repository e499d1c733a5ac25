//! Installing without asking first what the host can do.

use super::contract::Engine;
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::Options;

/// Plans and installs by what the engine [presumes](Engine::presumed) of the host; only if the host refuses, again by what it [can
/// do](Engine::abilities), if that is less.
///
/// `work` makes a plan from the abilities and has the engine apply it. It is called once or twice, and the second time with lesser
/// abilities than the first.
///
/// ```no_run
/// use kumatp::engine::{Engine, netlink::Netlink, presuming};
/// use kumatp::{Config, facts, policy};
///
/// let (engine, config) = (Netlink::default(), Config::default());
/// let report = presuming(&engine, &config.options(), |abilities| {
///     let facts = facts::probe(&policy::facts_needed(&config), abilities)?;
///     engine.apply(&policy::plan(&config, &facts)?)
/// })?;
/// println!("{}", report.steps.join("\n"));
/// # Ok::<(), kumatp::Error>(())
/// ```
///
/// # Errors
/// Those of `work` and of [`Engine::presumed`]. If the host can do all that was presumed, or cannot do what every plan needs, the
/// error is that of the first attempt.
pub fn presuming<T>(
    engine: &dyn Engine,
    config: &Options,
    work: impl FnMut(HostAbilities) -> Result<T, Error>,
) -> Result<T, Error> {
    first_presuming(engine.presumed(config)?, || engine.abilities(config), work)
}

/// The same, by what is presumed and by a way to find out.
pub(super) fn first_presuming<T>(
    presumed: HostAbilities,
    find_out: impl FnOnce() -> Result<HostAbilities, Error>,
    mut work: impl FnMut(HostAbilities) -> Result<T, Error>,
) -> Result<T, Error> {
    let refusal = match work(presumed.clone()) {
        Err(error) if may_be_about_abilities(&error) => error,
        done => return done,
    };
    match find_out() {
        Ok(found) if found != presumed => work(found),
        // There is nothing to do with less, and the refusal names the rule that was to be made.
        _ => Err(refusal),
    }
}

/// Kernels refuse what they do not have in many ways.
fn may_be_about_abilities(error: &Error) -> bool {
    match error {
        Error::Unsupported { .. } | Error::Os { .. } | Error::Program { .. } => true,
        Error::Several(all) => all.iter().any(may_be_about_abilities),
        // What a step makes of it: one that has changed something already is no refusal.
        Error::Because { failure, .. } => may_be_about_abilities(failure),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::{Call, Fake, Operation};
    use crate::model::EngineName;
    use crate::net::Uid;
    use crate::{Config, Facts, policy};

    fn refusal() -> Error {
        Error::Unsupported { what: "a part".to_owned(), remedy: "use another kernel".to_owned() }
    }

    /// An engine that presumes that zones can be had, on a host that has them or not.
    struct Presuming(Fake);

    impl Engine for Presuming {
        fn name(&self) -> EngineName {
            self.0.name()
        }
        fn abilities(&self, options: &Options) -> Result<HostAbilities, Error> {
            self.0.abilities(options)
        }
        fn presumed(&self, _: &Options) -> Result<HostAbilities, Error> {
            Ok(HostAbilities::default())
        }
        fn apply(&self, plan: &crate::Plan) -> Result<crate::engine::Report, Error> {
            self.0.apply(plan)
        }
        fn uninstall(&self, options: &Options) -> Result<crate::engine::Report, Error> {
            self.0.uninstall(options)
        }
    }

    /// The abilities of each attempt, how often the engine was asked for them, and how it ended.
    fn install(engine: &Presuming) -> (Vec<HostAbilities>, usize, Result<(), Error>) {
        let config = Config::default();
        let mut attempts = Vec::new();
        let done = presuming(engine, &config.options(), |abilities| {
            attempts.push(abilities.clone());
            let mut facts = Facts::capable_host(Uid::SIDECAR);
            (facts.v4, facts.v6) = (abilities.v4, abilities.v6);
            engine.apply(&policy::plan(&config, &facts)?).map(drop)
        });
        let asked = engine.0.calls().iter().filter(|call| matches!(call, Call::Abilities(_))).count();
        (attempts, asked, done)
    }

    #[test]
    fn who_succeeds_asks_nothing() {
        let engine = Presuming(Fake::new(EngineName::Netlink));
        assert_eq!(install(&engine), (vec![HostAbilities::default()], 0, Ok(())));
    }

    #[test]
    fn who_is_refused_asks_and_plans_again_with_less() {
        let engine = Presuming(Fake::new(EngineName::Netlink));
        let mut less = HostAbilities::default();
        less.v4.sockets = false;
        engine.0.set_abilities(less.clone());
        engine.0.fail_next(Operation::Apply, refusal());
        assert_eq!(install(&engine), (vec![HostAbilities::default(), less], 1, Ok(())));
    }

    #[test]
    fn who_is_refused_in_other_words_plans_again_with_less_as_well() {
        let engine = Presuming(Fake::new(EngineName::Netlink));
        let mut less = HostAbilities::default();
        less.v4.sockets = false;
        engine.0.set_abilities(less.clone());
        let program =
            Error::Program { program: "iptables".into(), status: "exit status 4".into(), message: "no".into() };
        engine.0.fail_next(Operation::Apply, refusal().because(program));
        assert_eq!(install(&engine), (vec![HostAbilities::default(), less], 1, Ok(())));
    }

    #[test]
    fn a_refusal_that_no_ability_explains_is_the_answer() {
        let engine = Presuming(Fake::new(EngineName::Netlink));
        engine.0.fail_next(Operation::Apply, refusal());
        assert_eq!(install(&engine), (vec![HostAbilities::default()], 1, Err(refusal())));
    }

    #[test]
    fn a_host_that_lacks_what_every_plan_needs_is_told_by_the_first_refusal() {
        let engine = Presuming(Fake::new(EngineName::Netlink));
        let general = Error::Unsupported { what: "a rule of a rehearsal".to_owned(), remedy: "use another".to_owned() };
        engine.0.fail_next(Operation::Apply, refusal());
        engine.0.fail_next(Operation::Abilities, general);
        assert_eq!(install(&engine), (vec![HostAbilities::default()], 1, Err(refusal())));
    }

    #[test]
    fn what_is_not_about_the_host_is_not_tried_again() {
        let engine = Presuming(Fake::new(EngineName::Netlink));
        let conflict = Error::Conflict { problem: "a table".to_owned(), remedy: "remove it".to_owned() };
        engine.0.fail_next(Operation::Apply, conflict.clone());
        assert_eq!(install(&engine), (vec![HostAbilities::default()], 0, Err(conflict)));
    }
}

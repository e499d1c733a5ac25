//! What is said by the rules that get installed and by the oracle.

use crate::model::EngineName;
use crate::simulate::Simulator;

/// What is said of every packet at the edges of a plan, and of its answer, by the rules that get installed and by the oracle.
#[test]
fn the_lowered_rules_say_what_the_oracle_says() {
    let (mut plans, mut packets) = (0, 0);
    for seed in 0..10_u64 {
        let size = 2_000 + seed * 1_800;
        let property = |u: &mut arbitrary::Unstructured<'_>| {
            let (config, facts) = (crate::generate::config(u)?, crate::generate::facts(u)?);
            let Ok(mut plan) = crate::policy::plan(&config, &facts) else { return Ok(()) };
            (plan.guards.address_types, plan.guards.sockets) = (u.ratio(7, 8)?, u.ratio(7, 8)?);
            let (lowered, oracle) = (Simulator::of(&plan, EngineName::Netlink), Simulator::described(&plan));
            assert_eq!(lowered.edges(), oracle.edges(), "{config:?}");
            for packet in lowered.edges() {
                let (ours, other) = (lowered.explain(&packet), oracle.explain(&packet));
                let json = |explanation| serde_json::to_string_pretty(explanation).unwrap();
                assert_eq!(json(&ours), json(&other), "{packet}\n{config:?}\n{facts:?}");
                packets += 1;
            }
            plans += 1;
            Ok(())
        };
        arbtest::arbtest(property).seed(seed << u32::BITS | size).run();
    }
    assert!(plans > 6 && packets > 1000, "{plans} plans, {packets} packets");
}

/// A query that is excluded, to a server that is asked by one interface, is tracked where its answer is.
#[test]
fn excluded_queries_by_an_interface_are_tracked_with_their_answers() {
    let mut config = crate::config::Config::default();
    config.redirect.dns.enabled = true;
    config.redirect.outbound.exclude_ports_for_uids = vec!["udp:53:1001".parse().unwrap()];
    let mut facts = crate::facts::Facts::capable_host(crate::net::Uid::SIDECAR);
    let mut resolvers = crate::facts::Resolvers::new([]);
    resolvers.servers = vec!["fe80::1%eth0".parse().unwrap()];
    facts.resolvers = Some(resolvers);
    let plan = crate::policy::plan(&config, &facts).unwrap();
    // The oracle does not know of interfaces here.
    let rules = Simulator::of(&plan, EngineName::Netlink);
    let explanation = rules.explain(&"udp [fe80::1]:53 uid 1001".parse().unwrap());
    let reply = explanation.reply.unwrap().outcome;
    assert_eq!((explanation.request.zone, reply.zone), (1, 1), "{}", explanation.request);
    assert_eq!(explanation.request.trace[0].purpose(), Some("track queries that are not redirected as their answers"));
}

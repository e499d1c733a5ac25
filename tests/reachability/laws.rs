//! Laws of reachability, against an evaluator that does what Kuma does.

use std::collections::BTreeSet;

use arbitrary::{Result, Unstructured};
use arbtest::arbtest;
use kumatp::config::dataplane::Dataplane;
use kumatp::config::dataplane::reachability::{Backend, BackendPort, Choice, Destinations, Reachability, Reached};
use kumatp::config::{Config, Profile};

use crate::generate::{any_config, any_dataplane, any_destinations};
use crate::naive;

#[test]
fn reachability_is_what_trying_everything_finds() {
    let (mut certain, mut perhaps, mut exclusive) = (0_usize, 0_usize, 0_usize);
    // How many cases a round is enough for, the machine decides.
    for _ in 0..20 {
        if certain > 100 && perhaps > 20 && exclusive > 5 {
            break;
        }
        arbtest(|u| {
            let (dataplane, destinations) = (any_dataplane(u)?, any_destinations(u)?);
            let config = any_config(u)?;
            for (profile, flag) in
                Profile::ALL.into_iter().flat_map(|profile| [(profile, None), (profile, config.as_ref())])
            {
                let reachability = match flag {
                    Some(config) => Reachability::by_flag(&dataplane, &destinations, profile, config),
                    None => Reachability::of(&dataplane, &destinations, profile),
                };
                let expected = naive::backends(&dataplane, &destinations, profile, flag);
                let context = || format!("{profile} {flag:?} {dataplane:?} {destinations:?}");
                assert_eq!(positions(&destinations, reachability.backends()), expected.certain, "{}", context());
                assert_eq!(positions(&destinations, reachability.by_chance()), expected.perhaps, "{}", context());
                certain += expected.certain.len();
                perhaps += expected.perhaps.len();
                for choice in reachability.choices() {
                    exclusive += usize::from(choice.one_of.len() > 1);
                    an_order_makes_one_choice(u, &choice, &dataplane, &destinations)?;
                }
                let found: BTreeSet<_> = reachability.services().collect();
                assert_eq!(found, services(&dataplane, &destinations, profile, flag));
                explanations_agree(&reachability, &destinations);
            }
            Ok(())
        })
        .budget_ms(6_000);
    }
    let counts = (certain, perhaps, exclusive);
    assert!(certain > 100 && perhaps > 20 && exclusive > 5, "the generator makes too little that matches: {counts:?}");
}

/// Where these ports are among all destinations.
fn positions<'a>(destinations: &Destinations, list: impl Iterator<Item = Reached<'a>>) -> naive::Ports {
    list.flat_map(|reached| {
        let place = |backend: &Backend| std::ptr::eq(backend, reached.backend);
        let index = destinations.backends().iter().position(place).unwrap();
        let port = |port: &BackendPort| reached.backend.ports.iter().position(|own| std::ptr::eq(own, port)).unwrap();
        reached.ports.iter().map(|at| (index, port(at))).collect::<Vec<_>>()
    })
    .collect()
}

/// In whichever order Kuma looks, it takes exactly one of those that exclude each other, and nothing that is not listed.
fn an_order_makes_one_choice(
    u: &mut Unstructured<'_>,
    choice: &Choice<'_>,
    dataplane: &Dataplane,
    destinations: &Destinations,
) -> Result<()> {
    let mut order = naive::matches(choice.reference, dataplane, destinations, Profile::Kuma3);
    for last in (1..order.len()).rev() {
        order.swap(last, u.int_in_range(0..=last)?);
    }
    let taken = naive::search(choice.reference, destinations, Profile::Kuma3, &order);
    let of = |list: &[Reached<'_>]| positions(destinations, list.iter().cloned());
    let one_of: Vec<_> = choice.one_of.iter().map(|one| of(std::slice::from_ref(one))).collect();
    let own = |(backend, port): &(usize, usize)| {
        // What the workload itself listens on is in neither list.
        let listed = [&choice.one_of, &choice.perhaps].into_iter().any(|list| of(list).contains(&(*backend, *port)));
        !listed
            && dataplane.inbounds.iter().any(|own| own.port == destinations.backends()[*backend].ports[*port].number)
    };
    let chosen = one_of.iter().filter(|one| !one.is_disjoint(&taken)).count();
    assert!(chosen == 1 || chosen == 0 && taken.iter().any(own), "{choice:?} {order:?} {taken:?}");
    let listed: BTreeSet<_> = one_of.into_iter().flatten().chain(of(&choice.perhaps)).collect();
    assert!(taken.iter().all(|port| listed.contains(port) || own(port)), "{choice:?} {taken:?}");
    Ok(())
}

/// The services that a workload reaches, found one by one.
fn services<'d>(
    dataplane: &Dataplane,
    destinations: &'d Destinations,
    profile: Profile,
    flag: Option<&Config>,
) -> BTreeSet<&'d str> {
    let flag = flag.filter(|_| profile == Profile::Kuma3);
    if profile == Profile::Kuma3 || !naive::has_proxy(dataplane, flag) {
        return BTreeSet::new();
    }
    let list = dataplane.transparent_proxying.as_ref().and_then(|section| section.reachable_services.as_ref());
    let list = list.filter(|list| !list.is_empty());
    let of_mesh = destinations.services().filter(|service| service.mesh == dataplane.mesh);
    of_mesh.map(|s| s.name.as_str()).filter(|name| list.is_none_or(|list| list.iter().any(|l| l == name))).collect()
}

fn explanations_agree(reachability: &Reachability<'_>, destinations: &Destinations) {
    let reached: Vec<_> = reachability.backends().collect();
    let by_chance: Vec<_> = reachability.by_chance().collect();
    for backend in destinations.backends() {
        let explained = reachability.explain(&backend.name);
        let own = explained.iter().find(|e| e.backend.is_some_and(|b| std::ptr::eq(b, backend))).unwrap();
        let ports = |list: &[Reached<'_>]| {
            let entry = list.iter().find(|reached| std::ptr::eq(reached.backend, backend));
            entry.map(|entry| entry.ports.iter().map(|port| std::ptr::from_ref(*port)).collect::<Vec<_>>())
        };
        let found = |ports: &[&BackendPort]| ports.iter().map(|port| std::ptr::from_ref(*port)).collect::<Vec<_>>();
        assert_eq!(own.reachable, ports(&reached).is_some());
        assert_eq!(found(&own.ports), ports(&reached).unwrap_or_default());
        assert_eq!(found(&own.ports_by_chance), ports(&by_chance).unwrap_or_default());
        let text = own.to_string();
        assert!(text.lines().all(|line| !line.contains(char::is_control)), "{text:?}");
        assert!(!own.references.is_empty() || !text.contains('\n'), "{text}");
    }
    assert!(reachability.explain("no such name").is_empty());
}

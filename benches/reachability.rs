//! What a workload reaches: 10,000 backends against 1,000 references, smaller numbers to show the growth, and the same
//! found by holding every reference against every backend.
//!
//! `cargo bench --bench reachability`.

mod common;
#[path = "../tests/common/naive_reachability.rs"]
mod naive;

use std::hint::black_box;

use common::timing::{repeated, turns};
use common::{Bench, grouped};
use kumatp::config::Profile;
use kumatp::config::dataplane::reachability::{Backend, BackendPort, Destinations, Reachability};
use kumatp::config::dataplane::{BackendKind, BackendRef, Dataplane, ReachableBackends, TransparentProxying};
use kumatp::net::Port;

fn main() {
    let mut bench = Bench::new("reachability");
    growth(&mut bench);
    every_pair(&mut bench);
    explanation(&mut bench);
    bench.finish("");
}

/// Backends in namespaces of 20, as a mesh on Kubernetes has them.
fn destinations(count: usize) -> Destinations {
    let backend = |index: usize| {
        let labels = [("k8s.kuma.io/namespace", index / 20), ("team", index % 100), ("app", index)];
        let labels = labels.map(|(key, value)| (key.to_owned(), format!("v{value}")));
        let ports = [80, 443].map(|number| BackendPort::new(Port::new(number).unwrap(), None));
        Backend::new(BackendKind::MeshService, "default", &format!("service-{index}"), labels, ports.to_vec())
    };
    Destinations::new((0..count).map(backend), [])
}

/// A quarter of the references each by name, by a label that one backend has, by labels that a few have, and by a label
/// that many have, of which Kuma chooses one.
fn dataplane(references: usize, backends: usize) -> Dataplane {
    let reference = |number: usize| {
        let index = number * 7 % backends;
        match number % 4 {
            0 => BackendRef::named(BackendKind::MeshService, format!("service-{index}"))
                .in_namespace(format!("v{}", index / 20)),
            1 => BackendRef::labelled(BackendKind::MeshService, [("app", format!("v{index}"))]).on_port(80),
            2 => BackendRef::labelled(BackendKind::MeshService, [("team", format!("v{}", index % 100))]).on_port(443),
            _ => BackendRef::labelled(
                BackendKind::MeshService,
                [("team", format!("v{}", index % 100)), ("k8s.kuma.io/namespace", format!("v{}", index / 20))],
            ),
        }
    };
    let mut section = TransparentProxying::default();
    section.redirect_port_outbound = Port::new(15001);
    section.reachable_backends = Some(ReachableBackends::new((0..references).map(reference)));
    let mut dataplane = Dataplane::default();
    dataplane.mesh = "default".to_owned();
    dataplane.transparent_proxying = Some(section);
    dataplane
}

fn indexed(dataplane: &Dataplane, destinations: &Destinations) -> usize {
    let reachability = Reachability::of(dataplane, destinations, Profile::Kuma3);
    reachability.backends().chain(reachability.by_chance()).map(|reached| reached.ports.len()).sum()
}

/// A mesh of so many services, and a workload with so many references.
fn mesh(services: usize, references: usize) -> (Destinations, Dataplane) {
    (destinations(services), dataplane(references, services))
}

fn growth(bench: &mut Bench) {
    bench.part("Which services so many references reach");
    let sizes = [(10_000, 1_000), (1_000, 1_000), (10_000, 100), (20_000, 2_000)];
    let meshes = sizes.map(|(services, references)| mesh(services, references));
    let [mut a, mut b, mut c, mut d] = meshes
        .each_ref()
        .map(|(destinations, dataplane)| repeated(move || indexed(black_box(dataplane), black_box(destinations))));
    let took = turns(bench.turns(51), [&mut a, &mut b, &mut c, &mut d]);
    bench.seconds("10,000 services, 1,000 references", "time", took.seconds(0));
    for (at, name) in [
        (1, "1,000 services, 1,000 references"),
        (2, "10,000 services, 100 references"),
        (3, "20,000 services, 2,000 references"),
    ] {
        bench.ratio(name, "time", "10,000 services, 1,000 references", took.ratio(at, 0));
    }
}

fn every_pair(bench: &mut Bench) {
    bench.part("The same by trying every pair");
    for (services, references, turn) in [(1_000, 100, 21), (1_000, 1_000, 21), (10_000, 1_000, 5)] {
        let (destinations, dataplane) = mesh(services, references);
        let found = naive::backends(&dataplane, &destinations, Profile::Kuma3, None);
        let ports = found.certain.len() + found.perhaps.len();
        assert_eq!(ports, indexed(&dataplane, &destinations), "both find the same");
        assert!(ports > references / 2 && !found.perhaps.is_empty());
        let took = turns(
            bench.turns(turn),
            [
                &mut repeated(|| indexed(black_box(&dataplane), black_box(&destinations))),
                &mut repeated(|| {
                    naive::backends(black_box(&dataplane), black_box(&destinations), Profile::Kuma3, None)
                }),
            ],
        );
        let name = format!("{} services, {} references", grouped(services), grouped(references));
        bench.ratio(&name, "every pair", "kumatp", took.ratio(1, 0));
    }
}

fn explanation(bench: &mut Bench) {
    bench.part("Why a service is reachable");
    let (destinations, dataplane) = mesh(10_000, 1_000);
    let reachability = Reachability::of(&dataplane, &destinations, Profile::Kuma3);
    let mut explain = repeated(|| reachability.explain(black_box("service-9999")));
    let took = turns(bench.turns(51), [&mut explain]);
    bench.seconds("one of 10,000 services, 1,000 references", "time", took.seconds(0));
}

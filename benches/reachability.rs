//! What a workload reaches: 10,000 backends against 1,000 references, smaller numbers to show the growth, and the same
//! found by holding every reference against every backend.

#[path = "../tests/common/naive_reachability.rs"]
mod naive;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kumatp::config::Profile;
use kumatp::config::dataplane::reachability::{Backend, BackendPort, Destinations, Reachability};
use kumatp::config::dataplane::{BackendKind, BackendRef, Dataplane, ReachableBackends, TransparentProxying};
use kumatp::net::Port;

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

fn growth(c: &mut Criterion) {
    let mut group = c.benchmark_group("reachability");
    for (backends, references) in [(1_000, 100), (1_000, 1_000), (10_000, 100), (10_000, 1_000), (20_000, 2_000)] {
        let (destinations, dataplane) = (destinations(backends), dataplane(references, backends));
        group.throughput(Throughput::Elements((backends + references) as u64));
        group.bench_function(BenchmarkId::new("indexed", format!("{backends}x{references}")), |b| {
            b.iter(|| indexed(black_box(&dataplane), black_box(&destinations)));
        });
    }
    group.sample_size(10);
    for (backends, references) in [(1_000, 100), (1_000, 1_000), (10_000, 1_000)] {
        let (destinations, dataplane) = (destinations(backends), dataplane(references, backends));
        let found = naive::backends(&dataplane, &destinations, Profile::Kuma3, None);
        let ports = found.certain.len() + found.perhaps.len();
        assert_eq!(ports, indexed(&dataplane, &destinations), "both find the same");
        assert!(ports > references / 2 && !found.perhaps.is_empty());
        group.bench_function(BenchmarkId::new("every pair", format!("{backends}x{references}")), |b| {
            b.iter(|| naive::backends(black_box(&dataplane), black_box(&destinations), Profile::Kuma3, None));
        });
    }
    group.finish();
}

fn explanation(c: &mut Criterion) {
    let (destinations, dataplane) = (destinations(10_000), dataplane(1_000, 10_000));
    let reachability = Reachability::of(&dataplane, &destinations, Profile::Kuma3);
    c.bench_function("explanation of one of 10000x1000", |b| {
        b.iter(|| reachability.explain(black_box("service-9999")));
    });
}

criterion_group!(benches, growth, explanation);
criterion_main!(benches);

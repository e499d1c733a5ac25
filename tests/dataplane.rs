//! Dataplanes as Kuma's tests have them, and laws of reachability against an evaluator that tries everything.

#[path = "common/naive_reachability.rs"]
mod naive;

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::{Result, Unstructured};
use arbtest::arbtest;
use kumatp::config::dataplane::reachability::{
    Backend, BackendPort, Destinations, MeshMode, Reachability, Resources, Rule, Service,
};
use kumatp::config::dataplane::{BackendKind, BackendRef, Dataplane, ReachableBackends, TransparentProxying, fill};
use kumatp::config::{Format, Profile};
use kumatp::net::Port;
use serde_json::Value;

const VALIDATION: &str = include_str!("fixtures/dataplane/validation.json");
const SECTIONS: &str = include_str!("fixtures/dataplane/sections.json");

/// A word of ours for each rule of Kuma's.
fn rule_of(message: &str) -> &'static str {
    match message {
        _ if message.starts_with("invalid value.") => "one of the kinds",
        _ if message.starts_with("invalid characters.") => "RFC 1123 subdomain",
        "labels cannot be defined when name is specified" => "no labels where a name or namespace is given",
        "name or labels are required" => "a name, or labels in its place",
        "name is required, when namespace is defined" => "a name, since the namespace",
        other => panic!("no rule for {other}"),
    }
}

#[test]
fn violations_are_kumas() {
    let cases: Vec<Value> = serde_json::from_str(VALIDATION).unwrap();
    assert!(cases.len() >= 3);
    for case in cases {
        let source = &case["source"];
        let found = match Dataplane::parse(&case["dataplane"].to_string(), Format::Json) {
            Ok((_, notes)) => {
                assert!(notes.is_empty(), "{source}: {notes:?}");
                Vec::new()
            }
            Err(error) => error.problems().to_vec(),
        };
        let expected = case["violations"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{source}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.path, expected["field"].as_str().unwrap(), "{source}");
            let rule = rule_of(expected["message"].as_str().unwrap());
            assert!(found.expected.contains(rule), "{source}: {found} is not {rule}");
        }
    }
}

#[test]
fn sections_that_kuma_writes_are_read_and_written_back() {
    let cases: Vec<Value> = serde_json::from_str(SECTIONS).unwrap();
    assert!(cases.len() >= 5);
    for case in cases {
        let section = &case["transparentProxying"];
        let (read, notes) = TransparentProxying::parse(&section.to_string(), Format::Json).unwrap();
        assert!(notes.is_empty(), "{}: {notes:?}", case["source"]);
        let written: Value = serde_json::from_str(&read.to_json()).unwrap();
        assert_eq!(&written, section, "{}", case["source"]);
    }
}

/// The typo of the documentation (quirk Q19).
#[cfg(feature = "yaml")]
#[test]
fn the_documented_typo_is_refused_with_the_right_kind() {
    let text = "refs:\n- kind: MeshMulitZoneService\n  labels:\n    kuma.io/display-name: test-server\n";
    let error = ReachableBackends::parse(text, Format::Yaml).unwrap_err();
    assert_eq!(error.problems().len(), 1);
    assert!(error.to_string().contains("did you mean 'MeshMultiZoneService'?"), "{error}");
}

#[cfg(feature = "yaml")]
#[test]
fn from_a_template_to_what_is_reachable() {
    let template = "\
type: Dataplane
mesh: default
name: {{ name }}
labels: {k8s.kuma.io/namespace: demo}
networking:
  address: {{ address }}
  inbound:
  - {port: {{port}}, tags: {kuma.io/service: demo-app}}
  transparentProxying:
    redirectPortInbound: 15006
    redirectPortOutbound: 15001
    reachableBackends:
      refs:
      - {kind: MeshService, name: redis, port: 6379}
      - {kind: MeshExternalService, name: api, namespace: kuma-system}
      - {kind: MeshService, labels: {app: web}}
";
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let variables = [set("name", "app-1"), set("address", "192.0.2.7"), set("port", "8080")].into();
    let (dataplane, notes) = Dataplane::parse(&fill(template, &variables).unwrap(), Format::Yaml).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    assert!(kumatp::config::dataplane::compare(&dataplane.to_config().unwrap(), &dataplane).is_empty());

    let resources_text = "\
apiVersion: kuma.io/v1alpha1
kind: MeshService
metadata: {name: redis, namespace: demo, labels: {kuma.io/mesh: default}}
spec:
  ports: [{port: 6379, name: tcp}, {port: 9121, name: metrics}]
---
apiVersion: kuma.io/v1alpha1
kind: MeshService
metadata: {name: redis, namespace: other}
spec: {ports: [{port: 6379}]}
---
apiVersion: kuma.io/v1alpha1
kind: List
items:
- kind: MeshExternalService
  metadata: {name: api, namespace: kuma-system}
  spec: {match: {type: HostnameGenerator, port: 443, protocol: http}}
- kind: MeshService
  metadata: {name: web, namespace: other, labels: {app: web}}
  spec: {ports: [{port: 80}]}
---
{type: Dataplane, mesh: default, name: x, networking: {address: 192.0.2.9, inbound: [{port: 1, tags: {kuma.io/service: old}}]}}
---
{type: MeshTrafficPermission, name: anything}
";
    let mut resources = Resources::new();
    resources.document("mesh.yaml", resources_text, Format::Yaml);
    let (destinations, notes) = resources.finish().unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    for profile in Profile::ALL {
        let reachability = Reachability::of(&dataplane, &destinations, profile);
        let reached: Vec<_> = reachability
            .backends()
            .map(|reached| {
                let ports: Vec<_> = reached.ports.iter().map(|port| port.number.number()).collect();
                (reached.backend.name.as_str(), reached.backend.namespace().unwrap(), ports)
            })
            .collect();
        let expected = [("api", "kuma-system", vec![443]), ("redis", "demo", vec![6379]), ("web", "other", vec![80])];
        assert_eq!(reached, expected, "{profile}");
        assert_eq!(reachability.services().collect::<Vec<_>>(), ["old"]);
        assert!(reachability.notes().is_empty(), "{:?}", reachability.notes());
        let why: Vec<_> = reachability.explain("redis").iter().map(ToString::to_string).collect();
        assert_eq!(
            why[0],
            "MeshService redis in demo is reachable on port 6379 (tcp)\n  \
             refs[0] (MeshService redis, port 6379) matches port 6379 (tcp)"
        );
        assert!(why[1].contains("needs the label k8s.kuma.io/namespace=demo; here it is other"), "{}", why[1]);
        let value: Value = serde_json::from_str(&reachability.to_json()).unwrap();
        assert_eq!(value["backends"][1]["ports"][0]["port"], 6379);
    }
}

#[test]
fn what_is_wrong_with_resources_is_told_together() {
    let mut resources = Resources::new();
    resources.document("a.json", r#"{"type": "MeshService", "spec": {"ports": [{"port": 0}, {}]}}"#, Format::Json);
    resources.document("b.json", "[1]", Format::Json);
    resources.document("c.json", r#"{"items": [{"type": "MeshExternalService", "name": "x"}, 3]}"#, Format::Json);
    resources.document("d.json", "{", Format::Json);
    let mesh = r#"{"type": "Mesh", "name": "m", "meshServices": {"mode": "ReachableBackend"}}"#;
    resources.document("e.json", mesh, Format::Json);
    let error = resources.finish().unwrap_err();
    let paths: Vec<_> = error.problems().iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "a.json: name",
            "a.json: spec.ports[0].port",
            "a.json: spec.ports[1].port",
            "b.json",
            "c.json items[0]: match",
            "c.json items[1]",
            "d.json: line 1 column 1",
            "e.json: meshServices.mode",
        ]
    );
    let mut resources = Resources::new();
    resources.document("f.json", r#"{"type": "MeshServices", "name": "a"}"#, Format::Json);
    let (_, notes) = resources.finish().unwrap();
    assert!(notes[0].text.contains("did you mean MeshService?"), "{notes:?}");
}

fn mesh_service(name: &str, labels: &[(&str, &str)], ports: &[(u16, &str)]) -> Backend {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let name_of = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
    let ports = ports.iter().map(|(port, name)| BackendPort::new(Port::new(*port).unwrap(), name_of(name)));
    Backend::new(BackendKind::MeshService, "default", name, labels, ports.collect())
}

fn workload(section: &str) -> Dataplane {
    let text = format!(r#"{{"type": "Dataplane", "name": "w", "networking": {{"transparentProxying": {section}}}}}"#);
    Dataplane::parse(&text, Format::Json).unwrap().0
}

fn reached(dataplane: &Dataplane, destinations: &Destinations, profile: Profile) -> Vec<String> {
    let reachability = Reachability::of(dataplane, destinations, profile);
    let ports = reachability.backends().flat_map(|reached| {
        let name = reached.backend.name.clone();
        reached.ports.into_iter().map(move |port| format!("{name}:{}", port.number)).collect::<Vec<_>>()
    });
    ports.collect()
}

/// The rows of the table, one by one.
#[test]
fn profiles_differ_where_the_table_says() {
    let both = [("app", "x")];
    let destinations = Destinations::new(
        [mesh_service("a", &both, &[(80, "http"), (443, "8080")]), mesh_service("b", &both, &[(80, "")])],
        [Service::new("default", "old"), Service::new("default", "older"), Service::new("another", "old")],
    );
    let all = ["a:80", "a:443", "b:80"];
    let refs = |refs: &str| workload(&format!(r#"{{"reachableBackends": {{"refs": [{refs}]}}}}"#));
    let (three, two) = (Profile::Kuma3, Profile::Kuma29);
    let name = |port| refs(&format!(r#"{{"kind": "MeshService", "name": "a", "port": {port}}}"#));
    for (dataplane, by_three, by_two) in [
        (workload("{}"), &all[..], &all[..]),
        (workload(r#"{"reachableBackends": {}}"#), &[], &[]),
        (name(80), &all[..1], &all[..1]),
        (name(8080), &all[1..2], &all[1..2]),
        (name(81), &all[..2], &[]),
        (name(0), &all[..2], &[]),
        (refs(r#"{"kind": "MeshService", "labels": {"app": "x"}, "port": 443}"#), &all[1..], &all[1..2]),
        (refs(r#"{"kind": "MeshMultiZoneService", "name": "a"}"#), &[], &[]),
        (workload(r#"{"reachableServices": ["old"]}"#), &all[..], &[]),
    ] {
        assert_eq!(reached(&dataplane, &destinations, three), by_three, "{dataplane:?}");
        assert_eq!(reached(&dataplane, &destinations, two), by_two, "{dataplane:?}");
    }
    let services = |section: &str, profile| {
        let dataplane = workload(section);
        Reachability::of(&dataplane, &destinations, profile).services().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(services(r#"{"reachableServices": ["old"]}"#, two), ["old"]);
    assert_eq!(services(r#"{"reachableServices": []}"#, two), ["old", "older"]);
    assert_eq!(services(r#"{"reachableServices": ["old"]}"#, three), ["old", "older"]);
    let dataplane = workload(r#"{"reachableServices": ["old"]}"#);
    let reachability = Reachability::of(&dataplane, &destinations, three);
    assert_eq!((reachability.service_rule(), reachability.notes().len()), (Rule::NotInProfile, 1));

    let mut with_mode = destinations.clone();
    with_mode.set_mode("default", MeshMode::ReachableBackends);
    assert_eq!(reached(&workload("{}"), &with_mode, three), all);
    assert_eq!(reached(&workload("{}"), &with_mode, two), [""; 0]);
    assert_eq!(reached(&name(80), &with_mode, two), all[..1]);
}

#[test]
fn outbounds_take_the_place_of_reachable_backends_in_kuma_3() {
    let namespace = [("k8s.kuma.io/namespace", "ns")];
    let destinations = Destinations::new(
        [mesh_service("a", &namespace, &[(80, ""), (81, "")]), mesh_service("b", &[], &[(1, "")])],
        [],
    );
    let mut dataplane = workload(r#"{"reachableBackends": {"refs": [{"kind": "MeshService", "name": "b"}]}}"#);
    dataplane.outbounds = vec![BackendRef::named(BackendKind::MeshService, "a_ns_svc_81")];
    assert_eq!(reached(&dataplane, &destinations, Profile::Kuma3), ["a:81"]);
    assert_eq!(reached(&dataplane, &destinations, Profile::Kuma29), ["b:1"]);
    let reachability = Reachability::of(&dataplane, &destinations, Profile::Kuma3);
    assert_eq!(reachability.backend_rule(), Rule::Outbounds);
    assert!(reachability.explain("a")[0].to_string().contains("networking.outbound, backend 1"));
    dataplane.outbounds = vec![BackendRef::named(BackendKind::MeshService, "nothing")];
    assert_eq!(reached(&dataplane, &destinations, Profile::Kuma3), ["b:1"]);
}

/// Where Kuma 3 takes one of several by chance, all are there, and a note says so (quirk Q14).
#[test]
fn chance_is_told() {
    let both = [("app", "x")];
    let destinations = Destinations::new(["a", "b"].map(|name| mesh_service(name, &both, &[(80, "")])), []);
    let dataplane = workload(
        r#"{"reachableBackends": {"refs": [{"kind": "MeshService", "labels": {"app": "x"}, "port": 80},
            {"kind": "MeshService", "name": "c"}, {"kind": "MeshService", "name": "a", "port": 1}]}}"#,
    );
    assert_eq!(reached(&dataplane, &destinations, Profile::Kuma3), ["a:80", "b:80"]);
    let texts = |profile| {
        let reachability = Reachability::of(&dataplane, &destinations, profile);
        reachability.notes().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let three = texts(Profile::Kuma3);
    assert!(three[0].contains("refs[0]: Kuma takes one of these 2 matches, by chance"), "{three:?}");
    assert!(three[1].contains("refs[1]: MeshService c matches nothing"), "{three:?}");
    assert_eq!(three[2], "refs[2]: no destination has port 1, so all their ports are reachable");
    let two = texts(Profile::Kuma29);
    assert_eq!(two.len(), 2, "{two:?}");
    assert_eq!(two[1], "refs[2]: no destination has port 1, so they are not reachable");
}

#[test]
fn reachability_is_what_trying_everything_finds() {
    let mut told = 0_usize;
    arbtest(|u| {
        let (dataplane, destinations) = (any_dataplane(u)?, any_destinations(u)?);
        for profile in Profile::ALL {
            let reachability = Reachability::of(&dataplane, &destinations, profile);
            let expected = naive::backends(&dataplane, &destinations, profile);
            let found: BTreeSet<(usize, usize)> = reachability
                .backends()
                .flat_map(|reached| {
                    let place = |backend: &Backend| std::ptr::eq(backend, reached.backend);
                    let index = destinations.backends().iter().position(place).unwrap();
                    let port = |port: &BackendPort| {
                        reached.backend.ports.iter().position(|own| std::ptr::eq(own, port)).unwrap()
                    };
                    reached.ports.iter().map(|at| (index, port(at))).collect::<Vec<_>>()
                })
                .collect();
            assert_eq!(found, expected, "{profile} {dataplane:?} {destinations:?}");
            told += found.len();
            let found: BTreeSet<_> = reachability.services().collect();
            assert_eq!(found, services(&dataplane, &destinations, profile));
            explanations_agree(&reachability, &destinations);
        }
        Ok(())
    })
    .budget_ms(4_000);
    assert!(told > 100, "the generator makes too little that matches");
}

/// The services that a workload reaches, found one by one.
fn services<'d>(dataplane: &Dataplane, destinations: &'d Destinations, profile: Profile) -> BTreeSet<&'d str> {
    let list = dataplane.transparent_proxying.as_ref().and_then(|section| section.reachable_services.as_ref());
    let list = list.filter(|list| !list.is_empty() && profile == Profile::Kuma29);
    let of_mesh = destinations.services().filter(|service| service.mesh == dataplane.mesh);
    of_mesh.map(|s| s.name.as_str()).filter(|name| list.is_none_or(|list| list.iter().any(|l| l == name))).collect()
}

fn explanations_agree(reachability: &Reachability<'_>, destinations: &Destinations) {
    let reached: Vec<_> = reachability.backends().collect();
    for backend in destinations.backends() {
        let explained = reachability.explain(&backend.name);
        let own = explained.iter().find(|e| e.backend.is_some_and(|b| std::ptr::eq(b, backend))).unwrap();
        let entry = reached.iter().find(|reached| std::ptr::eq(reached.backend, backend));
        assert_eq!(own.reachable, entry.is_some());
        assert_eq!(own.ports, entry.map(|entry| entry.ports.clone()).unwrap_or_default());
        let text = own.to_string();
        assert!(text.lines().all(|line| !line.contains(char::is_control)), "{text:?}");
        assert!(!own.references.is_empty() || !text.contains('\n'), "{text}");
    }
    assert!(reachability.explain("no such name").is_empty());
}

fn word(u: &mut Unstructured<'_>) -> Result<String> {
    Ok((*u.choose(&["a", "b", "c"])?).to_owned())
}

fn any_labels(u: &mut Unstructured<'_>) -> Result<BTreeMap<String, String>> {
    let keys = ["app", "kuma.io/zone", "k8s.kuma.io/namespace", "kuma.io/display-name", "x"];
    let mut labels = BTreeMap::new();
    for _ in 0..u.int_in_range(0..=3)? {
        let value = if u.ratio(1, 8)? { String::new() } else { word(u)? };
        labels.insert((*u.choose(&keys)?).to_owned(), value);
    }
    Ok(labels)
}

fn any_kind(u: &mut Unstructured<'_>) -> Result<BackendKind> {
    // Mostly one kind, so that references meet destinations.
    Ok(if u.ratio(2, 3)? { BackendKind::MeshService } else { *u.choose(&BackendKind::ALL)? })
}

fn any_mesh(u: &mut Unstructured<'_>) -> Result<&'static str> {
    Ok(if u.ratio(1, 6)? { "other" } else { "default" })
}

fn any_destinations(u: &mut Unstructured<'_>) -> Result<Destinations> {
    let mut backends = Vec::new();
    for _ in 0..u.int_in_range(0..=8)? {
        let kind = any_kind(u)?;
        let most = if kind == BackendKind::MeshExternalService { 1 } else { 3 };
        let mut ports = Vec::new();
        for _ in 0..u.int_in_range(most.min(1)..=most)? {
            let name = [None, Some("80"), Some("81"), Some("http")];
            let name = u.choose(&name)?.map(str::to_owned);
            ports.push(BackendPort::new(Port::new(u.int_in_range(80..=82)?).unwrap(), name));
        }
        backends.push(Backend::new(kind, any_mesh(u)?, &word(u)?, any_labels(u)?, ports));
    }
    let mut services = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        services.push(Service::new(any_mesh(u)?, word(u)?));
    }
    let mut destinations = Destinations::new(backends, services);
    if u.arbitrary()? {
        destinations.set_mode(any_mesh(u)?, *u.choose(&MeshMode::ALL)?);
    }
    Ok(destinations)
}

fn any_reference(u: &mut Unstructured<'_>) -> Result<BackendRef> {
    let kind = any_kind(u)?;
    let labels = any_labels(u)?;
    let mut reference = if labels.is_empty() || u.arbitrary()? {
        let legacy = ["a_b_svc_80", "a_b_svc_0", "b_a_svc_81", "a__svc_80", "a_b_svc_x", "a_b_80", "a_b_svc_-1"];
        let name = if u.ratio(1, 3)? { (*u.choose(&legacy)?).to_owned() } else { word(u)? };
        let named = BackendRef::named(kind, name);
        if u.ratio(1, 3)? { named.in_namespace(word(u)?) } else { named }
    } else {
        BackendRef::labelled(kind, labels)
    };
    reference.port = if u.arbitrary()? { Some(*u.choose(&[0, 80, 81, 82, 83])?) } else { None };
    Ok(reference)
}

fn any_dataplane(u: &mut Unstructured<'_>) -> Result<Dataplane> {
    let mut dataplane = Dataplane::default();
    dataplane.mesh = any_mesh(u)?.to_owned();
    dataplane.labels = any_labels(u)?;
    if u.ratio(1, 4)? {
        dataplane.outbounds.push(any_reference(u)?);
    }
    if u.ratio(15, 16)? {
        let mut section = TransparentProxying::default();
        if u.ratio(1, 3)? {
            section.reachable_services = Some((0..u.int_in_range(0..=2)?).map(|_| word(u)).collect::<Result<_>>()?);
        }
        if u.ratio(5, 6)? {
            let refs: Vec<_> = (0..u.int_in_range(0..=4)?).map(|_| any_reference(u)).collect::<Result<_>>()?;
            section.reachable_backends = Some(ReachableBackends::new(refs));
        }
        dataplane.transparent_proxying = Some(section);
    }
    Ok(dataplane)
}

/// Pieces that resources are made of, so that a random text gets past the first check.
fn any_text(u: &mut Unstructured<'_>) -> Result<String> {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\n",
        "  ",
        "- ",
        "---\n",
        "\"",
        "{{ a }}",
        "{{",
        "type: Dataplane\n",
        "kind: MeshService\n",
        "items:\n",
        "metadata:\n  name: x\n",
        "networking:\n  transparentProxying:\n",
        "spec: ",
        "    reachableBackends:\n      refs:\n",
        "      - kind: ",
        "MeshService",
        "ports: [{port: 80}]\n",
        "{\"type\": \"Dataplane\", \"networking\": {\"transparentProxying\": ",
        "{\"refs\": [{\"kind\": \"MeshService\"",
        "\u{1b}",
        "é",
        "# ",
        "&a ",
        "*a",
        "null",
        "1e9",
        "\t",
    ];
    let mut text = String::new();
    for _ in 0..u.int_in_range(0..=24)? {
        text.push_str(u.choose(&pieces)?);
    }
    Ok(text)
}

#[test]
fn no_text_makes_a_reader_panic() {
    arbtest(|u| {
        let text = any_text(u)?;
        let mut errors = Vec::new();
        errors.extend(fill(&text, &[("a".to_owned(), "1".to_owned())].into()).err());
        #[cfg(feature = "yaml")]
        let formats = [Format::Json, Format::Yaml];
        #[cfg(not(feature = "yaml"))]
        let formats = [Format::Json];
        for format in formats {
            errors.extend(Dataplane::parse(&text, format).err());
            errors.extend(ReachableBackends::parse(&text, format).err());
            errors.extend(TransparentProxying::parse(&text, format).err());
            let mut resources = Resources::new();
            resources.document("x", &text, format);
            errors.extend(resources.finish().err());
        }
        for error in errors {
            assert!(!error.problems().is_empty());
            for problem in error.problems() {
                assert!(!problem.path.is_empty() && !problem.expected.is_empty(), "{problem:?}");
                assert!(!problem.to_string().contains(char::is_control), "{problem:?}");
            }
        }
        Ok(())
    })
    .budget_ms(3_000);
}

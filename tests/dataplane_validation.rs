//! What Kuma's control plane accepts of a Dataplane, and what it refuses: its own verdicts, and laws.

use std::collections::BTreeSet;

use arbitrary::{Result, Unstructured};
use arbtest::arbtest;
use kumatp::Config;
use kumatp::config::dataplane::reachability::{Destinations, Reachability};
use kumatp::config::dataplane::{Dataplane, compare};
use kumatp::config::{Format, Profile};
use kumatp::model::Severity;
use serde_json::{Value, json};

/// Each has a Dataplane, whether Kuma accepts it, the paths of what it refuses, and those of our warnings. The judge is a
/// control plane of Kuma 3, or its rules. Where we differ on purpose, `differs` is the reason in the guide.
const VERDICTS: &str = include_str!("fixtures/dataplane/verdicts.json");
const GUIDE: &str = include_str!("../docs/pages/reference/dataplanes.md");

fn texts(list: &Value) -> Vec<&str> {
    let mut texts: Vec<_> = list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    texts.sort_unstable();
    texts
}

fn verdicts() -> Vec<Value> {
    serde_json::from_str(VERDICTS).unwrap()
}

/// Whether it is valid, the paths of the problems, and those of the warnings.
fn judge(dataplane: &str, format: Format, profile: Profile) -> (bool, Vec<String>, Vec<String>) {
    let (valid, mut problems, mut warnings) = match Dataplane::validate(dataplane, format, profile) {
        Ok((_, notes)) => {
            assert!(notes.iter().all(|note| note.severity == Severity::Warning), "{notes:?}");
            (true, vec![], notes.into_iter().map(|note| note.about).collect())
        }
        Err(error) => (false, error.problems().iter().map(|problem| problem.path.clone()).collect(), vec![]),
    };
    problems.sort_unstable();
    warnings.sort_unstable();
    (valid, problems, warnings)
}

#[test]
fn kumas_verdicts() {
    let verdicts = verdicts();
    let by_kuma = verdicts.iter().filter(|verdict| verdict["judge"] == "kuma-cp").count();
    assert!(by_kuma >= 100 && verdicts.len() >= by_kuma + 150, "{by_kuma} of {}", verdicts.len());
    #[cfg(feature = "yaml")]
    let formats = [Format::Json, Format::Yaml];
    #[cfg(not(feature = "yaml"))]
    let formats = [Format::Json];
    for verdict in &verdicts {
        let name = &verdict["name"];
        let profile = verdict["profile"].as_str().map_or(Profile::Kuma3, |profile| profile.parse().unwrap());
        let accepted = verdict["accepted"].as_bool().unwrap() != verdict["differs"].is_string();
        for format in formats {
            let (valid, problems, warnings) = judge(&verdict["dataplane"].to_string(), format, profile);
            assert_eq!(valid, accepted, "{name}: {problems:?}");
            if !verdict["differs"].is_string() {
                assert_eq!(problems, texts(&verdict["problems"]), "{name}");
            }
            assert_eq!(warnings, texts(&verdict["warnings"]), "{name}");
        }
    }
}

/// Every difference has its row in the guide, and the rows that no JSON document can show are these.
#[test]
fn differences_are_in_the_guide() {
    let (_, section) = GUIDE.split_once("## Deliberate differences from Kuma\n").unwrap();
    let rows: BTreeSet<_> = section
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| what |"))
        .map(|line| line.split('|').nth(1).unwrap().trim())
        .collect();
    let verdicts = verdicts();
    let mut shown: BTreeSet<_> = verdicts.iter().filter_map(|verdict| verdict["differs"].as_str()).collect();
    shown.extend(["a field twice", "a whole number with a decimal point, in YAML", "`yes`, `no`, `on`, `off` in YAML"]);
    assert_eq!(rows, shown);
    for (profile, paths) in
        [(Profile::Kuma3, vec!["networking.address"]), (Profile::Kuma29, vec!["networking", "networking.address"])]
    {
        let twice = r#"{"type": "Dataplane", "mesh": "default", "name": "a", "networking": {"address": "192.0.2.7", "address": "192.0.2.8"}}"#;
        assert_eq!(judge(twice, Format::Json, profile).1, paths);
    }
    #[cfg(feature = "yaml")]
    for (inbound, problems) in
        [("name: on", vec![]), ("health: {ready: yes}", vec!["networking.inbound[0].health.ready"])]
    {
        let text = format!(
            "{{type: Dataplane, mesh: m, name: a, networking: {{address: a, inbound: [{{port: 1, {inbound}}}]}}}}"
        );
        assert_eq!(judge(&text, Format::Yaml, Profile::Kuma3).1, problems, "{inbound}");
    }
    #[cfg(feature = "yaml")]
    for (port, valid) in [("8080.0", false), ("8080", true), ("'8080'", true), ("0x1f90", true), ("8e3", false)] {
        let text = format!(
            "type: Dataplane\nmesh: default\nname: a\nnetworking: {{address: a, inbound: [{{port: {port}}}]}}\n"
        );
        assert_eq!(judge(&text, Format::Yaml, Profile::Kuma3).0, valid, "{port}");
    }
}

/// The mesh of the examples: Kuma accepts all of it, and drops nothing.
#[cfg(feature = "yaml")]
#[test]
fn the_examples_are_a_mesh_that_kuma_accepts() {
    let example = |path: &str| {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(root.join("examples/vm").join(path)).unwrap()
    };
    let variables = [("address".to_owned(), "192.0.2.7".to_owned())].into();
    let text = kumatp::config::dataplane::fill(&example("dataplane.yaml"), &variables).unwrap();
    let (dataplane, notes) = Dataplane::validate(&text, Format::Yaml, Profile::Kuma3).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!(dataplane.labels["kuma.io/workload"], "web");
    for file in ["resources/external.yaml", "resources/services.yaml"] {
        let text = example(file);
        let protocols: Vec<_> =
            text.lines().filter_map(|line| line.split_once("rotocol: ")).map(|line| line.1).collect();
        assert!(!protocols.is_empty(), "{file}");
        for protocol in protocols {
            assert!(["grpc", "http", "http2", "tcp"].contains(&protocol), "{file}: {protocol}");
        }
        let services = text.matches("type: MeshService").count();
        assert_eq!(text.matches("dataplaneLabels:").count(), services, "{file}: nothing else selects workloads");
    }
}

/// What a Dataplane that Kuma accepts is.
fn right(profile: Profile) -> Value {
    let tags = match profile {
        Profile::Kuma3 => json!({}),
        _ => json!({"kuma.io/service": "web"}),
    };
    json!({"type": "Dataplane", "mesh": "default", "name": "web-1", "labels": {"app": "web"}, "networking": {
        "address": "192.0.2.7",
        "admin": {"port": 9901},
        "inbound": [{"port": 8080, "servicePort": 80, "serviceAddress": "127.0.0.1", "state": "Ready", "tags": tags,
            "serviceProbe": {"interval": "1s", "tcp": {}}, "health": {"ready": true}}],
        "outbound": [{"port": 1, "backendRef": {"kind": "MeshService", "name": "a", "port": 80}}],
        "transparentProxying": {"redirectPortInbound": 15006, "redirectPortOutbound": 15001, "ipFamilyMode": "IPv4",
            "directAccessServices": ["*"], "reachableBackends": {"refs": [{"kind": "MeshService", "name": "a", "port": 80}]}}}})
}

/// One change for each rule that no other change hides, and the path of its violation.
fn changes() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("/name", json!("Web"), "name"),
        ("/mesh", json!(""), "mesh"),
        ("/labels/app", json!("-"), "labels[\"app\"]"),
        ("/networking/address", json!("::"), "networking.address"),
        ("/networking/admin/port", json!(80), "networking.admin.port"),
        ("/networking/inbound/0/port", json!(0), "networking.inbound[0].port"),
        ("/networking/inbound/0/serviceAddress", json!("a"), "networking.inbound[0].serviceAddress"),
        ("/networking/inbound/0/state", json!("Red"), "networking.inbound[0].state"),
        ("/networking/inbound/0/serviceProbe/interval", json!("0"), "networking.inbound[0].serviceProbe.interval"),
        ("/networking/inbound/0/health/ready", json!(1), "networking.inbound[0].health.ready"),
        ("/networking/outbound/0/port", json!(-1), "networking.outbound[0].port"),
        ("/networking/outbound/0/backendRef/kind", json!("Mesh"), "networking.outbound[0].backendRef.kind"),
        ("/networking/outbound/0/backendRef/port", json!(0), "networking.outbound[0].backendRef.port"),
        (
            "/networking/transparentProxying/redirectPortInbound",
            json!("a"),
            "networking.transparentProxying.redirectPortInbound",
        ),
        ("/networking/transparentProxying/ipFamilyMode", json!("ipv4"), "networking.transparentProxying.ipFamilyMode"),
        (
            "/networking/transparentProxying/directAccessServices/0",
            json!(1),
            "networking.transparentProxying.directAccessServices[0]",
        ),
        (
            "/networking/transparentProxying/reachableBackends/refs/0/name",
            json!("A"),
            "networking.transparentProxing.reachableBackends.refs[0].name",
        ),
    ]
}

#[test]
fn all_violations_at_once() {
    for profile in Profile::ALL {
        assert_eq!(judge(&right(profile).to_string(), Format::Json, profile), (true, vec![], vec![]));
    }
    arbtest(|u| {
        let profile = *u.choose(&Profile::ALL)?;
        let mut dataplane = right(profile);
        let mut expected = BTreeSet::new();
        for (pointer, value, path) in changes() {
            if u.ratio(1, 3)? {
                *dataplane.pointer_mut(pointer).unwrap() = value;
                expected.insert(path.to_owned());
            }
        }
        // The interface of Envoy collides with the service at 127.0.0.1 alone.
        if expected.contains("networking.inbound[0].serviceAddress") {
            expected.remove("networking.admin.port");
        }
        let found: BTreeSet<_> = judge(&dataplane.to_string(), Format::Json, profile).1.into_iter().collect();
        assert_eq!(found, expected, "{profile} {dataplane}");
        Ok(())
    })
    .budget_ms(1_500);
}

/// On Kubernetes, the API server tells the paths of the resource as it is there.
#[test]
fn paths_on_kubernetes_begin_with_spec() {
    let resource = |spec: Value| {
        json!({"apiVersion": "kuma.io/v1alpha1", "kind": "Dataplane", "mesh": "default",
            "metadata": {"name": "web-1", "namespace": "shop"}, "spec": spec})
        .to_string()
    };
    for profile in Profile::ALL {
        let networking = right(profile)["networking"].clone();
        let text = resource(json!({"networking": networking}));
        assert_eq!(judge(&text, Format::Json, profile), (true, vec![], vec![]));

        let mut wrong = networking;
        wrong["address"] = json!("::");
        wrong["outbound"][0]["backendRef"]["kind"] = json!("Mesh");
        wrong["transparentProxying"]["reachableBackends"]["refs"][0]["name"] = json!("A");
        wrong["slip"] = json!(1);
        let (valid, paths, warnings) = judge(&resource(json!({"networking": wrong})), Format::Json, profile);
        let expected = [
            "spec.networking.address",
            "spec.networking.outbound[0].backendRef.kind",
            "spec.networking.transparentProxing.reachableBackends.refs[0].name",
        ];
        assert_eq!((valid, paths.iter().map(String::as_str).collect()), (false, BTreeSet::from(expected)), "{profile}");
        assert_eq!(warnings, Vec::<String>::new(), "{profile}");
        for (spec, path) in [(json!({}), "spec.networking"), (json!(7), "spec")] {
            assert_eq!(judge(&resource(spec), Format::Json, profile).1, [path], "{profile}");
        }
        let mut slip = right(profile)["networking"].clone();
        slip["slip"] = json!(1);
        let (valid, _, warnings) = judge(&resource(json!({"networking": slip})), Format::Json, profile);
        assert_eq!((valid, warnings), (true, vec!["spec.networking.slip".to_owned()]), "{profile}");
    }
}

/// Where something can be, known or not.
const PLACES: &[&[&str]] = &[
    &["type"],
    &["kind"],
    &["name"],
    &["mesh"],
    &["labels"],
    &["labels", "kuma.io/mesh"],
    &["creationTime"],
    &["unknown"],
    &["metadata"],
    &["spec"],
    &["probes", "port"],
    &["metrics", "type"],
    &["networking"],
    &["networking", "address"],
    &["networking", "admin"],
    &["networking", "admin", "port"],
    &["networking", "advertisedAddress"],
    &["networking", "gateway"],
    &["networking", "gateway", "type"],
    &["networking", "gateway", "tags"],
    &["networking", "listeners"],
    &["networking", "listeners", "0", "type"],
    &["networking", "inbound"],
    &["networking", "inbound", "0"],
    &["networking", "inbound", "0", "port"],
    &["networking", "inbound", "0", "servicePort"],
    &["networking", "inbound", "0", "service_port"],
    &["networking", "inbound", "0", "address"],
    &["networking", "inbound", "0", "serviceAddress"],
    &["networking", "inbound", "0", "protocol"],
    &["networking", "inbound", "0", "state"],
    &["networking", "inbound", "0", "tags"],
    &["networking", "inbound", "0", "tags", "kuma.io/service"],
    &["networking", "inbound", "0", "serviceProbe"],
    &["networking", "inbound", "0", "serviceProbe", "timeout"],
    &["networking", "inbound", "1"],
    &["networking", "outbound"],
    &["networking", "outbound", "0"],
    &["networking", "outbound", "0", "backendRef"],
    &["networking", "outbound", "0", "backendRef", "kind"],
    &["networking", "outbound", "0", "backendRef", "name"],
    &["networking", "outbound", "0", "backendRef", "labels"],
    &["networking", "outbound", "0", "backendRef", "port"],
    &["networking", "outbound", "0", "tags"],
    &["networking", "transparentProxying"],
    &["networking", "transparent_proxying"],
    &["networking", "transparentProxying", "redirectPortInbound"],
    &["networking", "transparentProxying", "redirect_port_outbound"],
    &["networking", "transparentProxying", "ipFamilyMode"],
    &["networking", "transparentProxying", "directAccessServices"],
    &["networking", "transparentProxying", "reachableServices"],
    &["networking", "transparentProxying", "reachableBackends"],
    &["networking", "transparentProxying", "reachableBackends", "refs"],
    &["networking", "transparentProxying", "reachableBackends", "refs", "0", "kind"],
    &["networking", "transparentProxying", "reachableBackends", "refs", "0", "name"],
    &["networking", "transparentProxying", "reachableBackends", "refs", "0", "namespace"],
    &["networking", "transparentProxying", "reachableBackends", "refs", "0", "labels"],
    &["networking", "transparentProxying", "reachableBackends", "refs", "0", "port"],
];

fn any_value(u: &mut Unstructured<'_>) -> Result<Value> {
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(2),
        json!(9),
        json!(80),
        json!(70_000),
        json!(4_294_967_295_u32),
        json!(4_294_967_296_u64),
        json!(80.0),
        json!(80.5),
        json!(1e30),
        json!(""),
        json!("80"),
        json!(" 80 "),
        json!("080"),
        json!("a"),
        json!("A_b"),
        json!("\u{1b}é"),
        json!("192.0.2.1"),
        json!("::"),
        json!("0:0::0"),
        json!("IPv4"),
        json!("IPv6"),
        json!("DELEGATED"),
        json!("BUILTIN"),
        json!("MeshService"),
        json!("MeshExternalService"),
        json!("Dataplane"),
        json!("5s"),
        json!("-1s"),
        json!("2026-01-01T00:00:00Z"),
        json!([]),
        json!([null]),
        json!([{}]),
        json!([5, "a"]),
        json!({}),
        json!({"a": null}),
        json!({"a": "b"}),
        json!({"a b": 1}),
        json!({"kuma.io/service": "a"}),
        json!({"refs": [null]}),
    ];
    u.choose(&values).cloned()
}

/// Puts a value at a place, and makes what is missing on the way there.
fn put(at: &mut Value, place: &[&str], value: Value) {
    let [key, rest @ ..] = place else {
        *at = value;
        return;
    };
    match key.parse::<usize>() {
        Ok(index) => {
            if !at.is_array() {
                *at = json!([]);
            }
            let list = at.as_array_mut().unwrap();
            list.resize(list.len().max(index + 1), json!({}));
            put(&mut list[index], rest, value);
        }
        Err(_) => {
            if !at.is_object() {
                *at = json!({});
            }
            put(&mut at[*key], rest, value);
        }
    }
}

/// What is accepted can be used: it is read, makes a configuration where it has the section, and can be asked what it
/// reaches.
#[test]
fn what_is_accepted_can_be_used() {
    let (mut accepted, mut refused) = (0_usize, 0_usize);
    // How many documents a round is enough for, the machine decides.
    let enough = |accepted: usize, refused: usize| accepted > 100 && refused > 100;
    for _ in 0..50 {
        if enough(accepted, refused) {
            break;
        }
        arbtest(|u| {
            let profile = *u.choose(&Profile::ALL)?;
            let mut document = right(profile);
            for _ in 0..u.int_in_range(0..=5)? {
                put(&mut document, u.choose(PLACES)?, any_value(u)?);
            }
            let text = document.to_string();
            match Dataplane::validate(&text, Format::Json, profile) {
                Err(error) => {
                    refused += 1;
                    assert!(!error.problems().is_empty(), "{text}");
                    for problem in error.problems() {
                        assert!(!problem.path.is_empty() && !problem.expected.is_empty(), "{problem:?}");
                        assert!(!problem.to_string().contains(char::is_control), "{problem:?}");
                    }
                }
                Ok((dataplane, notes)) => {
                    accepted += 1;
                    assert!(notes.iter().all(|note| !note.to_string().contains(char::is_control)), "{notes:?}");
                    let (read, _) =
                        Dataplane::parse(&text, Format::Json).unwrap_or_else(|error| panic!("{error}: {text}"));
                    assert_eq!(read, dataplane, "{text}");
                    let section = &dataplane.transparent_proxying;
                    let config = dataplane.to_config();
                    assert_eq!(config.is_ok(), section.is_some(), "{text}");
                    if let (Ok(config), Some(section)) = (&config, section) {
                        assert_eq!(config.redirect.inbound.enabled, section.redirect_port_inbound.is_some());
                        assert_eq!(Config::parse(&config.to_json(), Format::Json).as_ref(), Ok(config), "{text}");
                    }
                    compare(&Config::default(), &dataplane);
                    let destinations = Destinations::new([], []);
                    for profile in Profile::ALL {
                        assert_eq!(Reachability::of(&dataplane, &destinations, profile).backends().count(), 0);
                    }
                }
            }
            Ok(())
        })
        .budget_ms(4_000);
    }
    assert!(enough(accepted, refused), "{accepted} accepted, {refused} refused");
}

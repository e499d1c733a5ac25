//! What a workload reaches: as Kuma had it, row by row, and by laws against an evaluator that does what Kuma does.

mod generate;
mod laws;
#[path = "../common/naive_reachability.rs"]
mod naive;

use std::collections::BTreeSet;

use kumatp::config::dataplane::reachability::{
    Backend, BackendPort, Destinations, MeshMode, Reachability, Reached, Resources, Rule, Service,
};
use kumatp::config::dataplane::{BackendKind, BackendRef, Dataplane};
use kumatp::config::{Config, Format, Profile};
use kumatp::model::IpFamilyMode;
use kumatp::net::Port;
use serde_json::{Value, json};

const MEASURED: &str = include_str!("../fixtures/dataplane/reachability.json");
const PORTS: &str = r#""redirectPortInbound": 15006, "redirectPortOutbound": 15001"#;

/// `redis:6379`, for each port.
fn names<'a>(list: impl Iterator<Item = Reached<'a>>) -> BTreeSet<String> {
    list.flat_map(|reached| {
        let name = reached.backend.name.clone();
        reached.ports.into_iter().map(move |port| format!("{name}:{}", port.number)).collect::<Vec<_>>()
    })
    .collect()
}

/// The services that the measured workload had around it.
fn measured() -> (Destinations, Vec<Value>) {
    let measured: Value = serde_json::from_str(MEASURED).unwrap();
    let mut resources = Resources::new();
    resources.document("services", &json!({"items": measured["services"]}).to_string(), Format::Json);
    let (destinations, notes) = resources.finish().unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    (destinations, measured["cases"].as_array().unwrap().clone())
}

fn parse(networking: &Value, labels: &Value) -> Dataplane {
    let text = json!({"type": "Dataplane", "name": "client", "labels": labels, "networking": networking}).to_string();
    Dataplane::parse(&text, Format::Json).unwrap().0
}

/// Whatever Kuma was seen to choose is a possible choice: all that is certain, nothing that is not possible, and exactly one
/// where one excludes the other.
#[test]
fn measured_listeners_are_possible_choices() {
    let (destinations, cases) = measured();
    assert!(cases.len() >= 34);
    let mut by_chance = 0;
    for case in cases {
        let labels = case.get("labels").cloned().unwrap_or_else(|| json!({}));
        let dataplane = parse(&case["networking"], &labels);
        let reachability = Reachability::of(&dataplane, &destinations, Profile::Kuma3);
        let (certain, perhaps) = (names(reachability.backends()), names(reachability.by_chance()));
        assert!(certain.is_disjoint(&perhaps));
        by_chance += usize::from(!perhaps.is_empty());
        let seen = case["listeners"].as_array().unwrap();
        assert!(seen.len() == 1 || !perhaps.is_empty(), "{case}: Kuma was seen to choose");
        for listeners in seen {
            let listeners: BTreeSet<String> = serde_json::from_value(listeners.clone()).unwrap();
            assert!(certain.is_subset(&listeners), "{case}: {certain:?}");
            assert!(listeners.difference(&certain).all(|one| perhaps.contains(one)), "{case}: {perhaps:?}");
            for choice in reachability.choices() {
                let one_of = choice.one_of.iter().map(|one| names([one.clone()].into_iter()));
                assert_eq!(one_of.filter(|one| one.is_subset(&listeners)).count(), 1, "{case}");
            }
        }
    }
    assert!(by_chance >= 7, "{by_chance}");
}

/// Where there is no chance in it, the answer is the listeners, and nothing else.
#[test]
fn measured_listeners_without_chance_are_the_answer() {
    let (destinations, cases) = measured();
    let mut compared = 0;
    for case in cases {
        let labels = case.get("labels").cloned().unwrap_or_else(|| json!({}));
        let dataplane = parse(&case["networking"], &labels);
        let reachability = Reachability::of(&dataplane, &destinations, Profile::Kuma3);
        if reachability.choices().next().is_some() {
            continue;
        }
        let listeners: BTreeSet<String> = serde_json::from_value(case["listeners"][0].clone()).unwrap();
        assert_eq!(names(reachability.backends()), listeners, "{case}");
        compared += 1;
    }
    assert!(compared >= 27, "{compared}");
}

fn mesh_service(name: &str, labels: &[(&str, &str)], ports: &[(u16, &str)]) -> Backend {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let name_of = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
    let ports = ports.iter().map(|(port, name)| BackendPort::new(Port::new(*port).unwrap(), name_of(name)));
    Backend::new(BackendKind::MeshService, "default", name, labels, ports.collect())
}

/// A workload with both redirect ports, and these keys beside them.
fn workload(keys: &str) -> Dataplane {
    let comma = if keys.is_empty() { "" } else { ", " };
    let section: Value = serde_json::from_str(&format!("{{{PORTS}{comma}{keys}}}")).unwrap();
    parse(&json!({"address": "192.0.2.7", "transparentProxying": section}), &json!({}))
}

fn refs(refs: &str) -> Dataplane {
    workload(&format!(r#""reachableBackends": {{"refs": [{refs}]}}"#))
}

fn reached(dataplane: &Dataplane, destinations: &Destinations, profile: Profile) -> Vec<String> {
    names(Reachability::of(dataplane, destinations, profile).backends()).into_iter().collect()
}

/// The rows of the table, one by one.
#[test]
fn profiles_differ_where_the_table_says() {
    let destinations = Destinations::new(
        [mesh_service("a", &[("app", "x")], &[(80, "http"), (443, "8080")]), mesh_service("b", &[], &[(80, "")])],
        [Service::new("default", "old"), Service::new("default", "older"), Service::new("another", "old")],
    );
    let all = ["a:443", "a:80", "b:80"];
    let (three, two) = (Profile::Kuma3, Profile::Kuma29);
    let name = |port| refs(&format!(r#"{{"kind": "MeshService", "name": "a", "port": {port}}}"#));
    for (dataplane, by_three, by_two) in [
        (workload(""), &all[..], &all[..]),
        (workload(r#""reachableBackends": {}"#), &[], &[]),
        (name(80), &all[1..2], &all[1..2]),
        (name(8080), &all[..1], &all[..1]),
        (name(81), &all[..2], &[]),
        (name(0), &all[..2], &[]),
        (name(70000), &all[..2], &[]),
        (refs(r#"{"kind": "MeshService", "labels": {"app": "x"}, "port": 443}"#), &all[..1], &all[..1]),
        (refs(r#"{"kind": "MeshMultiZoneService", "name": "a"}"#), &[], &[]),
        (workload(r#""reachableServices": ["old"]"#), &all[..], &[]),
    ] {
        assert_eq!(reached(&dataplane, &destinations, three), by_three, "{dataplane:?}");
        assert_eq!(reached(&dataplane, &destinations, two), by_two, "{dataplane:?}");
    }

    let mut with_mode = destinations.clone();
    with_mode.set_mode("default", MeshMode::ReachableBackends);
    assert_eq!(reached(&workload(""), &with_mode, three), all);
    assert_eq!(reached(&workload(""), &with_mode, two), [""; 0]);
    assert_eq!(reached(&name(80), &with_mode, two), all[1..2]);
}

/// Kuma 3 makes no listeners for values of `kuma.io/service`.
#[test]
fn services_of_the_older_form() {
    let destinations = Destinations::new([], ["old", "older"].map(|name| Service::new("default", name)));
    for (section, profile, expected) in [
        (r#""reachableServices": ["old"]"#, Profile::Kuma29, &["old"][..]),
        (r#""reachableServices": []"#, Profile::Kuma29, &["old", "older"]),
        ("", Profile::Kuma29, &["old", "older"]),
        (r#""reachableServices": ["old"]"#, Profile::Kuma3, &[]),
        ("", Profile::Kuma3, &[]),
    ] {
        let dataplane = workload(section);
        let reachability = Reachability::of(&dataplane, &destinations, profile);
        assert_eq!(reachability.services().collect::<Vec<_>>(), expected, "{section} {profile}");
        let told = profile == Profile::Kuma3 && !section.is_empty();
        assert_eq!(reachability.notes().len(), usize::from(told), "{:?}", reachability.notes());
        let why = reachability.explain("old").remove(0);
        assert_eq!(why.reachable, expected.contains(&"old"), "{why}");
        if profile == Profile::Kuma3 {
            assert!(
                why.to_string().contains("Kuma 3 makes no outbound listeners for values of kuma.io/service"),
                "{why}"
            );
        }
    }
}

/// A reference without a port means the first port that has no name, and all ports where all have names.
#[test]
fn no_port_is_the_first_without_a_name() {
    let ports = |ports: &[(u16, &str)]| Destinations::new([mesh_service("a", &[], ports)], []);
    let by_name = refs(r#"{"kind": "MeshService", "name": "a"}"#);
    let by_zero = refs(r#"{"kind": "MeshService", "name": "a", "port": 0}"#);
    for (ports, expected) in [
        (ports(&[(80, "http"), (81, ""), (82, "")]), &["a:81"][..]),
        (ports(&[(80, ""), (81, "admin")]), &["a:80"]),
        (ports(&[(80, "http"), (81, "admin")]), &["a:80", "a:81"]),
        // A name that is the number of the port counts as that port.
        (ports(&[(80, ""), (81, "80")]), &["a:80", "a:81"]),
    ] {
        for dataplane in [&by_name, &by_zero] {
            assert_eq!(reached(dataplane, &ports, Profile::Kuma3), expected);
        }
        assert_eq!(reached(&by_name, &ports, Profile::Kuma29).len(), ports.backends()[0].ports.len());
    }
    let destinations = ports(&[(80, "http"), (81, ""), (82, "")]);
    let reachability = Reachability::of(&by_name, &destinations, Profile::Kuma3);
    let notes: Vec<_> = reachability.notes().iter().map(ToString::to_string).collect();
    assert_eq!(notes, ["refs[0]: names no port, so Kuma takes one: 81, the first of a that has no name"]);
    assert!(
        reachability.explain("a")[0].to_string().ends_with("matches port 81, the first that has no name"),
        "{}",
        reachability.explain("a")[0]
    );
}

/// An empty name is none when it is looked for, and then stands for the whole service.
#[test]
fn an_empty_name_stands_for_all_ports() {
    let text = r#"{"type": "MeshService", "name": "a", "spec": {"ports": [{"port": 80, "name": "x"}, {"port": 81, "name": ""}]}}"#;
    let mut resources = Resources::new();
    resources.document("a", text, Format::Json);
    let (destinations, _) = resources.finish().unwrap();
    let dataplane = refs(r#"{"kind": "MeshService", "name": "a"}"#);
    assert_eq!(reached(&dataplane, &destinations, Profile::Kuma3), ["a:80", "a:81"]);
    let dataplane = refs(r#"{"kind": "MeshService", "name": "a", "port": 80}"#);
    assert_eq!(reached(&dataplane, &destinations, Profile::Kuma3), ["a:80"]);
}

#[test]
fn outbounds_take_the_place_of_reachable_backends_in_kuma_3() {
    let namespace = [("k8s.kuma.io/namespace", "ns")];
    let destinations = Destinations::new(
        [mesh_service("a", &namespace, &[(80, ""), (81, "")]), mesh_service("b", &[], &[(1, "")])],
        [],
    );
    let mut dataplane = refs(r#"{"kind": "MeshService", "name": "b"}"#);
    dataplane.outbounds = vec![BackendRef::named(BackendKind::MeshService, "a_ns_svc_81")];
    assert_eq!(reached(&dataplane, &destinations, Profile::Kuma3), ["a:81"]);
    assert_eq!(reached(&dataplane, &destinations, Profile::Kuma29), ["b:1"]);
    let reachability = Reachability::of(&dataplane, &destinations, Profile::Kuma3);
    assert_eq!(reachability.backend_rule(), Rule::Outbounds);
    assert!(reachability.explain("a")[0].to_string().contains("networking.outbound, backend 1"));
    dataplane.outbounds = vec![BackendRef::named(BackendKind::MeshService, "nothing")];
    assert_eq!(reached(&dataplane, &destinations, Profile::Kuma3), ["b:1"]);
}

/// What Kuma 3 takes by chance is not listed as reachable (quirk Q14).
#[test]
fn chance_is_told() {
    let both = [("app", "x")];
    let services = [("a", 80, "http"), ("b", 80, ""), ("c", 81, "")];
    let destinations = services.map(|(name, port, label)| mesh_service(name, &both, &[(port, label)]));
    let destinations = Destinations::new(destinations, []);
    let dataplane = refs(
        r#"{"kind": "MeshService", "labels": {"app": "x"}, "port": 80}, {"kind": "MeshService", "name": "d"},
            {"kind": "MeshService", "name": "c", "port": 1}"#,
    );
    let reachability = Reachability::of(&dataplane, &destinations, Profile::Kuma3);
    assert_eq!(names(reachability.backends()).into_iter().collect::<Vec<_>>(), ["c:81"]);
    assert_eq!(names(reachability.by_chance()).into_iter().collect::<Vec<_>>(), ["a:80", "b:80"]);
    let choices: Vec<_> = reachability.choices().collect();
    assert_eq!(choices.len(), 1);
    let of = |list: &[Reached<'_>]| list.iter().map(|one| one.backend.name.clone()).collect::<Vec<_>>();
    assert_eq!((choices[0].path.as_str(), of(&choices[0].one_of)), ("refs[0]", vec!["a".into(), "b".into()]));
    assert_eq!(of(&choices[0].perhaps), ["c"]);

    let why = |name: &str| reachability.explain(name).remove(0);
    assert_eq!(
        why("a").to_string(),
        "MeshService a might be reachable on port 80 (http), by Kuma's choice\n  refs[0] (MeshService with app=x, port 80) \
         matches port 80 (http); Kuma takes one of 2 such matches, by chance"
    );
    assert!(!why("a").reachable && why("c").reachable);
    let json: Value = serde_json::from_str(&reachability.to_json()).unwrap();
    assert_eq!(json["backends"].as_array().map(Vec::len), Some(1));
    assert_eq!(json["choices"][0]["oneOf"][1]["name"], "b");
    assert_eq!((&json["choices"][0]["oneOfCount"], &json["byChance"][1]["ports"][0]["port"]), (&json!(2), &json!(80)));

    let texts: Vec<_> = reachability.notes().iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "refs[0]: some destinations have no port 80, and Kuma takes all the ports of such a one",
            "refs[0]: Kuma takes one of these 2 matches, and perhaps the other one, by chance",
            "refs[1]: MeshService d matches nothing",
            "refs[2]: no destination has port 1, so all their ports are reachable",
        ]
    );
    let two = Reachability::of(&dataplane, &destinations, Profile::Kuma29);
    assert_eq!(names(two.backends()).into_iter().collect::<Vec<_>>(), ["a:80", "b:80"]);
    assert_eq!((two.by_chance().count(), two.choices().count()), (0, 0));
}

/// One match has the port, so it is taken in the end; what comes before it is chance.
#[test]
fn one_is_certain_beside_others_by_chance() {
    let twins = [("a", [(80, "http"), (81, "alt")]), ("b", [(80, "http"), (82, "alt")])];
    let destinations = twins.map(|(name, ports)| mesh_service(name, &[("team", "twin")], &ports));
    let destinations = Destinations::new(destinations, []);
    let dataplane = refs(r#"{"kind": "MeshService", "labels": {"team": "twin"}, "port": 81}"#);
    let reachability = Reachability::of(&dataplane, &destinations, Profile::Kuma3);
    assert_eq!(names(reachability.backends()).into_iter().collect::<Vec<_>>(), ["a:81"]);
    assert_eq!(names(reachability.by_chance()).into_iter().collect::<Vec<_>>(), ["b:80", "b:82"]);
    let text = reachability.explain("b").remove(0).to_string();
    assert!(text.contains("might be reachable on ports 80 (http), 82 (alt), by Kuma's choice"), "{text}");
    assert!(text.ends_with("; Kuma takes it only if it comes before a match that ends the search"), "{text}");
}

/// Where Kuma knows of no transparent proxy there are no listeners, unless kuma-dp says by a flag that there is one.
#[test]
fn without_a_transparent_proxy_nothing_is_reachable() {
    let destinations = Destinations::new([mesh_service("a", &[], &[(80, "")])], [Service::new("default", "old")]);
    let of = |address: &str, section: Option<&str>| {
        let section = section.map(|section| serde_json::from_str::<Value>(section).unwrap());
        let mut networking = json!({"address": address, "transparentProxying": section});
        networking.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        parse(&networking, &json!({}))
    };
    let ipv4 = format!(r#"{{{PORTS}, "ipFamilyMode": "IPv4"}}"#);
    let both = format!(r#"{{{PORTS}}}"#);
    let zero = r#"{"redirectPortInbound": 0, "redirectPortOutbound": 0}"#;
    for (address, section, rule, notes) in [
        ("192.0.2.7", None, Rule::NoSection, 1),
        ("192.0.2.7", Some("{}"), Rule::NothingRedirected, 1),
        ("192.0.2.7", Some(zero), Rule::NothingRedirected, 1),
        ("192.0.2.7", Some(r#"{"redirectPortInbound": 1}"#), Rule::NothingSaid, 0),
        ("192.0.2.7", Some(r#"{"redirectPortOutbound": 1}"#), Rule::NothingSaid, 0),
        ("192.0.2.7", Some(&ipv4), Rule::NothingSaid, 0),
        ("2001:db8::7", Some(&ipv4), Rule::NotIpv4, 1),
        ("2001:db8::7", Some(&both), Rule::NothingSaid, 0),
        ("::ffff:192.0.2.7", Some(&ipv4), Rule::NothingSaid, 0),
        // The control plane looks names up.
        ("web.example.org", Some(&ipv4), Rule::NothingSaid, 1),
    ] {
        let dataplane = of(address, section);
        for profile in Profile::ALL {
            let reachability = Reachability::of(&dataplane, &destinations, profile);
            assert_eq!(reachability.backend_rule(), rule, "{address} {section:?}");
            let any = rule == Rule::NothingSaid;
            assert_eq!(reachability.backends().count(), usize::from(any), "{address} {section:?}");
            let services = any && profile == Profile::Kuma29;
            assert_eq!(reachability.services().count(), usize::from(services), "{address} {section:?}");
            let why = reachability.explain("a").remove(0);
            assert_eq!(why.reachable, any, "{why}");
            if profile == Profile::Kuma3 {
                assert_eq!(reachability.notes().len(), notes, "{:?}", reachability.notes());
                // The flag of kuma-dp counts, and the address with it; the section does not.
                let config = Config::default();
                let by_flag = Reachability::by_flag(&dataplane, &destinations, profile, &config);
                assert_eq!(by_flag.backends().count(), 1, "{address} {section:?}");
            }
        }
    }

    let bare = of("2001:db8::7", None);
    let mut config = Config::default();
    let by_flag =
        |config: &Config, profile| Reachability::by_flag(&bare, &destinations, profile, config).backend_rule();
    assert_eq!(by_flag(&config, Profile::Kuma3), Rule::Unfiltered);
    assert_eq!(by_flag(&config, Profile::Kuma29), Rule::NoSection);
    config.ip_family_mode = IpFamilyMode::Ipv4;
    assert_eq!(by_flag(&config, Profile::Kuma3), Rule::NotIpv4);
    config.ip_family_mode = IpFamilyMode::DualStack;
    (config.redirect.inbound.enabled, config.redirect.outbound.enabled) = (false, false);
    assert_eq!(by_flag(&config, Profile::Kuma3), Rule::NothingRedirected);

    let mut with_outbounds = of("192.0.2.7", None);
    with_outbounds.outbounds.push(BackendRef::named(BackendKind::MeshService, "a"));
    let reachability = Reachability::of(&with_outbounds, &destinations, Profile::Kuma3);
    assert_eq!(reachability.backends().count(), 0);
    assert!(reachability.notes().iter().any(|note| note.about == "networking.outbound"), "{:?}", reachability.notes());
}

/// With the flag, the lists of the section still count.
#[test]
fn lists_count_with_the_flag() {
    let destinations = Destinations::new(["a", "b"].map(|name| mesh_service(name, &[], &[(80, "")])), []);
    let section = json!({"reachableBackends": {"refs": [{"kind": "MeshService", "name": "b"}]}});
    let dataplane = parse(&json!({"address": "192.0.2.7", "transparentProxying": section}), &json!({}));
    let reachability = Reachability::by_flag(&dataplane, &destinations, Profile::Kuma3, &Config::default());
    assert_eq!(names(reachability.backends()).into_iter().collect::<Vec<_>>(), ["b:80"]);
}

/// A label that only the control plane adds is not in a file, so that a reference to it tells so.
#[test]
fn labels_that_only_the_control_plane_knows() {
    let note = |label: &[(&str, &str)]| {
        let destinations = Destinations::new([mesh_service("a", label, &[(80, "")])], []);
        let dataplane = refs(r#"{"kind": "MeshService", "labels": {"kuma.io/zone": "east"}}"#);
        Reachability::of(&dataplane, &destinations, Profile::Kuma3).notes()[0].to_string()
    };
    assert!(
        note(&[]).ends_with("matches nothing; Kuma adds kuma.io/zone when it stores a resource, and none here has it")
    );
    assert!(note(&[("kuma.io/zone", "west")]).ends_with("matches nothing"));
}

/// Kuma makes no listener at an address of the workload itself, as a headless service has it.
#[test]
fn own_addresses_have_no_listeners() {
    let service = |name: &str, status: &str| {
        let spec = json!({"ports": [{"port": 8080, "name": "http"}, {"port": 9090, "name": "admin"}]});
        let status: Value = serde_json::from_str(status).unwrap();
        json!({"type": "MeshService", "name": name, "spec": spec, "status": status}).to_string()
    };
    let mut resources = Resources::new();
    for (name, status) in [
        ("own", r#"{"vips": [{"ip": "192.0.2.7"}]}"#),
        ("both", r#"{"vips": [{"ip": "192.0.2.7"}, {"ip": "241.0.0.1"}]}"#),
        ("other", r#"{"vips": [{"ip": "241.0.0.2"}]}"#),
        ("new", "{}"),
        ("odd", r#"{"vips": [{"ip": "x"}, 3], "vip": "y"}"#),
    ] {
        resources.document(name, &service(name, status), Format::Json);
    }
    let (destinations, _) = resources.finish().unwrap();
    let section: Value = serde_json::from_str(&format!("{{{PORTS}}}")).unwrap();
    let networking = json!({"address": "192.0.2.7", "inbound": [{"port": 8080}], "transparentProxying": section});
    let dataplane = parse(&networking, &json!({}));
    for profile in Profile::ALL {
        let reachability = Reachability::of(&dataplane, &destinations, profile);
        let found = names(reachability.backends());
        assert_eq!(found.len(), 9, "{found:?}");
        assert!(!found.contains("own:8080") && found.contains("own:9090") && found.contains("both:8080"), "{found:?}");
        let notes: Vec<_> = reachability.notes().iter().map(ToString::to_string).collect();
        assert_eq!(
            notes,
            ["MeshService own: port 8080 (http) is an inbound of the workload itself, so Kuma makes no listener"]
        );
        let why = reachability.explain("own").remove(0);
        assert!(why.to_string().contains("port 8080 (http) is an inbound of the workload itself"), "{why}");
    }
}

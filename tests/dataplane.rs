//! Dataplanes and resources as Kuma's tests have them.

#[path = "common/problems.rs"]
mod problems;

use arbitrary::{Result, Unstructured};
use arbtest::arbtest;
use kumatp::config::Format;
use kumatp::config::Profile;
#[cfg(feature = "yaml")]
use kumatp::config::dataplane::reachability::Reachability;
use kumatp::config::dataplane::reachability::Resources;
use kumatp::config::dataplane::{Dataplane, ReachableBackends, TransparentProxying, fill};
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
        let services: &[&str] = if profile == Profile::Kuma29 { &["old"] } else { &[] };
        assert_eq!(reachability.services().collect::<Vec<_>>(), services);
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
            errors.extend(
                Profile::ALL.into_iter().filter_map(|profile| Dataplane::validate(&text, format, profile).err()),
            );
            errors.extend(ReachableBackends::parse(&text, format).err());
            errors.extend(TransparentProxying::parse(&text, format).err());
            let mut resources = Resources::new();
            resources.document("x", &text, format);
            errors.extend(resources.finish().err());
        }
        for error in errors {
            problems::are_told(&error);
        }
        Ok(())
    })
    .budget_ms(3_000);
}

//! Dataplanes and reachability by C are those by Rust.

use std::borrow::BorrowMut as _;

use serde_json::json;

use super::*;
use crate::Config;
use crate::config::Format;
use crate::config::Profile;
use crate::config::dataplane::reachability::{Reachability, Resources};
use crate::config::dataplane::{Dataplane, TransparentProxying, compare, fill};
use crate::model::IpFamilyMode;

const TEMPLATE: &str = "type: Dataplane
mesh: default
name: {{ name }}
networking:
  address: {{ address }}
  inbound: [{port: 8080, servicePort: 80, tags: {kuma.io/service: web}}]
  transparentProxying:
    redirectPortInbound: 16006
    redirectPortOutbound: 16001
    ipFamilyMode: IPv4
    reachableServices: [redis]
    reachableBackend: {}
    reachableBackends: {refs: [{kind: MeshService, name: redis, port: 6379}, {kind: MeshService, labels: {a: b}}]}
";
const VARIABLES: &str = r#"{"name": "web-1", "address": "192.0.2.7"}"#;

fn filled(template: &str, variables: &str) -> Given<kumatp_text> {
    let ((text, len), (variables, variables_len)) = (data(template), data(variables));
    // SAFETY: texts that outlive the call.
    call(|out, err| unsafe { kumatp_dataplane_fill(text, len, variables, variables_len, out, err) })
}

fn read(text: &str) -> Given<kumatp_dataplane> {
    let (text, len) = data(text);
    // SAFETY: a text that outlives the call.
    call(|out, err| unsafe { kumatp_dataplane_parse(text, len, KUMATP_FORMAT_YAML, out, err) })
}

fn reach(dataplane: *const kumatp_dataplane, query: &str) -> Given<kumatp_text> {
    let (query, len) = data(query);
    // SAFETY: `dataplane` is not freed yet, and the text outlives the call.
    call(|out, err| unsafe { kumatp_dataplane_reach(dataplane, query, len, out, err) })
}

fn pair() -> (*mut kumatp_dataplane, Dataplane) {
    let text = take(filled(TEMPLATE, VARIABLES));
    (read(&text).unwrap(), Dataplane::parse(&text, Format::Yaml).unwrap().0)
}

#[test]
fn templates_are_filled_as_by_rust() {
    let variables: std::collections::BTreeMap<_, _> = serde_json::from_str(VARIABLES).unwrap();
    let rust = fill(TEMPLATE, &variables).unwrap();
    assert!(rust.contains("address: 192.0.2.7\n"));
    for variables in [VARIABLES, r#"["name=web-1", "address=192.0.2.7"]"#, r#""name=web-1\naddress=192.0.2.7\n""#] {
        assert_eq!(take(filled(TEMPLATE, variables)), rust, "{variables}");
    }

    let (status, message, field) = filled("a: {{ adress }}\nb: {{ b }}\n", VARIABLES).unwrap_err();
    assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some("line 1")));
    assert!(message.contains("did you mean 'address'?") && message.lines().count() == 2, "{message}");
    let (status, _, field) = filled("", r#"{"a": "x: y"}"#).unwrap_err();
    assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some("variable a")));
    let (status, message, _) = filled("", "[\"a=1\", \"b\"]").unwrap_err();
    assert_eq!((status, message.as_str()), (KUMATP_E_CONFIG, "variables[1]: 'b' is not valid: expected NAME=value"));
    for (variables, says) in [
        ("", "variables: EOF while parsing a value at line 1 column 0"),
        ("{\"a\": 1}", "variables: invalid type: integer `1`, expected a string at line 1 column 7"),
    ] {
        let (status, message, field) = filled("", variables).unwrap_err();
        assert_eq!((status, field.as_deref(), message.as_str()), (KUMATP_E_ARGUMENT, Some("variables"), says));
    }
}

#[test]
fn what_is_read_is_a_document() {
    let (c, rust) = pair();
    // SAFETY: `c` is freed after its use.
    let document = unsafe {
        let document = json(call(|out, err| kumatp_dataplane_to_json(c, out, err)));
        kumatp_dataplane_free(c);
        document
    };
    assert_eq!(document["transparentProxying"], serde_json::to_value(&rust.transparent_proxying).unwrap());
    assert_eq!(
        document["inbounds"],
        json!([{"port": 8080, "address": null, "servicePort": 80, "tags": {"kuma.io/service": "web"}}])
    );
    assert_eq!(document["labels"]["kuma.io/display-name"], "web-1");
    let members = ["name", "mesh", "address", "namespace", "zone", "services", "isTransparent", "outbounds"];
    let expected = json!(["web-1", "default", "192.0.2.7", null, null, ["web"], true, []]);
    assert_eq!(members.map(|name| document[name].clone()).to_vec(), *expected.as_array().unwrap());
    assert_eq!(document["origins"], serde_json::to_value(rust.origins().unwrap()).unwrap());
    let note = &document["notes"][0];
    assert_eq!(note["about"], "networking.transparentProxying.reachableBackend");
    assert!(note["text"].as_str().unwrap().contains("reachableBackends"), "{note}");
}

#[test]
fn every_violation_is_told_with_kumas_path() {
    let text = "type: Dataplane\nnetworking: {inbound: [{port: 0}], transparentProxying: {ipFamilyMode: ipv4, \
                reachableBackends: {refs: [{kind: MeshMulitZoneService, name: a}]}}}\n";
    let (status, message, field) = read(text).unwrap_err();
    assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some("networking.inbound[0].port")));
    let rust = Dataplane::parse(text, Format::Yaml).unwrap_err();
    assert_eq!(message, rust.to_string());
    assert!(message.contains("networking.transparentProxing.reachableBackends.refs[0].kind"), "{message}");
    assert!(message.contains("did you mean 'MeshMultiZoneService'?") && rust.problems().len() == 3, "{message}");
    let (text, len) = data(text);
    // SAFETY: a text that outlives the calls.
    unsafe {
        let given = call(|out, err| kumatp_dataplane_parse(text, len, 3, out, err));
        assert_eq!(given.unwrap_err().2.as_deref(), Some("format"));
        let given = call(|out, err| kumatp_dataplane_parse(text, len, KUMATP_FORMAT_JSON, out, err));
        assert_eq!(given.unwrap_err().2.as_deref(), Some("document: line 1 column 2"));
    }
}

#[test]
fn all_of_it_is_checked_by_the_rules_of_a_generation() {
    let validate = |text: &str, query: &str| {
        let ((text, len), (query, query_len)) = (data(text), data(query));
        // SAFETY: texts that outlive the call.
        call(|out, err| unsafe { kumatp_dataplane_validate(text, len, KUMATP_FORMAT_YAML, query, query_len, out, err) })
    };
    let older = "{type: Dataplane, mesh: default, name: a, networking: {address: 192.0.2.7, \
                 inbound: [{port: 80, tags: {kuma.io/service: a}}], outbound: [{port: 1, tags: {kuma.io/service: b}}]}}";
    let handle = validate(older, r#"{"profile": "kuma-2.9"}"#).unwrap();
    // SAFETY: `handle` is freed after its use.
    let document = unsafe {
        let document = json(call(|out, err| kumatp_dataplane_to_json(handle, out, err)));
        kumatp_dataplane_free(handle);
        document
    };
    assert_eq!((&document["notes"], &document["services"]), (&json!([]), &json!(["a"])));
    let (status, message, field) = validate(older, "{}").unwrap_err();
    assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some("networking.outbound[0].backendRef")));
    assert_eq!(message, Dataplane::validate(older, Format::Yaml, Profile::Kuma3).unwrap_err().to_string());
    let accepted = older.replace("outbound", "unknown");
    let handle = validate(&accepted, "{}").unwrap();
    // SAFETY: `handle` is freed after its use.
    let document = unsafe {
        let document = json(call(|out, err| kumatp_dataplane_to_json(handle, out, err)));
        kumatp_dataplane_free(handle);
        document
    };
    assert_eq!(document["notes"][1]["about"], "networking.unknown");
    for (query, field) in [("[]", "query"), (r#"{"profile": "kuma-4"}"#, "profile"), (r#"{"profil": 1}"#, "query")] {
        assert_eq!(validate(older, query).unwrap_err().2.as_deref(), Some(field), "{query}");
    }
}

#[test]
fn from_a_dataplane_to_its_host_and_back() {
    let (c, rust) = pair();
    let text = "redirect: {inbound: {excludePorts: [8080]}}\nunknownKey: 1";
    let base = parse(text).unwrap();
    // SAFETY: handles that calls have given out, freed after their use.
    unsafe {
        let config = |base: *const kumatp_config| call(|out, err| kumatp_config_from_dataplane(c, base, out, err));
        let document = |config| take(call(|out, err| kumatp_config_to_json(config, out, err)));
        let notes = |config| json(call(|out, err| kumatp_config_notes(config, out, err)));
        let compared = |config| json(call(|out, err| kumatp_dataplane_compare(c, config, out, err)));

        let plain = config(null()).unwrap();
        assert_eq!(document(plain), rust.to_config().unwrap().to_json() + "\n");
        assert_eq!(notes(plain).as_array().map(Vec::len), Some(1));
        assert_eq!(compared(plain), json!([]));
        let section = take(call(|out, err| kumatp_config_to_transparent_proxying(plain, out, err)));
        assert_eq!(
            serde_json::from_str::<Value>(&section).unwrap(),
            json!({"redirectPortInbound": 16006, "redirectPortOutbound": 16001, "ipFamilyMode": "IPv4"})
        );
        assert_eq!(section, TransparentProxying::of(&rust.to_config().unwrap()).to_json() + "\n");

        let over = config(base).unwrap();
        let mut expected = Config::parse(text, Format::Yaml).unwrap();
        rust.transparent_proxying.as_ref().unwrap().apply_to(&mut expected).unwrap();
        assert_eq!(
            (expected.ip_family_mode, expected.redirect.inbound.exclude_ports.is_empty()),
            (IpFamilyMode::Ipv4, false)
        );
        assert_eq!(document(over), expected.to_json() + "\n");
        assert_eq!(notes(over).as_array().map(Vec::len), Some(2));
        for (handle, config) in [(over, &expected), (base, &Config::parse(text, Format::Yaml).unwrap())] {
            let notes = compare(config, &rust);
            assert!(!notes.is_empty());
            assert_eq!(compared(handle), serde_json::to_value(notes).unwrap());
        }
        for config in [plain, over, base] {
            kumatp_config_free(config);
        }
        kumatp_dataplane_free(c);

        let none = read("{type: Dataplane, name: a, networking: {}}").unwrap();
        let given = call(|out, err| kumatp_config_from_dataplane(none, null(), out, err));
        let (status, _, field) = given.unwrap_err();
        assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some("networking.transparentProxying")));
        kumatp_dataplane_free(none);
    }
}

const RESOURCES: [&str; 3] = [
    r#"{"type": "MeshService", "name": "redis", "labels": {"a": "b"}, "spec": {"ports": [{"port": 6379, "name": "tcp"}]}}"#,
    "type: MeshService\nname: elastic\nspec: {ports: [{port: 9200}]}\n---\ntype: Mesh\nname: default\n---\ntype: Secret\nname: s",
    r#"{"items": [{"type": "Dataplane", "name": "r", "networking": {"inbound": [{"port": 1, "tags": {"kuma.io/service": "redis"}}]}},
        {"kind": "MeshExternalService", "metadata": {"name": "out", "namespace": "ns"}, "spec": {"match": {"port": 443}}}]}"#,
];

/// What Kuma might choose, and what kuma-dp says by its flags.
#[test]
fn chance_and_flags_are_those_of_rust() {
    let text = "{type: Dataplane, name: w, networking: {transparentProxying: {reachableBackends: {refs: [{kind: MeshService, \
                labels: {a: b}, port: 80}]}}}}";
    let resources: Vec<String> = ["one", "two"]
        .map(|name| format!("{{type: MeshService, name: {name}, labels: {{a: b}}, spec: {{ports: [{{port: 80}}]}}}}"))
        .into();
    let c = read(text).unwrap();
    let ask = |more: Value| {
        let mut query = json!({"resources": resources, "explain": ["one"]});
        query.as_object_mut().unwrap().append(more.as_object().cloned().unwrap().borrow_mut());
        json(reach(c, &query.to_string()))
    };
    for more in [json!({}), json!({"transparentProxy": false})] {
        let answer = ask(more);
        assert_eq!((&answer["choices"], &answer["explanations"]["one"][0]["reachable"]), (&json!([]), &json!(false)));
        assert!(answer["backendRule"].as_str().unwrap().contains("neither direction has a redirect port"), "{answer}");
    }
    let by_ipv4 = json!({"transparentProxyConfig": {"ipFamilyMode": "ipv4"}});
    assert!(ask(by_ipv4)["backendRule"].as_str().unwrap().contains("no IPv4 address"));

    let rust = Dataplane::parse(text, Format::Yaml).unwrap().0;
    let mut collected = Resources::new();
    resources.iter().for_each(|text| collected.document("x", text, Format::Yaml));
    let (destinations, _) = collected.finish().unwrap();
    let rust = Reachability::by_flag(&rust, &destinations, Profile::Kuma3, &Config::default());
    let rust = serde_json::to_value(rust).unwrap();
    for more in [json!({"transparentProxy": true}), json!({"transparentProxyConfig": "dryRun: true"})] {
        let answer = ask(more);
        for name in ["backends", "byChance", "choices", "backendRule"] {
            assert_eq!(answer[name], rust[name], "{name}");
        }
        let choice = &answer["choices"][0];
        assert_eq!((&answer["backends"], &choice["oneOfCount"]), (&json!([]), &json!(2)));
        assert_eq!((&choice["path"], &choice["oneOf"][1]["name"]), (&json!("refs[0]"), &json!("two")));
        let one = &answer["explanations"]["one"][0];
        assert_eq!((&one["reachable"], &one["portsByChance"][0]["port"]), (&json!(false), &json!(80)));
        assert_eq!((&one["references"][0]["byChance"], &one["references"][0]["matches"]), (&json!(true), &json!(true)));
    }
    let wrong = json!({"resources": [], "transparentProxyConfig": {"wait": "soon"}});
    let (status, message, field) = reach(c, &wrong.to_string()).unwrap_err();
    assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some("transparentProxyConfig: wait")), "{message}");
    // SAFETY: given out by `read`.
    unsafe { kumatp_dataplane_free(c) };
}

#[test]
fn reachability_is_that_of_rust() {
    let (c, rust) = pair();
    let mut resources = Resources::new();
    for (index, text) in RESOURCES.iter().enumerate() {
        resources.document(&format!("resources[{index}]"), text, Format::Yaml);
    }
    let (destinations, _) = resources.finish().unwrap();
    let object: Value = serde_json::from_str(RESOURCES[0]).unwrap();
    let list: Value = serde_json::from_str(RESOURCES[2]).unwrap();
    for profile in Profile::ALL {
        let rust = Reachability::of(&rust, &destinations, profile);
        let expected = serde_json::to_value(&rust).unwrap();
        for items in [json!(RESOURCES), json!([object, RESOURCES[1], list])] {
            let query =
                json!({"profile": profile.to_string(), "resources": items, "explain": ["elastic", "redis", "no"]});
            let answer = json(reach(c, &query.to_string()));
            for (name, value) in expected.as_object().unwrap() {
                assert_eq!(&answer[name], value, "{profile}: {name}");
            }
            assert_eq!(
                answer["backends"],
                json!([{"kind": "MeshService", "mesh": "default", "name": "redis",
                "ports": [{"port": 6379, "name": "tcp"}]}])
            );
            assert_eq!(answer["explanations"]["no"], json!([]));
            for name in ["elastic", "redis"] {
                let explained = serde_json::to_value(rust.explain(name)).unwrap();
                assert_eq!(answer["explanations"][name], explained);
            }
            assert_eq!((&answer["byChance"], &answer["choices"]), (&json!([]), &json!([])));
            let (why_not, why) = (&answer["explanations"]["elastic"][0], &answer["explanations"]["redis"]);
            assert_eq!((&why_not["reachable"], why.as_array().map(Vec::len)), (&json!(false), Some(2)));
            assert_eq!((&why[0]["kind"], why[1].get("kind")), (&json!("MeshService"), None));
            let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(
                keys(why_not),
                ["kind", "mesh", "name", "ports", "portsByChance", "reachable", "references", "rule", "why"]
            );
            assert_eq!(keys(&why[0]["references"][0]), ["byChance", "matches", "path", "reference", "why"]);
        }
    }
    // SAFETY: given out by `pair`.
    unsafe { kumatp_dataplane_free(c) };
}

#[test]
fn wrong_questions_are_refused() {
    let (c, _) = pair();
    assert_eq!(json(reach(c, "{}"))["backends"], json!([]));
    for (query, says) in [
        ("", "query: EOF while parsing a value at line 1 column 0"),
        ("{\"resources\": {}}", "invalid type: map, expected a sequence"),
        ("{\"resource\": []}", "unknown field `resource`, expected one of `profile`, `resources`, `explain`"),
        ("{\"explain\": \"a\"}", "expected a sequence"),
    ] {
        let (status, message, field) = reach(c, query).unwrap_err();
        assert_eq!((status, field.as_deref()), (KUMATP_E_ARGUMENT, Some("query")));
        assert!(message.contains(says), "{message}");
    }
    let (status, message, field) = reach(c, "{\"profile\": \"kuma-1\"}").unwrap_err();
    assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some("profile")), "{message}");
    let query = json!({"resources": [7, {"type": "MeshService", "name": "a", "spec": {"ports": [{"port": 0}]}}, "[", {"kind": "MeshExternalService"}]});
    let (status, message, field) = reach(c, &query.to_string()).unwrap_err();
    assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some("resources[0]")), "{message}");
    for part in ["resources[1]: spec.ports[0].port", "resources[2]: line 2 column 1", "resources[3]: name"] {
        assert!(message.contains(part), "nothing of {part} in {message}");
    }
    // SAFETY: given out by `pair`.
    unsafe { kumatp_dataplane_free(c) };
}

//! A configuration as text: what is shared by the tests of its parts.

mod layers;
mod notes;
mod values;
#[cfg(feature = "yaml")]
mod yaml;

use super::*;
use crate::error::Problem;
use crate::model::{IpFamilyMode, Note, Severity};

const PREFIX: &str = "KUMA_TRANSPARENT_PROXY_";

/// Documents in these tests are flow style YAML that is JSON as well, unless they are about YAML itself.
fn json(text: &str) -> Config {
    Config::parse(text, Format::Json).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn problems(text: &str) -> Vec<Problem> {
    Config::parse(text, Format::Json).expect_err(text).problems().to_vec()
}

/// The path and the value of the one problem.
fn problem(text: &str) -> (String, String) {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    (problems[0].path.clone(), problems[0].value.clone())
}

fn env(variables: &[(&str, &str)]) -> Result<(Config, Vec<Note>), Error> {
    let mut layers = Layers::new();
    layers.environment(variables.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned())));
    layers.finish()
}

fn flags(flags: &[(&str, &str)]) -> Result<(Config, Vec<Note>), Error> {
    let mut layers = Layers::new();
    for (flag, value) in flags {
        layers.flag(flag, value);
    }
    layers.finish()
}

fn notes(text: &str) -> Vec<String> {
    let mut layers = Layers::new();
    layers.document("tp.json", text, Format::Json);
    let notes = layers.finish().unwrap().1;
    assert!(notes.iter().all(|note| note.severity == Severity::Warning));
    notes.iter().map(ToString::to_string).collect()
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_said_is_the_default() {
    for text in ["", " \n", "{}", "null", "{\"redirect\": null}", "{\"redirect\": {\"inbound\": {}}}", "\u{feff}{}"] {
        assert_eq!(json(text), Config::default(), "{text:?}");
    }
    assert_eq!(json(r#"{"redirect": {"inbound": {"port": null, "excludePorts": null}}}"#), Config::default());
}

#[test]
fn a_document_is_a_mapping() {
    assert_eq!(problem("[1, 2]"), ("document".into(), "[1, 2]".into()));
    assert_eq!(problem("7"), ("document".into(), "7".into()));
    assert_eq!(problem(r#"{"redirect": {"dns": true}}"#), ("redirect.dns".into(), "true".into()));
    assert_eq!(problem(r#"{"iptablesExecutables": "iptables:/x"}"#).0, "iptablesExecutables");
}

#[test]
fn all_problems_are_reported() {
    let text =
        r#"{"wait": -1, "log": {"level": 99}, "verbose": 1, "ipFamilyMode": "ipv7", "retry": {"maxRetries": "many"}}"#;
    let found: Vec<_> = problems(text).into_iter().map(|p| (p.path, p.value)).collect();
    let expected =
        [("wait", "-1"), ("log.level", "99"), ("verbose", "1"), ("ipFamilyMode", "ipv7"), ("retry.maxRetries", "many")]
            .map(|(path, value)| (path.to_owned(), value.to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn the_written_form_is_kumas() {
    let defaults = r#"{
  "ipFamilyMode": "dualstack",
  "kumaDPUser": "",
  "redirect": {
    "dns": {
      "captureAll": false,
      "enabled": false,
      "port": 15053,
      "resolvConfigPath": "/etc/resolv.conf",
      "skipConntrackZoneSplit": false
    },
    "inbound": {
      "enabled": true,
      "port": 15006
    },
    "outbound": {
      "enabled": true,
      "port": 15001
    }
  },
  "retry": {
    "maxRetries": 4,
    "sleepBetweenRetries": "2s"
  },
  "wait": 5,
  "waitInterval": 0
}"#;
    assert_eq!(Config::default().to_json(), defaults);

    let changed = json(
        r#"{"redirect": {"inbound": {"excludePorts": ["9000", "1-2"]}, "outbound": {"excludePortsForUIDs": ["7"]}}, "log": {"level": 3},
            "comments": {"disabled": true}, "iptablesExecutables": {"iptables-save": "/s"}}"#,
    );
    let text = changed.to_json();
    let tree: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(tree["redirect"]["inbound"]["excludePorts"], serde_json::json!([9000, "1-2"]));
    assert_eq!(tree["redirect"]["outbound"]["excludePortsForUIDs"], serde_json::json!(["tcp,udp:1-65535:7"]));
    assert_eq!(tree["log"], serde_json::json!({"enabled": false, "level": 3}));
    assert_eq!(tree["comments"], serde_json::json!({"disabled": true}));
    assert_eq!(tree["iptablesExecutables"], serde_json::json!({"iptables-save": "/s"}));
    assert_eq!(json(&text), changed);
}

#[test]
fn engines_are_told_what_the_configuration_says() {
    assert_eq!(Config::default().options(), crate::model::Options::default());
    let options = json(
        r#"{"comments": {"disabled": true}, "wait": 7, "ebpf": {"bpffsPath": "/b"}, "dropInvalidPackets": true,
            "redirect": {"dns": {"enabled": true, "skipConntrackZoneSplit": true}}}"#,
    )
    .options();
    assert_eq!((options.comments, options.wait.seconds, options.drop_invalid_packets), (false, 7, true));
    assert_eq!((options.bpffs.as_deref(), options.cgroup), (Some(std::path::Path::new("/b")), None));
    assert_eq!((options.dns, options.conntrack_zones), (true, false));
}

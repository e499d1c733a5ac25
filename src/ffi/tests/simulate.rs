//! Simulation by C is that by Rust, for documents of every kind.

use arbitrary::Unstructured;
use arbtest::arbtest;

use super::*;
use crate::model::EngineName;
use crate::simulate::{AnyPacket, Simulator};

pub(super) const DOCUMENT: &str = "redirect: {inbound: {excludePorts: [22]}, outbound: {excludePorts: 9000-9100}}";

const ENGINES: [(u32, EngineName); 2] =
    [(KUMATP_ENGINE_NETLINK, EngineName::Netlink), (KUMATP_ENGINE_IPTABLES, EngineName::Iptables)];

pub(super) fn rust_plan(document: &str) -> crate::Plan {
    let config = crate::Config::parse(document, crate::config::Format::Yaml).unwrap();
    crate::policy::plan(&config, &crate::Facts::capable_host(crate::net::Uid::SIDECAR)).unwrap()
}

fn simulate(plan: *const kumatp_plan, engine: u32, packets: &str) -> Given<kumatp_text> {
    let (text, len) = data(packets);
    // SAFETY: `plan` is not freed yet, and the text outlives the call.
    call(|out, err| unsafe { kumatp_plan_simulate(plan, engine, text, len, out, err) })
}

fn explain(plan: *const kumatp_plan, engine: u32, packets: &str) -> Given<kumatp_text> {
    let (text, len) = data(packets);
    // SAFETY: `plan` is not freed yet, and the text outlives the call.
    call(|out, err| unsafe { kumatp_plan_explain(plan, engine, text, len, out, err) })
}

fn edges(plan: *const kumatp_plan, engine: u32) -> Given<kumatp_text> {
    // SAFETY: `plan` is not freed yet.
    call(|out, err| unsafe { kumatp_plan_edges(plan, engine, out, err) })
}

#[test]
fn every_edge_ends_as_in_rust() {
    let (c, rust) = (plan(DOCUMENT), rust_plan(DOCUMENT));
    for (number, engine) in ENGINES {
        let simulator = Simulator::of(&rust, engine);
        let packets = simulator.edges();
        let document = take(edges(c, number));
        let texts: Vec<String> = serde_json::from_str(&document).unwrap();
        assert_eq!(texts, packets.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(texts.len() > 100);

        let outcomes: Vec<_> = packets.iter().map(|packet| simulator.run(packet)).collect();
        assert_eq!(json(simulate(c, number, &document)), serde_json::to_value(&outcomes).unwrap());
        let objects = serde_json::to_string(&packets).unwrap();
        assert_eq!(json(simulate(c, number, &objects)), serde_json::to_value(&outcomes).unwrap());
        let explanations: Vec<_> = packets.iter().map(|packet| simulator.explain(packet)).collect();
        assert_eq!(json(explain(c, number, &document)), serde_json::to_value(&explanations).unwrap());
        assert_eq!(json(simulate(c, number, &texts[0])), serde_json::to_value(&outcomes[0]).unwrap());
    }
    // SAFETY: given out by `plan`.
    unsafe { kumatp_plan_free(c) };
}

#[test]
fn the_members_are_those_of_the_header() {
    let plan = plan("redirect: {dns: {enabled: true, captureAll: true}}\nlog: {enabled: true}");
    let outcome = json(simulate(plan, KUMATP_ENGINE_NETLINK, "tcp 10.1.2.3:443 midstream"));
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&outcome), ["decidedBy", "log", "trace", "verdict", "zone"]);
    assert_eq!(keys(&outcome["log"][0]), ["level", "prefix"]);
    let decisive = usize::try_from(outcome["decidedBy"].as_u64().unwrap()).unwrap();
    assert_eq!(outcome["trace"][decisive]["table"], "nat");
    let explanation = json(explain(plan, KUMATP_ENGINE_IPTABLES, "udp 10.1.2.3:53"));
    assert_eq!(keys(&explanation), ["packet", "reply", "request", "summary"]);
    assert_eq!(explanation["request"]["verdict"], serde_json::json!({"end": "redirected", "port": 15053}));
    assert_eq!(explanation["request"]["zone"], 2);
    assert_eq!(keys(&explanation["reply"]), ["arrival", "outcome", "packet"]);
    assert_eq!(explanation["reply"]["arrival"], "translatedBack");
    let step = explanation["request"]["trace"].as_array().unwrap().last().unwrap();
    assert_eq!(keys(step), ["chain", "effect", "key", "number", "purpose", "rule", "table"]);
    // SAFETY: given out by `plan`.
    unsafe { kumatp_plan_free(plan) };
}

#[test]
fn plans_are_compared_as_by_rust() {
    let (before, after) = ("redirect: {outbound: {excludePorts: 9000}}", DOCUMENT);
    let (c_before, c_after) = (plan(before), plan(after));
    let (before, after) = (rust_plan(before), rust_plan(after));
    for (number, engine) in ENGINES {
        // SAFETY: plans that are not freed yet.
        let diff = |a, b| json(call(|out, err| unsafe { kumatp_plan_diff(a, b, number, out, err) }));
        let rust = Simulator::of(&before, engine).diff(&Simulator::of(&after, engine));
        let c = diff(c_before, c_after);
        assert_eq!(c, serde_json::to_value(&rust).unwrap());
        assert!(c["added"].as_array().is_some_and(|added| !added.is_empty()) && c["traffic"][0]["before"].is_object());
        assert_eq!(c["added"][0]["family"], "ipv4");
        let same = diff(c_before, c_before);
        for (_, list) in same.as_object().unwrap() {
            assert_eq!(list, &Value::Array(Vec::new()));
        }
    }
    // SAFETY: given out by `plan`.
    unsafe {
        kumatp_plan_free(c_before);
        kumatp_plan_free(c_after);
    }
}

#[test]
fn wrong_packets_are_named() {
    let plan = plan("");
    let document = r#"["tcp 10.1.2.3:443", "tcp 10.1.2.3", {"protocol": "tcp", "destination": "10.0.0.1", "uid": -1}]"#;
    for given in [simulate(plan, KUMATP_ENGINE_NETLINK, document), explain(plan, KUMATP_ENGINE_NETLINK, document)] {
        let (status, message, field) = given.unwrap_err();
        assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some("packets[1]")), "{message}");
        let lines: Vec<_> = message.lines().collect();
        assert_eq!(lines.len(), 2, "{message}");
        assert!(lines[0].starts_with("packets[1]: '10.1.2.3' is not valid: expected an address with a port"));
        assert_eq!(lines[1], "packets[2].uid: '-1' is not valid: expected a uid from 0 to 4294967294");
    }
    let (status, message, field) = simulate(plan, KUMATP_ENGINE_NETLINK, "tcp 10.1.2.3:443 uid root").unwrap_err();
    assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some("packet")));
    assert!(message.starts_with("packet: 'root' is not valid: expected"), "{message}");
    // SAFETY: given out by `plan`.
    unsafe { kumatp_plan_free(plan) };
}

/// A document of packets, most of them nearly right.
fn document(u: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    const TEXTS: [&str; 6] = [
        "tcp 10.1.2.3:443 uid 1000",
        "udp [fd00::1]:53 from [fd00::2]:53 no-socket out eth1 invalid",
        "inbound 47 10.0.0.5 from 10.0.0.6 in eth0 established",
        "forwarded sctp fd00::1 in docker0 out wlan0",
        "tcp 127.0.0.1:1 from 10.0.0.1:65535 uid 0 gid 4294967294 out lo midstream",
        "icmp 255.255.255.255 no-socket",
    ];
    const SPLICES: [&str; 14] =
        ["\"", "{", "}", "[", "]", ",", ":", "0", "-1", "65536", "\\u0000", "null", "uid", "\u{e9}"];
    let mut document = match u.int_in_range(0..=2)? {
        0 => (*u.choose(&TEXTS)?).to_owned(),
        kind => {
            let many = u.int_in_range(0..=5)?;
            let mut packets = Vec::new();
            for _ in 0..many {
                let text = *u.choose(&TEXTS)?;
                packets.push(match u.arbitrary()? {
                    true => serde_json::to_string(text).unwrap(),
                    false => serde_json::to_string(&text.parse::<AnyPacket>().unwrap()).unwrap(),
                });
            }
            match (kind, packets.first()) {
                (1, Some(one)) => one.clone(),
                _ => format!("[{}]", packets.join(", ")),
            }
        }
    };
    for _ in 0..u.int_in_range(0..=3)? {
        let mut at = u.int_in_range(0..=document.len())?;
        while !document.is_char_boundary(at) {
            at -= 1;
        }
        match u.arbitrary()? {
            true => document.insert_str(at, u.choose(&SPLICES)?),
            false => document.truncate(at),
        }
    }
    Ok(document)
}

#[test]
fn random_documents_are_answered_or_refused_with_a_reason() {
    let plan = plan(DOCUMENT);
    let (answered, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    arbtest(|u| {
        let document = document(u)?;
        for (number, _) in ENGINES {
            match simulate(plan, number, &document) {
                Ok(text) => {
                    let outcomes = json(Ok(text));
                    let explanations = json(explain(plan, number, &document));
                    let of = |request: &Value| request["request"].clone();
                    match (&outcomes, &explanations) {
                        (Value::Array(outcomes), Value::Array(explanations)) => {
                            assert_eq!(outcomes, &explanations.iter().map(of).collect::<Vec<_>>(), "{document}");
                        }
                        (one, explanation) => assert_eq!(one, &of(explanation), "{document}"),
                    }
                    answered.set(answered.get() + 1);
                }
                Err(error) => {
                    let (status, message, field) = &error;
                    assert_eq!(*status, KUMATP_E_CONFIG, "{document}: {message}");
                    assert!(field.as_deref().is_some_and(|field| field.starts_with("packet")), "{document}: {message}");
                    assert!(message.contains(" is not valid: expected "), "{document}: {message}");
                    assert_eq!(explain(plan, number, &document).unwrap_err(), error, "{document}");
                    refused.set(refused.get() + 1);
                }
            }
        }
        Ok(())
    })
    .budget_ms(1_000);
    assert!(answered.get() > 10 && refused.get() > 10, "{} answered, {} refused", answered.get(), refused.get());
    // SAFETY: given out by `plan`.
    unsafe { kumatp_plan_free(plan) };
}

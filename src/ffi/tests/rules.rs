//! Packets and differences by rules that are text.

use serde_json::json;

use super::simulate::{DOCUMENT, rust_plan};
use super::*;
use crate::iptables_save::SavedFamilies;
use crate::model::EngineName;
use crate::render::iptables;
use crate::simulate::Simulator;

fn explain(rules: &str, packets: &str) -> Given<kumatp_text> {
    let ((text, text_len), (packets, packets_len)) = (data(rules), data(packets));
    // SAFETY: texts that outlive the call.
    call(|out, err| unsafe { kumatp_save_explain(text, text_len, packets, packets_len, out, err) })
}

fn diff(plan: *const kumatp_plan, rules: &str) -> Given<kumatp_text> {
    let (text, len) = data(rules);
    // SAFETY: `plan` is not freed yet, and the text outlives the call.
    call(|out, err| unsafe { kumatp_save_diff(plan, text, len, out, err) })
}

#[test]
fn packets_through_a_text_end_as_in_rust() {
    let plan = rust_plan(DOCUMENT);
    let text = iptables::plan(&plan);
    let saved = SavedFamilies::parse(&text).unwrap();
    let simulator = Simulator::of_saved(saved.v4.as_ref(), saved.v6.as_ref()).unwrap();
    let packets = Simulator::of(&plan, EngineName::Iptables).edges();
    let document = serde_json::to_string(&packets).unwrap();
    let explanations: Vec<_> = packets.iter().map(|packet| simulator.explain(packet)).collect();
    assert_eq!(json(explain(&text, &document)), serde_json::to_value(&explanations).unwrap());
    let one = json(explain(&text, "inbound tcp [fd00::5]:22"));
    assert_eq!(one["request"]["verdict"], json!({"end": "delivered"}));
}

#[test]
fn what_a_text_does_not_tell_is_undecided() {
    let text = "*nat\n-A OUTPUT -p tcp -m set --match-set allow dst -j RETURN\n-A OUTPUT -p tcp -j REDIRECT --to-ports 1\nCOMMIT\n";
    let answers = json(explain(text, r#"["tcp 10.1.2.3:443", "udp 10.1.2.3:443"]"#));
    assert_eq!(answers[0]["request"]["verdict"]["end"], "undecided");
    assert!(answers[0]["request"]["verdict"]["reason"].as_str().unwrap().contains("--match-set allow dst"));
    assert_eq!(answers[1]["request"]["verdict"]["end"], "delivered");
    let (bytes, len) = data(text);
    // SAFETY: a text that outlives the call.
    let rules = json(call(|out, err| unsafe { kumatp_save_translate(bytes, len, KUMATP_SYNTAX_JSON, out, err) }));
    let rule = &rules["ipv4"]["tables"][0]["rules"][0];
    assert_eq!(rule["parts"]["matches"][1], json!({"match": "unknown", "text": "-m set --match-set allow dst"}));
    assert_eq!((&rule["parts"]["target"], &rule["parts"]["goesOn"]), (&json!("return"), &json!(false)));
    assert!(rule["rule"].is_null() && rule["unknown"].is_string());
}

#[test]
fn texts_and_packets_that_do_not_fit_are_refused() {
    let four = "*nat\nCOMMIT\n";
    let six = "### IPv6 ###\n*nat\nCOMMIT\n";
    for (text, packets, at, words) in [
        (four, "tcp [fd00::1]:443", "packet", "expected a packet of IPv4, or in the text what ip6tables-save prints"),
        (six, r#"["icmpv6 fd00::1", "icmp 10.1.2.3"]"#, "packets[1]", "what iptables-save prints as well"),
        ("", "icmp 10.1.2.3", "packet", "'outbound icmp 10.1.2.3 "),
        (four, "icmp", "packet", "expected"),
        ("hello\n", "icmp 10.1.2.3", "line 1", "'hello'"),
        ("*odd\nCOMMIT\n", "icmp 10.1.2.3", "table", "'odd'"),
        ("*nat\n-I OUTPUT 2 -j DROP\nCOMMIT\n", "icmp 10.1.2.3", "nat OUTPUT", "a place from 1 to 1"),
    ] {
        let (status, message, field) = explain(text, packets).unwrap_err();
        assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some(at)), "{text}: {message}");
        assert!(message.contains(words), "{message}");
    }
    let both = explain(&format!("{four}{six}"), r#"["icmpv6 fd00::1", "icmp 10.1.2.3"]"#);
    assert_eq!(json(both).as_array().map(Vec::len), Some(2));
}

#[test]
fn a_plan_is_compared_with_a_text() {
    let c = plan(DOCUMENT);
    let same = iptables::plan(&rust_plan(DOCUMENT));
    let others = "*filter\n-A OUTPUT -p tcp -j DROP\nCOMMIT\n";
    for text in [same.clone(), same.replace("### IPv6 ###", &format!("{others}### IPv6 ###"))] {
        for (member, list) in json(diff(c, &text)).as_object().unwrap() {
            assert_eq!(list, &json!([]), "{member}");
        }
    }
    let before = rust_plan("redirect: {inbound: {excludePorts: [22, 23]}, outbound: {excludePorts: 9000-9100}}");
    let changed = json(diff(c, &iptables::plan(&before)));
    assert_eq!(changed["removed"].as_array().map(Vec::len), Some(2), "{changed}");
    assert_eq!(changed["removed"][0]["rule"], "-p tcp --dport 23 -j RETURN");
    assert_eq!(changed["traffic"][0]["after"]["verdict"], json!({"end": "redirected", "port": 15006}));
    let all = json(diff(c, ""));
    assert!(all["removed"] == json!([]) && all["added"].as_array().unwrap().len() > 20);
    let (status, _, field) = diff(c, "*nat\n").unwrap_err();
    assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some("the end of the text")));
    // SAFETY: given out by `plan`.
    unsafe { kumatp_plan_free(c) };
}

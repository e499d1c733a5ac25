use super::*;
use crate::config::Config;
use crate::facts::Facts;
use crate::net::Uid;
use crate::policy;

fn plan(change: impl FnOnce(&mut Config)) -> Plan {
    let mut config = Config::default();
    change(&mut config);
    policy::plan(&config, &Facts::capable_host(Uid::SIDECAR)).unwrap()
}

/// What others have in a document, in several ways of writing it.
const FOREIGN: &str = r#"<?xml version='1.0' encoding="UTF-8" ?>
<!-- by hand -->
<direct>
	<chain table="nat"   chain="MINE" ipv='ipv4'></chain> <!-- mine -->
  <rule priority="0" table="filter" ipv="ipv4" chain="INPUT">-p tcp --dport 22 -m comment --comment "about KUMA_MESH_INBOUND" -j ACCEPT</rule>

  <passthrough ipv="ipv4">-t nat -A POSTROUTING -j MASQUERADE &amp;&#38;</passthrough><passthrough ipv="eb">x</passthrough>
 </direct>
<!-- end -->
"#;

#[test]
fn what_is_not_ours_stays_byte_for_byte() {
    let plan = plan(|_| {});
    let merged = merge(FOREIGN, &plan).unwrap();
    let (before, after) = FOREIGN.split_at(FOREIGN.find(" </direct>").unwrap());
    let ours = merged.strip_prefix(before).unwrap().strip_suffix(after).unwrap();
    let whole = crate::render::firewalld::plan(&plan);
    assert_eq!(format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<direct>\n{ours}</direct>\n"), whole);
    assert_eq!(merge(&merged, &plan).unwrap(), merged);
    assert_eq!(remove(&merged).unwrap().unwrap(), FOREIGN);
    assert_eq!(remove(FOREIGN).unwrap(), None);
}

#[test]
fn older_ones_of_ours_are_replaced() {
    let first = merge(FOREIGN, &plan(|config| config.redirect.inbound.exclude_ports = "22".parse().unwrap())).unwrap();
    assert!(first.contains("--dport 22 -j RETURN"));
    let second = merge(&first, &plan(|_| {})).unwrap();
    assert_eq!(second, merge(FOREIGN, &plan(|_| {})).unwrap());
}

#[test]
fn every_shape_of_a_document_is_filled_and_emptied() {
    let plan = plan(|_| {});
    for (text, empty) in [
        ("<direct></direct>", "<direct>\n</direct>"),
        ("<direct/>", "<direct>\n</direct>"),
        ("<direct />\n", "<direct >\n</direct>\n"),
        ("<direct>\n</direct>\n", "<direct>\n</direct>\n"),
        ("<direct>\r\n</direct>\r\n", "<direct>\r\n</direct>\r\n"),
        ("<direct><!-- </direct> --></direct>", "<direct><!-- </direct> -->\n</direct>"),
    ] {
        let merged = merge(text, &plan).unwrap();
        roxmltree::Document::parse(&merged).unwrap();
        assert_eq!(merge(&merged, &plan).unwrap(), merged, "{text}");
        assert_eq!(remove(&merged).unwrap().unwrap(), empty, "{text}");
    }
    for text in ["", " \n"] {
        assert_eq!(merge(text, &plan).unwrap(), crate::render::firewalld::plan(&plan));
        assert_eq!(remove(text).unwrap(), None);
    }
}

#[test]
fn ours_are_found_in_every_spelling() {
    for entry in [
        r#"<chain ipv="ipv4" table="nat" chain="KUMA_MESH_OLD"/>"#,
        r#"<rule ipv="ipv4" table="nat" chain="KUMA_MESH_INBOUND" priority="3">-j RETURN</rule>"#,
        r#"<rule ipv="ipv6" table="nat" chain="OUTPUT" priority="0">-p tcp -j KUMA_MESH_OUTBOUND</rule>"#,
        r#"<rule ipv="ipv4" table="nat" chain="OUTPUT" priority="0">--jump KUMA_MESH_OUTBOUND</rule>"#,
        r#"<rule ipv="ipv4" table="nat" chain="OUTPUT" priority="3">-m comment --comment 'kuma/mesh/transparent/proxy/as firewalld quotes' -j RETURN</rule>"#,
        r#"<rule ipv="ipv4" table="nat" chain="OUTPUT" priority="3">-m comment --comment &quot;kuma/mesh/transparent/proxy/x&quot; -j RETURN</rule>"#,
        r#"<rule ipv="ipv4" table="nat" chain="OUTPUT" priority="3"><![CDATA[-j KUMA_MESH_X]]></rule>"#,
        r#"<passthrough ipv="ipv4">-t nat -N KUMA_MESH_INBOUND</passthrough>"#,
        r#"<passthrough ipv="ipv4">-t nat -I OUTPUT -j KUMA_MESH_OUTBOUND</passthrough>"#,
    ] {
        assert_eq!(
            remove(&format!("<direct>\n{entry}\n</direct>")).unwrap().as_deref(),
            Some("<direct>\n</direct>"),
            "{entry}"
        );
        assert_eq!(
            remove(&format!("<direct>{entry}<!-- x --></direct>")).unwrap().as_deref(),
            Some("<direct><!-- x --></direct>")
        );
    }
    for entry in [
        r#"<chain ipv="ipv4" table="nat" chain="NOT_KUMA_MESH_"/>"#,
        r#"<chain ipv="ipv4" table="nat" chain="KUMA"/>"#,
        r#"<rule ipv="ipv4" table="nat" chain="OUTPUT" priority="0">-m comment --comment "not kuma/mesh/transparent/proxy/" -j RETURN</rule>"#,
        r#"<rule ipv="ipv4" table="nat" chain="OUTPUT" priority="0">-m comment --comment KUMA_MESH_OUTBOUND -j RETURN</rule>"#,
        r#"<rule ipv="ipv4" table="nat" chain="OUTPUT" priority="0">-m comment --comment "-j KUMA_MESH_OUTBOUND" -j RETURN</rule>"#,
        r#"<rule ipv="ipv4" table="nat" chain="OUTPUT" priority="0">-j LOG --log-prefix --comment</rule>"#,
        r#"<rule ipv="ipv4" table="nat" chain="OUTPUT" priority="0">-j "unclosed KUMA_MESH_</rule>"#,
        r#"<!-- <chain ipv="ipv4" table="nat" chain="KUMA_MESH_OLD"/> -->"#,
        r#"<other chain="KUMA_MESH_X"/>"#,
    ] {
        assert_eq!(remove(&format!("<direct>\n{entry}\n</direct>")).unwrap(), None, "{entry}");
    }
}

#[test]
fn a_rule_without_a_comment_is_stored_once() {
    let plan = plan(|config| {
        config.comments.disabled = true;
        config.drop_invalid_packets = true;
    });
    let merged = merge(FOREIGN, &plan).unwrap();
    assert_eq!(merged.matches("INVALID").count(), 2, "one a family");
    let again = merge(&merged, &plan).unwrap();
    assert_eq!(again.matches("INVALID").count(), 2);
    assert_eq!(merge(&again, &plan).unwrap(), again);
}

#[test]
fn documents_that_are_not_firewalld_s_are_refused() {
    for text in [
        "<direct>",
        "<zone/>",
        "not xml",
        "<direct></direct><direct/>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><direct>&b;</direct>",
    ] {
        let error = merge(text, &plan(|_| {})).unwrap_err();
        assert_eq!(error.problems()[0].path, "direct.xml", "{text}");
        assert!(remove(text).is_err());
    }
}

/// The entries as lines.
fn lines(document: &str) -> Vec<String> {
    let xml = roxmltree::Document::parse(document).unwrap();
    let line = |node: roxmltree::Node<'_, '_>| {
        let attributes = ["ipv", "table", "chain", "priority"].into_iter().filter_map(|name| node.attribute(name));
        let parts: Vec<_> = [node.tag_name().name()].into_iter().chain(attributes).chain(node.text()).collect();
        parts.join(" ")
    };
    xml.root_element().children().filter(roxmltree::Node::is_element).map(line).collect()
}

#[test]
fn text_is_translated_in_order_and_unharmed() {
    let text = r#"### IPv4 ###

* nat
-N A
-A A -p tcp --dport 22 -j RETURN
-A A -p tcp --dport 22 -j RETURN
-I OUTPUT 1 -m set --match-set "x" src -j A
-I OUTPUT 2 -m comment --comment "it's <\"&\">" -j A
-I OUTPUT -m u32 --u32 "0>>22&0x3C@0&0xFF=0x08" -j A
-A OUTPUT -m comment --comment "it\'s" -j A
-N A
COMMIT

### IPv6 ###

*mangle
:PREROUTING ACCEPT [0:0]
:B - [0:0]
[1:2] -A PREROUTING -s fd00::/8 -j B
COMMIT
"#;
    assert_eq!(
        lines(&translate(text).unwrap()),
        [
            "chain ipv4 nat A",
            "chain ipv6 mangle B",
            "rule ipv4 nat A 3 -p tcp --dport 22 -j RETURN",
            r#"rule ipv4 nat OUTPUT -2 -m set --match-set "x" src -j A"#,
            r#"rule ipv4 nat OUTPUT -1 -m comment --comment "it's <\"&\">" -j A"#,
            r#"rule ipv4 nat OUTPUT -3 -m u32 --u32 "0>>22&0x3C@0&0xFF=0x08" -j A"#,
            // The backslash is iptables' own; a shell would keep it.
            r#"rule ipv4 nat OUTPUT 3 -m comment --comment "it's" -j A"#,
            "rule ipv6 mangle PREROUTING 3 -s fd00::/8 -j B",
        ]
    );
}

#[test]
fn what_cannot_be_said_is_named() {
    let text = "*odd\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n-I INPUT 3 -j DROP\n-A INPUT\n-A INPUT -m comment --comment \"a\nb\" -j DROP\n-A INPUT -j \u{1}\nCOMMIT\n";
    let error = translate(text).unwrap_err();
    let paths: Vec<_> = error.problems().iter().map(|p| (p.path.as_str(), p.value.as_str())).collect();
    assert_eq!(
        paths,
        [
            ("IPv4 table", "odd"),
            ("IPv4 filter INPUT", "DROP"),
            ("IPv4 filter INPUT", "3"),
            ("IPv4 filter INPUT", ""),
            ("IPv4 filter INPUT", "-m comment --comment \"a\nb\" -j DROP"),
            ("IPv4 filter INPUT", "-j \u{1}"),
        ]
    );
    assert_eq!(translate("*nat\n-F OUTPUT\nCOMMIT\n").unwrap_err().problems()[0].path, "line 2");
    assert_eq!(lines(&translate("").unwrap()), [""; 0]);
}

#[test]
fn a_plan_and_its_text_give_the_same_document() {
    let plan = plan(|config| {
        config.redirect.dns.enabled = true;
        config.redirect.dns.capture_all = true;
        config.log.enabled = true;
        config.redirect.vnet = vec!["docker0:172.17.0.0/16".parse().unwrap()];
    });
    let text = crate::render::iptables::plan(&plan);
    assert_eq!(lines(&translate(&text).unwrap()), lines(&crate::render::firewalld::plan(&plan)));
}

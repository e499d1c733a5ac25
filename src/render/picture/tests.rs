use std::collections::BTreeSet;

use arbtest::arbtest;

use super::graph::{Graph, Kind, NodeId};
use crate::config::{Config, Format};
use crate::facts::Facts;
use crate::model::{Chain, ChainName, Plan, Rule, Ruleset, Table, TableName, Target, Transport};
use crate::net::{Family, Port, Uid, V4};
use crate::{generate, policy};

fn of(config: &str) -> Graph {
    let config = Config::parse(config, Format::Json).unwrap();
    super::plan(&policy::plan(&config, &Facts::capable_host(Uid::SIDECAR)).unwrap())
}

/// The nodes whose text has this part.
fn with(graph: &Graph, part: &str) -> Vec<(NodeId, String)> {
    let nodes = graph.nodes.iter().enumerate().map(|(index, node)| (NodeId(index), node.lines.join(" ")));
    nodes.filter(|(_, text)| text.contains(part)).collect()
}

/// The only node whose text has this part.
fn only(graph: &Graph, part: &str) -> NodeId {
    let found = with(graph, part);
    assert_eq!(found.len(), 1, "{part}: {found:?}");
    found[0].0
}

/// Where an arrow leads.
fn follow(graph: &Graph, from: NodeId, answer: Option<bool>) -> NodeId {
    let mut edges = graph.edges.iter().filter(|edge| edge.from == from && edge.answer == answer);
    let (edge, None) = (edges.next().unwrap(), edges.next()) else { panic!("{from:?} has several {answer:?}") };
    edge.to
}

fn text(graph: &Graph, node: NodeId) -> String {
    graph.nodes[node.0].lines.join(" ")
}

fn reached(graph: &Graph) -> BTreeSet<NodeId> {
    let mut open: Vec<_> =
        (0..graph.nodes.len()).filter(|index| graph.nodes[*index].kind == Kind::Start).map(NodeId).collect();
    let mut reached: BTreeSet<_> = open.iter().copied().collect();
    while let Some(from) = open.pop() {
        open.extend(
            graph.edges.iter().filter(|edge| edge.from == from).map(|edge| edge.to).filter(|to| reached.insert(*to)),
        );
    }
    reached
}

#[test]
fn the_way_of_a_packet_by_default() {
    let graph = of("{}");
    let arrives = only(&graph, "arrives from outside");
    let tcp = follow(&graph, arrives, None);
    assert_eq!(text(&graph, tcp), "decide on inbound connections TCP?");
    assert_eq!(text(&graph, follow(&graph, tcp, Some(false))), "goes on as it is");
    // The chain that is jumped to knows that it gets TCP only.
    let all = follow(&graph, tcp, Some(true));
    assert_eq!(text(&graph, all), "redirect all other inbound connections");
    let chain = follow(&graph, all, None);
    assert_eq!(text(&graph, chain), "KUMA_MESH_INBOUND_REDIRECT");
    assert_eq!(text(&graph, follow(&graph, chain, None)), "inbound listener of the sidecar (port 15006)");

    let own = only(&graph, "let connections of the sidecar leave");
    assert_eq!(text(&graph, own), "let connections of the sidecar leave by user 5678?");
    assert_eq!(text(&graph, follow(&graph, own, Some(true))), "goes on as it is");
    let to_itself = only(&graph, "as inbound");
    assert!(text(&graph, to_itself).ends_with("out by lo; not to 127.0.0.1 or ::1; by user 5678?"), "{graph:?}");
    assert_eq!(follow(&graph, to_itself, Some(true)), chain);
}

#[test]
fn many_exclusions_are_one_question() {
    let graph = of(r#"{"redirect": {"inbound": {"excludePorts": "22,1001-1003,5,6,7,8,9,10"}}}"#);
    let question = only(&graph, "this port");
    assert!(text(&graph, question).ends_with("to port 22, 1001-1003, 5, 6, 7 and 3 more?"), "{graph:?}");
    assert_eq!(graph.nodes[question.0].rules, 16, "eight of either family");

    let graph = of(r#"{"redirect": {"inbound": {"excludePorts": "1,2,3,4,5,6"}}}"#);
    assert!(text(&graph, only(&graph, "this port")).ends_with("to port 1, 2, 3, 4, 5 or 6?"));

    // Not one question: any of these users would be let to any of these ports.
    let graph = of(r#"{"redirect": {"outbound": {"excludePortsForUIDs": ["tcp:1:7", "tcp:1:8", "tcp:2:8"]}}}"#);
    let questions: Vec<_> = with(&graph, "these users").into_iter().map(|(_, text)| text).collect();
    assert_eq!(questions.len(), 2);
    assert!(questions[0].ends_with("to port 1; by user 7 or 8?") && questions[1].ends_with("to port 2; by user 8?"));
}

#[test]
fn families_share_a_picture() {
    let graph =
        of(r#"{"redirect": {"inbound": {"excludePortsForIPs": ["192.0.2.1", "2001:db8::/32", "198.51.100.0/24"]},
        "outbound": {"excludePortsForIPs": ["192.0.2.1"]}, "vnet": {"networks": ["a:10.0.0.0/8", "b:fd00::/8"]}}}"#);
    assert!(text(&graph, only(&graph, "this source")).ends_with("from 192.0.2.1, 198.51.100.0/24 or 2001:db8::/32?"));
    // Its address says already that it is not for IPv6.
    assert!(text(&graph, only(&graph, "this destination")).ends_with("sidecar to 192.0.2.1?"));
    let networks: Vec<_> = with(&graph, "outbound ones").into_iter().map(|(_, text)| text).collect();
    assert!(networks[0].ends_with("IPv4; TCP; not to 10.0.0.0/8; in by a?"), "{networks:?}");
    assert!(networks[1].ends_with("IPv6; TCP; not to fd00::/8; in by b?"), "{networks:?}");
    assert_eq!(with(&graph, "IPv4 and IPv6").len(), 2);

    let graph = of(r#"{"ipFamilyMode": "ipv4"}"#);
    assert_eq!((with(&graph, "(IPv4)").len(), with(&graph, "IPv6").len()), (2, 0));
}

#[test]
fn without_comments_the_conditions_speak() {
    let graph = of(r#"{"comments": {"disabled": true}, "log": {"enabled": true}, "dropInvalidPackets": true}"#);
    let drop = only(&graph, "invalid to connection tracking?");
    assert_eq!(graph.nodes[follow(&graph, drop, Some(true)).0].kind, Kind::Dropped);
    let log = only(&graph, "log as OUTPUT: at level 7");
    assert_eq!(text(&graph, follow(&graph, log, None)), "TCP?");
    assert_eq!(with(&graph, "everything else").len(), 2);
}

fn chain(name: &str, rules: impl IntoIterator<Item = Rule<V4>>) -> Chain<V4> {
    let mut chain = Chain::new(name.parse().unwrap());
    rules.into_iter().for_each(|rule| chain.push(rule));
    chain
}

fn jump(to: &str) -> Target {
    Target::jump(&to.parse::<ChainName>().unwrap())
}

#[test]
fn returns_lead_behind_the_jump() {
    let table = Table::new(
        TableName::Nat,
        [
            chain(
                "OUTPUT",
                [Rule::new(jump("a")).with(Transport::tcp()), Rule::new(jump("b")), Rule::new(Target::Drop)],
            ),
            chain("a", [Rule::new(jump("foreign")).with(Transport::tcp().to_port(Port::DNS))]),
            chain("b", [Rule::new(jump("c")).with(Transport::udp()), Rule::new(jump("c"))]),
            chain("c", [Rule::new(Target::Accept).with(Transport::udp()), Rule::new(Target::Return)]),
            chain("unused", [Rule::new(Target::redirect(Port::DNS)).with(Transport::udp())]),
        ],
    );
    let graph = super::ruleset(&Ruleset::new([table]));
    // Whoever jumps from one place is come back to; from several, it depends.
    let to_b = follow(&graph, only(&graph, "foreign"), None);
    assert_eq!(text(&graph, to_b), "everything else");
    assert_eq!(follow(&graph, only(&graph, "to port 53?"), Some(false)), to_b);
    let back = with(&graph, "back to the rule behind the jump");
    assert_eq!(back.len(), 2, "of c, and of the chain that nobody jumps to");
    assert!(back.iter().all(|(back, _)| graph.edges.iter().any(|edge| edge.to == *back)));
    let accepted = with(&graph, "UDP?").into_iter().map(|(node, _)| follow(&graph, node, Some(true)));
    assert!(accepted.clone().any(|node| graph.nodes[node.0].kind == Kind::Passes));
    // No rule leads to it, and it is there all the same.
    assert!(accepted.clone().any(|node| text(&graph, node) == "port 53 of this host"));
    assert_eq!(graph.nodes.iter().map(|node| node.rules).sum::<usize>(), 9);
}

#[test]
fn jumps_in_a_circle_have_an_end() {
    let table = Table::new(
        TableName::Filter,
        [
            chain("INPUT", [Rule::new(jump("a")), Rule::new(jump("a")).with(Transport::tcp())]),
            chain("a", [Rule::new(jump("b")).with(Transport::udp())]),
            chain("b", [Rule::new(jump("a")).with(Transport::udp())]),
        ],
    );
    let graph = super::ruleset(&Ruleset::new([table]));
    assert!(text(&graph, only(&graph, "for this host")).ends_with("(IPv4)"));
}

/// The chains that packets can come to, by the rules of one family.
fn used<F: Family>(ruleset: &Ruleset<F>) -> BTreeSet<(TableName, ChainName)> {
    let mut used = BTreeSet::new();
    let mut grown = true;
    while grown {
        let known = used.len();
        for (table, chain, rule) in ruleset.rules() {
            if chain.builtin().is_some() || used.contains(&(table, chain.clone())) {
                used.insert((table, chain.clone()));
                if let Target::Jump { chain: to } = &rule.target {
                    used.insert((table, to.clone()));
                }
            }
        }
        grown = used.len() > known;
    }
    used
}

/// What must be true of any picture.
fn check(graph: &Graph) {
    for (index, node) in graph.nodes.iter().enumerate() {
        let answers: Vec<_> =
            graph.edges.iter().filter(|edge| edge.from == NodeId(index)).map(|edge| edge.answer).collect();
        let expected: &[Option<bool>] = match node.kind {
            Kind::Decision => &[Some(true), Some(false)],
            Kind::Start => &[None],
            // One that leads back may lead anywhere.
            Kind::Step if node.rules == 0 && answers.is_empty() => &[],
            Kind::Step => &[None],
            Kind::Passes | Kind::Redirected | Kind::Dropped => &[],
        };
        assert_eq!(answers, expected, "{node:?}");
        assert!(!node.lines.is_empty() && node.lines.iter().all(|line| !line.is_empty()), "{node:?}");
        if node.kind == Kind::Decision {
            assert!(text(graph, NodeId(index)).ends_with('?'), "{node:?}");
        }
    }
}

#[test]
fn every_rule_is_in_the_picture_of_any_plan() {
    arbtest(|u| {
        let config = generate::config(u)?;
        let plan = policy::plan(&config, &generate::facts(u)?).unwrap();
        let Plan { v4, v6, .. } = &plan;
        let graph = super::plan(&plan);
        check(&graph);
        let rules = v4.rules().count() + v6.as_ref().map_or(0, |v6| v6.rules().count());
        assert_eq!(graph.nodes.iter().map(|node| node.rules).sum::<usize>(), rules);

        // Packets come to the chains that they come to.
        let mut chains = used(v4);
        chains.extend(v6.iter().flat_map(used));
        let reached = reached(&graph);
        for (table, chain) in chains {
            let rules = v4.rules().any(|(_, name, _)| *name == chain)
                || v6.as_ref().is_some_and(|v6| v6.rules().any(|(_, name, _)| *name == chain));
            let title = format!("{table} {chain}");
            let found = reached.iter().any(|node| {
                let node = &graph.nodes[node.0];
                node.group.map(|group| &graph.groups[group.0].title) == Some(&title) || node.lines[0] == chain.as_str()
            });
            assert!(found || !rules, "{title}: {graph:?}");
        }

        let one = super::ruleset(v4);
        check(&one);
        assert_eq!(one.nodes.iter().map(|node| node.rules).sum::<usize>(), v4.rules().count());
        Ok(())
    })
    .budget_ms(400);
}

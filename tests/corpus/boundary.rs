//! All packets from the edges of the rules of each configuration, and what is said of them.

use std::path::Path;

use kumatp::config::{Config, Format};
use kumatp::model::EngineName;
use kumatp::simulate::{Explanation, Simulator};
use kumatp::{Facts, policy};

use crate::HERE;
use crate::answers::{Answer, Digest};
use crate::questions::{configurations, facts_of};

/// For each configuration and engine: which packets there are, what is decided of them, and the whole documents.
pub(crate) fn ask() -> Vec<Answer> {
    configurations().iter().map(|name| Answer { question: name.clone(), text: of_configuration(name) }).collect()
}

fn of_configuration(name: &str) -> String {
    let text = std::fs::read_to_string(Path::new(HERE).join(format!("configurations/{name}.yaml"))).unwrap();
    let config = Config::parse(&text, Format::Yaml).unwrap();
    let facts: Facts = serde_json::from_str(&std::fs::read_to_string(facts_of(&text)).unwrap()).unwrap();
    let plan = match policy::plan(&config, &facts) {
        Ok(plan) => plan,
        Err(error) => return format!("{error}\n"),
    };
    let engines = [EngineName::Netlink, EngineName::Iptables, EngineName::Ebpf];
    engines.map(|engine| format!("{engine}: {}\n", of_rules(&Simulator::of(&plan, engine)))).concat()
}

fn of_rules(rules: &Simulator<'_>) -> String {
    let (mut packets, mut decisions, mut documents) = (Digest::new(), Digest::new(), Digest::new());
    let edges = rules.edges();
    for packet in &edges {
        let explanation = rules.explain(packet);
        packets.add(&format!("{packet}\n"));
        decisions.add(&decided(&explanation));
        documents.add(&serde_json::to_string(&explanation).unwrap());
    }
    format!("{} packets {packets}, decisions {decisions}, documents {documents}", edges.len())
}

/// What is decided, without a sentence that explains it.
fn decided(explanation: &Explanation<'_>) -> String {
    let request = &explanation.request;
    let rule = request
        .deciding()
        .map(|step| (step.table(), step.chain(), step.number(), step.key().map(|key| key.to_string())));
    let mut text = format!("{} {} {} {rule:?}\n", request.verdict, request.zone, request.log.len());
    if let Some(reply) = &explanation.reply {
        let arrival = serde_json::to_value(&reply.arrival).unwrap();
        text.push_str(&format!("{} {}\n", reply.outcome.verdict, arrival["arrival"]));
    }
    text
}

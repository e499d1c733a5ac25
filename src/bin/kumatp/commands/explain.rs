//! The outcome of a packet.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::ArgMatches;
use kumatp::net::Port;
use kumatp::simulate::{Explanation, Verdict};

use super::{print, print_json};
use crate::source::RulesSource;
use crate::{Failure, packet};

/// The exit status where the rules have a part that is not known, and the answer depends on it.
const UNDECIDED: u8 = 6;

pub(crate) fn explain(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let packet = packet::read(matches)?;
    let expected = matches.get_one::<String>("expect").map(|text| verdict(text)).transpose()?;
    let source = RulesSource::of(matches, &packet)?;
    let mut explanation = source.simulator()?.explain(&packet);
    if let Some(who) = explanation.request.key().and_then(|key| source.asked_by(key)) {
        explanation = explanation.asked_by(who);
    }
    let found = &explanation.request.verdict;
    let unexpected = expected.as_ref().filter(|expected| *expected != found);
    match matches.get_flag("json") {
        true => print_json(&explanation)?,
        false => print(&describe(&explanation, matches.get_flag("trace") || unexpected.is_some()))?,
    }
    let reply = explanation.reply.as_ref().map(|reply| &reply.outcome.verdict);
    if [Some(found), reply].into_iter().flatten().any(|verdict| matches!(verdict, Verdict::Undecided { .. })) {
        return Ok(ExitCode::from(UNDECIDED));
    }
    match unexpected {
        None => Ok(ExitCode::SUCCESS),
        Some(expected) => Err(Failure::Other(format!("--expect: the packet is {found}, and not {expected}"))),
    }
}

/// The verdict that `--expect` names.
fn verdict(text: &str) -> Result<Verdict, Failure> {
    let port = |text: &str| text.strip_prefix("redirected:").and_then(|port| port.parse::<Port>().ok());
    match text {
        "delivered" => Ok(Verdict::Delivered),
        "dropped" => Ok(Verdict::Dropped),
        "established" => Ok(Verdict::Established),
        _ => port(text).map(|port| Verdict::Redirected { port }).ok_or_else(|| {
            Failure::Usage(format!(
                "--expect: '{text}' is not valid: expected delivered, redirected:PORT such as redirected:15001, dropped \
                 or established"
            ))
        }),
    }
}

/// A paragraph, and the rule that decides or all that match.
fn describe(explanation: &Explanation<'_>, whole: bool) -> String {
    let mut text = format!("{explanation}\n");
    // Writing to a text cannot fail.
    if !whole {
        let decides = explanation.request.deciding();
        if let Some((step, number, rule)) = decides.and_then(|step| Some((step, step.number()?, step.rule()?))) {
            // What it is for has been said.
            let _ = writeln!(text, "\n> {} {} {number}: {rule}", step.table(), step.chain());
        }
        return text;
    }
    let _ = writeln!(text, "\nrequest: {}\n{}", explanation.packet, explanation.request);
    if let Some(reply) = &explanation.reply {
        let _ = writeln!(text, "\nanswer: {}\n{}", reply.packet, reply.outcome);
    }
    text
}

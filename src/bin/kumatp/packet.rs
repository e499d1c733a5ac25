//! The packet that is asked about: words, and flags that say the same.

use clap::{Arg, ArgAction, ArgMatches, Command};
use kumatp::simulate::AnyPacket;

use crate::{Failure, input};

/// A flag, and the word of a packet's text that it stands for.
struct Flag {
    name: &'static str,
    word: &'static str,
    value: &'static str,
    help: &'static str,
}

const FLAGS: &[Flag] = &[
    Flag { name: "uid", word: "uid", value: "N", help: "The user whose process sends it [default: 1000]" },
    Flag { name: "gid", word: "gid", value: "N", help: "The group of that process [default: the number of the user]" },
    Flag {
        name: "from",
        word: "from",
        value: "ADDRESS[:PORT]",
        help: "The source address, or address and port [default: a documentation address, port 49152]",
    },
    Flag {
        name: "in-interface",
        word: "in",
        value: "NAME",
        help: "The input interface; required for forwarded packets [default: eth0]",
    },
    Flag {
        name: "out-interface",
        word: "out",
        value: "NAME",
        help: "The output interface [default: lo for loopback addresses, otherwise eth0]",
    },
];

/// The flag for what the kernel sends by itself, also as a word.
const NO_SOCKET: &str = "no-socket";
const TRACKING: &str = "tracking";
/// What connection tracking may know of a packet.
const STATES: [&str; 7] = ["new", "midstream", "lost", "lostanswer", "reused", "established", "invalid"];
const HEADING: &str = "The packet";

/// Adds the words and flags that make a packet.
pub(crate) fn define(command: Command) -> Command {
    let valued = |flag: &Flag| Arg::new(flag.name).long(flag.name).value_name(flag.value).help(flag.help);
    command
        .arg(
            Arg::new("words")
                .value_name("PACKET")
                .num_args(0..)
                .help_heading(HEADING)
                .help(
                    "[outbound|inbound|forwarded] PROTOCOL ADDRESS:PORT, optionally followed by words in place of the flags: \
                     from ADDRESS[:PORT], uid N, gid N, no-socket, in NAME, out NAME, new, midstream, lost, \
                     lostanswer, reused, established, invalid",
                ),
        )
        .args(FLAGS.iter().map(|flag| valued(flag).allow_hyphen_values(true).help_heading(HEADING)))
        .arg(
            Arg::new(NO_SOCKET)
                .long(NO_SOCKET)
                .action(ArgAction::SetTrue)
                .help("Sent by the kernel, not by a process (for example a TCP reset)")
                .help_heading(HEADING),
        )
        .arg(
            Arg::new(TRACKING)
                .long(TRACKING)
                .value_name("STATE")
                .value_parser(STATES)
                .help(
                    "The connection tracking state: midstream begins in the middle of a connection, lost and lostanswer (a request, \
                     a reply) no longer have an entry, reused has an older entry without translation [default: new]",
                )
                .help_heading(HEADING),
        )
}

/// The packet that the words and flags make.
pub(crate) fn read(matches: &ArgMatches) -> Result<AnyPacket, Failure> {
    let text: Vec<&str> = input::words(matches).collect();
    let mut text = text.join(" ");
    if text.trim().is_empty() {
        return Err(Failure::Usage(
            "give a packet: its protocol and destination, such as tcp 10.1.2.3:443, with 'inbound' or 'forwarded' before \
             them if no process of this host sends it"
                .into(),
        ));
    }
    let said = attributes(&text);
    let mut given: Vec<(&str, &str)> = Vec::new();
    for flag in FLAGS {
        let Some(value) = matches.get_one::<String>(flag.name) else { continue };
        conflict(flag.name, value, &said, |word| word == flag.word)?;
        if value.split_whitespace().ne([value.as_str()]) {
            return Err(Failure::Usage(format!("--{}: '{value}' is not valid: expected one word", flag.name)));
        }
        given.push((flag.name, value));
    }
    let mut added: Vec<&str> = Vec::new();
    for (name, value) in &given {
        added.extend(FLAGS.iter().filter(|flag| flag.name == *name).map(|flag| flag.word));
        added.push(value);
    }
    if matches.get_flag(NO_SOCKET) {
        conflict(NO_SOCKET, "", &said, |word| word == NO_SOCKET)?;
        added.push(NO_SOCKET);
    }
    if let Some(state) = matches.get_one::<String>(TRACKING) {
        conflict(TRACKING, state, &said, |word| STATES.contains(&word))?;
        given.push((TRACKING, state));
        added.push(state);
    }
    for word in added {
        text.push(' ');
        text.push_str(word);
    }
    text.parse().map_err(|error: kumatp::error::InvalidValue| {
        // The flag that the value was given by, or the port of it.
        let wrong = |value: &str| value == error.value() || value.ends_with(&format!(":{}", error.value()));
        let flag = given.iter().find(|(_, value)| wrong(value));
        let place = flag.map_or("packet".to_owned(), |(name, _)| format!("--{name}"));
        Failure::Usage(error.at(place).to_string())
    })
}

/// Refuses a flag that says what a word has said.
fn conflict(
    flag: &str,
    value: &str,
    said: &[(&str, Option<&str>)],
    same: impl Fn(&str) -> bool,
) -> Result<(), Failure> {
    let Some((word, after)) = said.iter().find(|(word, _)| same(word)) else { return Ok(()) };
    let flag = format!("--{flag} {value}");
    let word = after.map_or((*word).to_owned(), |after| format!("{word} {after}"));
    Err(Failure::Usage(format!("{} and '{word}' say the same of the packet: leave one of them out", flag.trim_end())))
}

/// The words behind the destination, each with its value if it has one.
fn attributes(text: &str) -> Vec<(&str, Option<&str>)> {
    let mut words = text.split_whitespace().peekable();
    words.next_if(|word| matches!(*word, "outbound" | "inbound" | "forwarded"));
    let mut words = words.skip(2);
    let mut said = Vec::new();
    while let Some(word) = words.next() {
        let value = FLAGS.iter().any(|flag| flag.word == word).then(|| words.next()).flatten();
        said.push((word, value));
    }
    said
}

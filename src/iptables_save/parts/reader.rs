//! From words to parts.

use std::borrow::Cow;

use super::groups::{Group, Kind, groups, items, own_options};
use super::{CtStates, PartialMatch, PartialTarget, Parts, protocols};
use crate::iptables_save::spec;
use crate::iptables_save::tokens::{Token, tokens};
use crate::model::{CtState, Match, PortMatch, Transport};
use crate::net::{Family, Protocol};

pub(super) struct Reader<'t, 'a, F: Family> {
    spec: &'t str,
    words: &'t [Token<'a>],
    /// The protocol that the rule is for, if it is one of the two.
    protocol: Option<Protocol>,
    matches: Vec<PartialMatch<F>>,
    ports: Vec<Transport>,
    target: Option<PartialTarget>,
}

impl<F: Family> Reader<'_, '_, F> {
    /// The parts of a rule. `None` if not even those can be told.
    pub(super) fn read(spec: &str) -> Option<Parts<F>> {
        let words = tokens(spec).ok()?;
        let groups = groups(&words)?;
        let protocol = groups.iter().find(|group| group.kind == Kind::Base("-p")).and_then(of_rule);
        let reader = Reader { spec, words: &words, protocol, matches: Vec::new(), ports: Vec::new(), target: None };
        reader.run(&groups)
    }
}

/// The protocol of a rule that is for TCP or UDP only.
fn of_rule(group: &Group<'_, '_>) -> Option<Protocol> {
    match protocol(group.words)? {
        (6, false) => Some(Protocol::Tcp),
        (17, false) => Some(Protocol::Udp),
        _ => None,
    }
}

/// The number, and whether it must be another.
fn protocol(words: &[Token<'_>]) -> Option<(u8, bool)> {
    let (text, negated) = value(words)?;
    Some((protocols::number(text)?, negated))
}

/// The value of an option with one value, and whether it is negated, in the new way or the old one.
fn value<'t>(words: &'t [Token<'_>]) -> Option<(&'t str, bool)> {
    match words {
        [not, _, value] if not.is("!") => Some((value.text.as_ref(), true)),
        [_, not, value] if not.is("!") => Some((value.text.as_ref(), true)),
        [_, value] => Some((value.text.as_ref(), false)),
        _ => None,
    }
}

impl<'t, 'a, F: Family> Reader<'t, 'a, F> {
    fn run(mut self, groups: &[Group<'t, 'a>]) -> Option<Parts<F>> {
        let mut seen = Vec::new();
        for group in groups {
            match group.kind {
                Kind::Base(option) => {
                    // iptables takes each once.
                    if seen.contains(&option) {
                        return None;
                    }
                    seen.push(option);
                    match option {
                        "-p" => self.protocol(group.words),
                        _ => self.known_or_not(group.words),
                    }
                }
                Kind::Module(name) => self.module(name, group.words),
                Kind::Loose => self.port(&[], group.words),
                Kind::Other => self.unknown(group.words),
                Kind::Target { goto, name } => {
                    let target = self.target_of(goto, name, group.words);
                    if self.target.replace(target).is_some() {
                        return None;
                    }
                }
            }
        }
        self.place_ports();
        Some(Parts { matches: self.matches, target: self.target.unwrap_or(PartialTarget::None) })
    }

    fn protocol(&mut self, words: &'t [Token<'a>]) {
        match (self.protocol, protocol(words)) {
            (Some(protocol), _) => self.known(Transport::new(protocol).into()),
            (None, Some((0, false))) => {}
            (None, Some((number @ 1.., negated))) => self.matches.push(PartialMatch::Protocol { number, negated }),
            (None, _) => self.unknown(words),
        }
    }

    fn module(&mut self, name: &str, words: &'t [Token<'a>]) {
        let (head, options) = words.split_at(2);
        match name {
            "tcp" | "udp" if self.protocol.is_none_or(|protocol| protocol.to_string() != name) => self.unknown(words),
            "tcp" | "udp" => {
                for item in items(name, options) {
                    self.port(head, item);
                }
            }
            "multiport" if options.is_empty() => self.unknown(words),
            "multiport" => self.port(&[], words),
            // It changes what the option for the group means, wherever it stands.
            "owner" if self.words.iter().any(|word| word.text.starts_with("--su")) => self.unknown(words),
            "owner" | "comment" | "addrtype" => self.known_or_not(words),
            "conntrack" | "state" => self.states(name, words),
            _ => self.unknown(words),
        }
    }

    /// A condition on a port, whose meaning depends on the protocol of the rule.
    fn port(&mut self, module: &[Token<'a>], words: &'t [Token<'a>]) {
        let protocol = self.protocol.map(|protocol| match protocol {
            Protocol::Tcp => [word("-p"), word("tcp")],
            Protocol::Udp => [word("-p"), word("udp")],
        });
        let whole: Vec<_> = protocol.iter().flatten().chain(module).chain(words).cloned().collect();
        match spec::conditions::<F>(&whole).as_deref() {
            Ok([Match::Transport(transport)]) => self.ports.push(transport.clone()),
            _ => self.unknown(words),
        }
    }

    /// Connection-tracking states, apart from the module's other options: with all of them, the state comes first
    /// (linux net/netfilter/xt_conntrack.c, `conntrack_mt`).
    fn states(&mut self, module: &str, words: &'t [Token<'a>]) {
        let (head, options) = words.split_at(2);
        let own = own_options(module).unwrap_or_default();
        let is_state = |item: &&[Token<'_>]| item.iter().any(|word| own.iter().any(|option| word.is(option)));
        let (states, others): (Vec<_>, Vec<_>) = items(module, options).into_iter().partition(is_state);
        let found = match states[..] {
            [only] => value(only).and_then(|(text, negated)| Some((parse_states(text)?, negated))),
            _ => None,
        };
        match found {
            None => return self.unknown(words),
            Some((CtStates::INVALID, negated)) => self.known(Match::CtState { state: CtState::Invalid, negated }),
            Some((CtStates::DNAT, false)) => self.known(Match::Translated),
            Some((states, negated)) => self.matches.push(PartialMatch::CtState { states, negated }),
        }
        if !others.is_empty() {
            self.unknown_texts(std::iter::once(head).chain(others));
        }
    }

    fn target_of(&self, goto: bool, name: &str, words: &'t [Token<'a>]) -> PartialTarget {
        let options = &words[2..];
        match spec::target::<F>(words) {
            Ok(target) if !goto => PartialTarget::Known(target),
            _ if !options.is_empty() || (!goto && spec::is_target(name)) => {
                PartialTarget::Unknown { name: name.to_owned(), text: self.text(options).to_owned() }
            }
            _ if goto => PartialTarget::Goto { chain: name.to_owned() },
            _ => PartialTarget::Jump { chain: name.to_owned() },
        }
    }

    fn known(&mut self, condition: Match<F>) {
        self.matches.push(PartialMatch::Known(condition));
    }

    fn known_or_not(&mut self, words: &'t [Token<'a>]) {
        match spec::conditions(words) {
            Ok(conditions) => self.matches.extend(conditions.into_iter().map(PartialMatch::Known)),
            Err(_) => self.unknown(words),
        }
    }

    fn unknown(&mut self, words: &'t [Token<'a>]) {
        self.unknown_texts([words]);
    }

    fn unknown_texts(&mut self, parts: impl IntoIterator<Item = &'t [Token<'a>]>) {
        let texts: Vec<_> = parts.into_iter().map(|words| self.text(words)).collect();
        self.matches.push(PartialMatch::Unknown { text: texts.join(" ") });
    }

    /// Words as they are written.
    fn text(&self, words: &[Token<'_>]) -> &'t str {
        match (words.first(), words.last()) {
            (Some(first), Some(last)) => &self.spec[first.range.start..last.range.end],
            _ => "",
        }
    }

    /// Puts the conditions on ports beside that on the protocol, as the model has them.
    fn place_ports(&mut self) {
        for ports in std::mem::take(&mut self.ports) {
            let free = |mine: &Option<PortMatch>, new: &Option<PortMatch>| mine.is_none() || new.is_none();
            let place = self.matches.iter_mut().find_map(|part| match part {
                PartialMatch::Known(Match::Transport(transport)) => Some(transport),
                _ => None,
            });
            match place {
                Some(place) if free(&place.source, &ports.source) && free(&place.destination, &ports.destination) => {
                    place.source = place.source.take().or(ports.source);
                    place.destination = place.destination.take().or(ports.destination);
                }
                _ => self.known(ports.into()),
            }
        }
    }
}

fn word(text: &'static str) -> Token<'static> {
    Token { text: Cow::Borrowed(text), range: 0..0, quoted: false }
}

fn parse_states(text: &str) -> Option<CtStates> {
    text.split(',').map(|name| CtStates::from_name(&name.to_ascii_uppercase())).collect()
}

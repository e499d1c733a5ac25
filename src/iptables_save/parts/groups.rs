//! Which words of a rule stand together: an option with its values, a match module or a target with its options.

use super::super::TEXT;
use super::super::tokens::Token;

/// Some words of a rule, and what they are.
#[derive(Debug)]
pub(super) struct Group<'t, 'a> {
    pub(super) kind: Kind<'t>,
    pub(super) words: &'t [Token<'a>],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'t> {
    /// A condition on addresses, interfaces or the protocol, by its short name.
    Base(&'static str),
    /// A match module with its options.
    Module(&'t str),
    /// An option that is known, of a module that was not named just before it.
    Loose,
    /// Any other option, with what may be its values.
    Other,
    /// A target with its options.
    Target { goto: bool, name: &'t str },
}

/// The words of a rule in groups. `None` if there is a word where only an option can be.
pub(super) fn groups<'t, 'a>(words: &'t [Token<'a>]) -> Option<Vec<Group<'t, 'a>>> {
    let mut groups = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let (option, negated) = option_at(words, at)?;
        let name = words[option].text.as_ref();
        let value = words.get(option + 1).map(|word| word.text.as_ref());
        let (kind, end) = if let Some(base) = base(name) {
            (Kind::Base(base), after_value(words, option)?)
        } else if is_module(name) {
            let module = value.filter(|_| !negated)?;
            let own = own_options(module);
            let end = match own {
                Some(own) => end_of_known(words, option + 2, own),
                None => end_of_unknown(words, option + 2),
            };
            (Kind::Module(module), end)
        } else if let Some(goto) = jump(name) {
            let target = value.filter(|_| !negated)?;
            (Kind::Target { goto, name: target }, end_of_unknown(words, option + 2))
        } else if is_known(name) {
            (Kind::Loose, after_value(words, option)?)
        } else {
            (Kind::Other, end_of_unknown(words, at))
        };
        groups.push(Group { kind, words: &words[at..end] });
        at = end;
    }
    Some(groups)
}

/// The options of a module that is known, each with its values. Words that belong to none are one by themselves.
pub(super) fn items<'t, 'a>(module: &str, mut words: &'t [Token<'a>]) -> Vec<&'t [Token<'a>]> {
    let own = own_options(module).unwrap_or_default();
    let mut items = Vec::new();
    while !words.is_empty() {
        let (item, rest) = words.split_at(end_of_item(words, 0, own).clamp(1, words.len()));
        items.push(item);
        words = rest;
    }
    items
}

/// The options of a known module that are known. Each has one value.
pub(super) fn own_options(module: &str) -> Option<&'static [&'static str]> {
    Some(match module {
        "tcp" | "udp" => &["--sport", "--source-port", "--dport", "--destination-port"],
        "multiport" => &[
            "--sports",
            "--source-ports",
            "--dports",
            "--destination-ports",
            "--sport",
            "--source-port",
            "--dport",
            "--destination-port",
        ],
        "owner" => &["--uid-owner", "--gid-owner"],
        "conntrack" => &["--ctstate"],
        "state" => &["--state"],
        "comment" => &["--comment"],
        "addrtype" => &["--src-type", "--dst-type"],
        _ => return None,
    })
}

/// Whether it is an option of a known module. No other module and no target has one of the same name that is valid
/// with the protocols tcp and udp.
fn is_known(option: &str) -> bool {
    ["multiport", "owner", "conntrack", "comment"]
        .iter()
        .filter_map(|m| own_options(m))
        .any(|own| own.contains(&option))
}

/// The short name of an option that needs no module.
fn base(option: &str) -> Option<&'static str> {
    Some(match option {
        "-s" | "--source" | "--src" => "-s",
        "-d" | "--destination" | "--dst" => "-d",
        "-i" | "--in-interface" => "-i",
        "-o" | "--out-interface" => "-o",
        "-p" | "--protocol" | "--proto" => "-p",
        _ => return None,
    })
}

fn is_module(option: &str) -> bool {
    matches!(option, "-m" | "--match")
}

/// Whether it names a chain to go to; `None` if it names no target.
fn jump(option: &str) -> Option<bool> {
    match option {
        "-j" | "--jump" => Some(false),
        "-g" | "--goto" => Some(true),
        _ => None,
    }
}

/// The place of the option that begins here, and whether it is negated.
fn option_at(words: &[Token<'_>], at: usize) -> Option<(usize, bool)> {
    let negated = words[at].is("!");
    let option = at + usize::from(negated);
    words.get(option).is_some_and(is_option).then_some((option, negated))
}

/// Whether a word looks like an option. A negative number does not.
fn is_option(word: &Token<'_>) -> bool {
    let name = word.text.strip_prefix('-');
    !word.quoted && name.is_some_and(|name| name.starts_with(|c: char| c == '-' || c.is_ascii_alphabetic()))
}

/// Behind the one value of an option, which may be negated in the old way.
fn after_value(words: &[Token<'_>], option: usize) -> Option<usize> {
    let value = option + 1 + usize::from(words.get(option + 1)?.is("!"));
    words.get(value).map(|_| value + 1)
}

/// Where the options of a known module end.
fn end_of_known(words: &[Token<'_>], mut at: usize, own: &[&str]) -> usize {
    while at < words.len() {
        if let Some((option, _)) = option_at(words, at) {
            let name = words[option].text.as_ref();
            let next = base(name).is_some() || is_module(name) || jump(name).is_some() || is_known(name);
            if next && !own.contains(&name) {
                break;
            }
        }
        at = end_of_item(words, at, own);
    }
    at.min(words.len())
}

/// Where an option of a known module, with its values, ends.
fn end_of_item(words: &[Token<'_>], at: usize, own: &[&str]) -> usize {
    let Some((option, _)) = option_at(words, at) else { return at + 1 };
    if own.contains(&words[option].text.as_ref()) {
        return after_value(words, option).unwrap_or(words.len());
    }
    let values = words[option + 1..].iter();
    let mut end = option + 1 + values.take_while(|word| !is_option(word)).count();
    // A negation belongs to the option behind it.
    if end < words.len() && end > option + 1 && words[end - 1].is("!") {
        end -= 1;
    }
    end
}

/// Where options end of which it is not known how many values they have.
///
/// An option that is known ends them, unless it stands right behind an unknown one, whose value it could be: then it
/// is taken for a part of what is not known, which is right in either case. Long names of what needs no module can be
/// those of a module as well (`--proto` of the module policy), so they end nothing.
fn end_of_unknown(words: &[Token<'_>], from: usize) -> usize {
    let mut at = from;
    while at < words.len() {
        let Some((option, _)) = option_at(words, at) else {
            at += 1;
            continue;
        };
        let name = words[option].text.as_ref();
        if is_module(name) || jump(name).is_some() {
            break;
        }
        let may_be_value = at > from && is_option(&words[at - 1]) && !NO_VALUE.contains(&words[at - 1].text.as_ref());
        if !may_be_value && (base(name) == Some(name) || is_known(name)) {
            break;
        }
        at = option + if TEXT.contains(&name) { 2 } else { 1 };
    }
    at.min(words.len())
}

/// Options that have no value, and often stand before others.
const NO_VALUE: [&str; 3] = ["--syn", "-f", "--fragment"];

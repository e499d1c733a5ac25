//! How each kind of value is read from documents, variables and flags, and written.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use super::duration;
use super::node::Node;
use crate::config::{GidExclusion, UidExclusion, VirtualNetwork};
use crate::error::InvalidValue;
use crate::model::{ChainName, ChainPair, Executables, IpFamilyMode, LogLevel};
use crate::net::{AnyCidr, Port, PortRange, PortSet};

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum ValueSource {
    Document,
    Environment,
    /// `again` if the flag was given before.
    Flag {
        again: bool,
    },
}

/// An item of a list, or the whole value, that is not valid.
#[derive(Debug)]
pub(in crate::config) struct Bad {
    /// The position, where the value is a list of a document.
    pub(in crate::config) index: Option<usize>,
    pub(in crate::config) error: InvalidValue,
}

impl From<InvalidValue> for Bad {
    fn from(error: InvalidValue) -> Self {
        Self { index: None, error }
    }
}

/// A value of a [`Config`](crate::config::Config) that text can set.
pub(in crate::config) trait Wire {
    /// Takes over what the node says. Whatever is not valid leaves the value as it was.
    fn read(&mut self, node: &Node, source: ValueSource) -> Result<(), Vec<Bad>>;

    /// The value as a document has it.
    fn write(&self) -> Value;

    /// Whether an empty environment variable is an empty list. Of every other kind it is treated as not set.
    fn is_list(&self) -> bool {
        false
    }
}

/// The text of a value that is one text or number.
fn scalar<'a>(node: &'a Node, expected: &'static str) -> Result<&'a str, InvalidValue> {
    node.scalar().ok_or_else(|| InvalidValue::new(node.quoted(), expected))
}

/// A value that is one text or number, read by a function and written by another.
macro_rules! scalars {
    ($($type:ty: $expected:expr, $read:expr, $write:expr;)+) => {$(
        impl Wire for $type {
            fn read(&mut self, node: &Node, _: ValueSource) -> Result<(), Vec<Bad>> {
                let read: fn(&str, &mut Self) -> Result<(), InvalidValue> = $read;
                scalar(node, $expected).and_then(|text| read(text, self)).map_err(|error| vec![error.into()])
            }

            fn write(&self) -> Value {
                let write: fn(&Self) -> Value = $write;
                write(self)
            }
        }
    )+};
}

fn set<T>(to: &mut T, value: Result<T, InvalidValue>) -> Result<(), InvalidValue> {
    value.map(|value| *to = value)
}

const NUMBER: &str = "a whole number from 0 to 4294967295";
const USER: &str = "a user name or a uid";
const PATH: &str = "a path";

scalars! {
    Port: "a port from 1 to 65535",
        |text, to| set(to, text.parse()),
        |port| port.number().into();
    u32: NUMBER,
        |text, to| set(to, number(text)),
        |number| (*number).into();
    LogLevel: "a log level from 0 to 7",
        |text, to| set(to, text.parse()),
        |level| level.number().into();
    Duration: duration::EXPECTED,
        |text, to| set(to, duration::parse(text)),
        |duration| duration::print(*duration).into();
    IpFamilyMode: IpFamilyMode::EXPECTED,
        |text, to| set(to, if text.is_empty() { Ok(IpFamilyMode::default()) } else { text.parse() }),
        |mode| mode.to_string().into();
    Option<String>: USER,
        |text, to| set(to, plain(text, USER).map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()))),
        |user| user.clone().unwrap_or_default().into();
    // Where an empty path stands for the default, as in the values of Kuma's charts, nothing is set.
    PathBuf: PATH,
        |text, to| set(to, plain(text, PATH).map(|text| if text.is_empty() { to.clone() } else { text.into() })),
        |path| path.to_string_lossy().into();
    Option<PathBuf>: PATH,
        |text, to| set(to, plain(text, PATH).map(|text| Some(text.into()).filter(|_| !text.is_empty()))),
        |path| path.as_ref().map(|path| path.to_string_lossy()).unwrap_or_default().into();
    // kumactl, too, has the prefix fixed and takes only what follows it.
    ChainName: "the end of a chain name",
        |text, to| set(to, chain(text)),
        |chain| chain.as_str().into();
}

fn number(text: &str) -> Result<u32, InvalidValue> {
    let digits = text.trim();
    Some(digits)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| InvalidValue::new(text, NUMBER))
}

fn plain<'a>(text: &'a str, expected: &'static str) -> Result<&'a str, InvalidValue> {
    match text.contains(char::is_control) {
        false => Ok(text),
        true => Err(InvalidValue::new(text, format!("{expected} without control characters"))),
    }
}

fn chain(text: &str) -> Result<ChainName, InvalidValue> {
    let invalid = || {
        let (prefix, most) = (ChainPair::PREFIX, ChainName::MAX - ChainPair::PREFIX.len());
        InvalidValue::new(
            text,
            format!(
                "1 to {most} letters, digits or signs without blanks and quotes, which follow {prefix} in the name"
            ),
        )
    };
    if text.is_empty() {
        return Err(invalid());
    }
    format!("{}{text}", ChainPair::PREFIX).parse().map_err(|_| invalid())
}

/// The value of a switch.
pub(in crate::config) fn switch(node: &Node, source: ValueSource) -> Result<bool, InvalidValue> {
    let value = match node {
        Node::Bool(value) => Some(*value),
        Node::Text(text) => match (text.trim().to_ascii_lowercase().as_str(), source) {
            // The words of YAML 1.1.
            ("true" | "yes" | "on" | "y", _) => Some(true),
            ("false" | "no" | "off" | "n", _) => Some(false),
            // The short forms that Go takes of variables and flags.
            ("1" | "t", ValueSource::Environment | ValueSource::Flag { .. }) => Some(true),
            ("0" | "f", ValueSource::Environment | ValueSource::Flag { .. }) => Some(false),
            _ => None,
        },
        _ => None,
    };
    value.ok_or_else(|| InvalidValue::new(node.quoted(), "true or false"))
}

impl Wire for bool {
    fn read(&mut self, node: &Node, source: ValueSource) -> Result<(), Vec<Bad>> {
        set(self, switch(node, source)).map_err(|error| vec![error.into()])
    }

    fn write(&self) -> Value {
        (*self).into()
    }
}

impl IpFamilyMode {
    const EXPECTED: &str = "'dualstack', 'ipv4' or 'required'";
}

impl FromStr for IpFamilyMode {
    type Err = InvalidValue;

    /// Letter case does not matter.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let known = Self::ALL.into_iter().find(|mode| mode.as_str().eq_ignore_ascii_case(text.trim()));
        known.ok_or_else(|| InvalidValue::new(text, Self::EXPECTED))
    }
}

/// An item of a list.
trait Item: FromStr<Err = InvalidValue> + fmt::Display {
    const EXPECTED: &'static str;

    /// Whether one text can hold several, separated by commas.
    const COMMAS: bool = false;

    /// Whether a flag that is repeated adds to the list, where it would replace it otherwise.
    const ACCUMULATES: bool = true;

    /// Whether an empty text is no item, where it would be a bad one otherwise.
    const SKIPS_EMPTY: bool = false;

    /// Whether an item is written as a number where it can be.
    const NUMBER: bool = false;
}

impl Item for PortRange {
    const EXPECTED: &'static str = "a port from 1 to 65535, or a range such as 3000-5000";
    const COMMAS: bool = true;
    const SKIPS_EMPTY: bool = true;
    const ACCUMULATES: bool = false;
    const NUMBER: bool = true;
}

impl Item for AnyCidr {
    const EXPECTED: &'static str = "an IP address or a CIDR";
    const COMMAS: bool = true;
}

impl Item for UidExclusion {
    const EXPECTED: &'static str = "text of the form [protocols:][ports:]uids";
}

impl Item for GidExclusion {
    const EXPECTED: &'static str = "text of the form [protocols:][ports:]gids";
}

impl Item for VirtualNetwork {
    const EXPECTED: &'static str = "an interface and a CIDR, such as docker0:172.17.0.0/16";
}

/// One text of a list, with its position where it is an item of a list of a document.
pub(super) struct Text<'a> {
    pub(super) index: Option<usize>,
    pub(super) text: &'a str,
}

/// The texts of a list. `separators` are the characters that may part the items of a variable: the first of them
/// that occurs.
pub(super) fn texts<'a>(
    node: &'a Node,
    source: ValueSource,
    separators: &[char],
    expected: &'static str,
) -> Vec<Result<Text<'a>, Bad>> {
    let one = |node: &'a Node, index| match scalar(node, expected) {
        Ok(text) => Ok(Text { index, text }),
        Err(error) => Err(Bad { index, error }),
    };
    match (node, source) {
        (Node::List(items), _) => items.iter().enumerate().map(|(index, item)| one(item, Some(index))).collect(),
        (Node::Text(text), ValueSource::Document | ValueSource::Environment) if text.trim().is_empty() => Vec::new(),
        (Node::Text(text), ValueSource::Environment) => {
            let separator = separators.iter().copied().find(|separator| text.contains(*separator)).unwrap_or(',');
            // One semicolon at the end is no empty item, so that a single item with commas can be written.
            let text = text.trim_end().strip_suffix(';').filter(|_| separator == ';').unwrap_or(text);
            text.split(separator).map(|text| Ok(Text { index: None, text })).collect()
        }
        (node, _) => vec![one(node, None)],
    }
}

impl<T: Item> Wire for Vec<T> {
    fn read(&mut self, node: &Node, source: ValueSource) -> Result<(), Vec<Bad>> {
        let mut items = Vec::new();
        let mut bad = Vec::new();
        // kumactl splits variables at commas. Items that hold commas themselves need another sign.
        let separators: &[char] = if T::COMMAS { &[] } else { &[';'] };
        for text in texts(node, source, separators, T::EXPECTED) {
            let Text { index, text } = match text {
                Ok(text) => text,
                Err(error) => {
                    bad.push(error);
                    continue;
                }
            };
            let pieces = text.split(|c| T::COMMAS && c == ',').map(str::trim);
            for piece in pieces.filter(|piece| !(T::SKIPS_EMPTY && piece.is_empty())) {
                match piece.parse() {
                    Ok(item) => items.push(item),
                    Err(error) => bad.push(Bad { index, error }),
                }
            }
        }
        if !bad.is_empty() {
            return Err(if T::COMMAS { bad } else { hinted(bad, node, source) });
        }
        if source == (ValueSource::Flag { again: true }) && T::ACCUMULATES {
            self.extend(items);
        } else {
            *self = items;
        }
        Ok(())
    }

    fn write(&self) -> Value {
        let item = |item: &T| match item.to_string() {
            text if T::NUMBER => text.parse::<u16>().map_or_else(|_| text.into(), Value::from),
            text => text.into(),
        };
        self.iter().map(item).collect()
    }

    fn is_list(&self) -> bool {
        true
    }
}

/// Says how items with commas are written in a variable, where that may be what went wrong.
fn hinted(bad: Vec<Bad>, node: &Node, source: ValueSource) -> Vec<Bad> {
    match node {
        Node::Text(text) if source == ValueSource::Environment && text.contains(',') && !text.contains(';') => bad
            .into_iter()
            .map(|Bad { index, error }| {
                let expected = format!("{} (end each item with ';' where items hold commas)", error.expected());
                Bad { index, error: InvalidValue::new(error.value(), expected) }
            })
            .collect(),
        _ => bad,
    }
}

impl Wire for PortSet {
    fn read(&mut self, node: &Node, source: ValueSource) -> Result<(), Vec<Bad>> {
        let mut ranges: Vec<PortRange> = Vec::new();
        ranges.read(node, source)?;
        *self = ranges.into_iter().collect();
        Ok(())
    }

    fn write(&self) -> Value {
        self.ranges().to_vec().write()
    }

    fn is_list(&self) -> bool {
        true
    }
}

/// All programs in one text: `iptables:/sbin/iptables,ip6tables:/sbin/ip6tables`. Those that it does not name stay as
/// they are. Documents have a key for each program instead.
impl Wire for Executables {
    fn read(&mut self, node: &Node, _: ValueSource) -> Result<(), Vec<Bad>> {
        const EXPECTED: &str = "name:path, such as iptables:/usr/sbin/iptables";
        let text = scalar(node, EXPECTED).map_err(|error| vec![error.into()])?;
        let mut read = self.clone();
        let mut bad: Vec<Bad> = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let Some((name, path)) = item.split_once(':') else {
                bad.push(InvalidValue::new(item, EXPECTED).into());
                continue;
            };
            match (read.named(name.trim()), plain(path.trim(), PATH)) {
                (Some(_), Ok("")) => bad.push(InvalidValue::new(item, "a path after the ':'").into()),
                (Some(program), Ok(path)) => *program = Some(path.into()),
                (Some(_), Err(error)) => bad.push(error.into()),
                (None, _) => {
                    bad.push(InvalidValue::new(item, format!("a name that is one of {}", NAMES.join(", "))).into());
                }
            }
        }
        if !bad.is_empty() {
            return Err(bad);
        }
        *self = read;
        Ok(())
    }

    fn write(&self) -> Value {
        let mut copy = self.clone();
        let item = |name: &&str| {
            let path = copy.named(name)?.as_ref()?;
            Some(format!("{name}:{}", path.display()))
        };
        NAMES.iter().filter_map(item).collect::<Vec<_>>().join(",").into()
    }
}

const NAMES: [&str; 6] =
    ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"];

impl Executables {
    fn named(&mut self, name: &str) -> Option<&mut Option<PathBuf>> {
        match name {
            "iptables" => Some(&mut self.v4.tables),
            "iptables-save" => Some(&mut self.v4.save),
            "iptables-restore" => Some(&mut self.v4.restore),
            "ip6tables" => Some(&mut self.v6.tables),
            "ip6tables-save" => Some(&mut self.v6.save),
            "ip6tables-restore" => Some(&mut self.v6.restore),
            _ => None,
        }
    }

    /// The names of those programs of each incomplete family that are given, and so have no effect.
    pub(super) fn incomplete(&mut self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for family in NAMES.chunks(3) {
            let given: Vec<_> =
                family.iter().copied().filter(|name| self.named(name).is_some_and(|path| path.is_some())).collect();
            if given.len() < family.len() {
                names.extend(given);
            }
        }
        names
    }
}

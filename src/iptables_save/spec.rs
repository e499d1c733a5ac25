//! One rule's conditions and target, from words to the model.

use super::Unknown;
use super::tokens::{Token, tokens};
use crate::error::visible;
use crate::model::{
    ChainName, Comment, CtState, End, LogLevel, Match, Owner, Placement, PortMatch, Rule, Target, Transport,
};
use crate::net::{Cidr, Family, FamilyName, GidRange, Port, PortRange, PortSet, Protocol, UidRange};

/// Targets that are modules of iptables and xtables-addons, not chains. iptables prefers a module
/// to a chain of the same name.
const MODULES: &[&str] = &[
    "ACCOUNT",
    "AUDIT",
    "CHAOS",
    "CHECKSUM",
    "CLASSIFY",
    "CLUSTERIP",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DELUDE",
    "DHCPMAC",
    "DNAT",
    "DNETMAP",
    "DNPT",
    "DSCP",
    "ECHO",
    "ECN",
    "HL",
    "HMARK",
    "IDLETIMER",
    "IPMARK",
    "LED",
    "LOG",
    "LOGMARK",
    "MARK",
    "MASQUERADE",
    "NETMAP",
    "NFLOG",
    "NFQUEUE",
    "NOTRACK",
    "PROTO",
    "QUEUE",
    "RATEEST",
    "REDIRECT",
    "REJECT",
    "ROUTE",
    "SAME",
    "SECMARK",
    "SET",
    "SNAT",
    "SNPT",
    "SYNPROXY",
    "SYSRQ",
    "TARPIT",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TPROXY",
    "TRACE",
    "TTL",
    "ULOG",
];

/// The severity of `LOG` without `--log-level`: warning (iptables/extensions/libxt_LOG.c).
const DEFAULT_LEVEL: LogLevel = match LogLevel::new(4) {
    Some(level) => level,
    None => panic!("4 is a level"),
};

/// Reads what stands after `-A CHAIN`.
pub(super) fn rule<F: Family>(spec: &str, placement: Placement) -> Result<Rule<F>, Unknown> {
    let tokens = tokens(spec).map_err(|_| unknown("a quoted text does not end"))?;
    let parser = Parser::read(&tokens)?;
    parser.complete()?;
    let mut rule = Rule::new(parser.target()?);
    rule.matches = parser.matches;
    rule.comment = parser.comment;
    rule.placement = placement;
    Ok(rule)
}

/// Reads some of the conditions of a rule by themselves.
pub(super) fn conditions<F: Family>(tokens: &[Token<'_>]) -> Result<Vec<Match<F>>, Unknown> {
    let parser = Parser::read(tokens)?;
    parser.complete()?;
    Ok(parser.matches)
}

/// Reads the target of a rule by itself.
pub(super) fn target<F: Family>(tokens: &[Token<'_>]) -> Result<Target, Unknown> {
    Parser::<F>::read(tokens)?.target()
}

/// Whether this is the name of a target, not of a chain.
pub(super) fn is_target(name: &str) -> bool {
    matches!(name, "ACCEPT" | "DROP" | "RETURN") || MODULES.contains(&name)
}

fn unknown(reason: impl Into<String>) -> Unknown {
    Unknown { reason: reason.into() }
}

struct Parser<'a, F: Family> {
    rest: std::slice::Iter<'a, Token<'a>>,
    matches: Vec<Match<F>>,
    /// Where `-p` is in `matches`.
    transport: Option<usize>,
    modules: Modules,
    jump: Option<Jump>,
    comment: Option<Comment>,
}

/// The match modules that were named, and whether one that was named last still waits for its option.
#[derive(Default)]
struct Modules {
    /// The protocol's own, named by `-m` or implied by one of its options.
    protocol: Option<Protocol>,
    /// The others by name, with the number of options that each got.
    others: Vec<(&'static str, u32)>,
}

impl Modules {
    /// The module of this name that was named last, if one was.
    fn last(&mut self, name: &str) -> Option<&mut u32> {
        self.others.iter_mut().rev().find(|(n, _)| *n == name).map(|(_, options)| options)
    }
}

enum Jump {
    Done(Target),
    Redirect(Option<Port>),
    Log(Option<crate::model::LogPrefix>, Option<LogLevel>),
    Zone(Option<u16>),
}

impl<'a, F: Family> Parser<'a, F> {
    fn read(tokens: &'a [Token<'a>]) -> Result<Self, Unknown> {
        let mut parser = Self {
            rest: tokens.iter(),
            matches: Vec::new(),
            transport: None,
            modules: Modules::default(),
            jump: None,
            comment: None,
        };
        parser.run()?;
        Ok(parser)
    }

    fn run(&mut self) -> Result<(), Unknown> {
        while let Some(token) = self.rest.next() {
            let (token, negated) = match token.is("!") {
                true => (self.rest.next().ok_or_else(|| unknown("'!' with nothing after it"))?, true),
                false => (token, false),
            };
            if token.quoted {
                return Err(unknown(format!("'{}' where an option is expected", visible(&token.text))));
            }
            let option = token.text.as_ref();
            if negated && !takes_negation(option) {
                return Err(unknown(format!("'! {option}'")));
            }
            self.option(option, negated)?;
        }
        Ok(())
    }

    fn option(&mut self, option: &str, negated: bool) -> Result<(), Unknown> {
        match option {
            "-s" | "--source" | "--src" => {
                let (text, negated) = self.negatable(option, negated)?;
                let net = cidr(option, text)?;
                self.once(option, |m| matches!(m, Match::Source { .. }))?;
                self.matches.push(Match::Source { net, negated });
            }
            "-d" | "--destination" | "--dst" => {
                let (text, negated) = self.negatable(option, negated)?;
                let net = cidr(option, text)?;
                self.once(option, |m| matches!(m, Match::Destination { .. }))?;
                self.matches.push(Match::Destination { net, negated });
            }
            "-i" | "--in-interface" => {
                let (text, negated) = self.negatable(option, negated)?;
                let interface = text.parse().map_err(|_| strange(option, text))?;
                self.once(option, |m| matches!(m, Match::InInterface { .. }))?;
                self.matches.push(Match::InInterface { interface, negated });
            }
            "-o" | "--out-interface" => {
                let (text, negated) = self.negatable(option, negated)?;
                let interface = text.parse().map_err(|_| strange(option, text))?;
                self.once(option, |m| matches!(m, Match::OutInterface { .. }))?;
                self.matches.push(Match::OutInterface { interface, negated });
            }
            "-p" | "--protocol" | "--proto" => self.protocol(option)?,
            "-m" | "--match" => self.module(option)?,
            "--sport" | "--source-port" | "--dport" | "--destination-port" => self.port(option, negated)?,
            "--sports" | "--source-ports" | "--dports" | "--destination-ports" => self.ports(option, negated)?,
            "--uid-owner" | "--gid-owner" => self.owner(option, negated)?,
            "--ctstate" => {
                self.counts("conntrack", option)?;
                let (text, negated) = self.negatable(option, negated)?;
                match (text, negated) {
                    ("INVALID", negated) => self.matches.push(Match::CtState { state: CtState::Invalid, negated }),
                    ("DNAT", false) => self.matches.push(Match::Translated),
                    _ => return Err(strange(option, text)),
                }
            }
            "--src-type" | "--dst-type" => {
                self.counts("addrtype", option)?;
                let text = self.value(option)?;
                if text != "LOCAL" {
                    return Err(strange(option, text));
                }
                let end = if option == "--src-type" { End::Source } else { End::Destination };
                self.matches.push(Match::Local { end });
            }
            "--tcp-flags" => self.mid_stream(option, negated)?,
            "--comment" => {
                self.counts("comment", option)?;
                let text = self.value(option)?;
                if self.comment.is_none() {
                    self.comment = Some(text.parse().unwrap_or_else(|_| Comment::lossy(text)));
                }
            }
            "-j" | "--jump" => self.jump(option)?,
            _ => self.target_option(option)?,
        }
        Ok(())
    }

    fn protocol(&mut self, option: &str) -> Result<(), Unknown> {
        let text = self.value(option)?;
        let protocol = match text {
            "6" => Protocol::Tcp,
            "17" => Protocol::Udp,
            _ if text.eq_ignore_ascii_case("tcp") => Protocol::Tcp,
            _ if text.eq_ignore_ascii_case("udp") => Protocol::Udp,
            _ => return Err(strange(option, text)),
        };
        self.once(option, |m| matches!(m, Match::Transport(_)))?;
        let mut transport = Transport::new(protocol);
        transport.module_first = self.modules.protocol.is_some();
        self.transport = Some(self.matches.len());
        self.matches.push(transport.into());
        Ok(())
    }

    fn module(&mut self, option: &str) -> Result<(), Unknown> {
        let text = self.value(option)?;
        match text {
            "tcp" | "udp" if self.modules.protocol.is_some() => {
                return Err(unknown(format!("'{option} {text}' twice")));
            }
            "tcp" => self.modules.protocol = Some(Protocol::Tcp),
            "udp" => self.modules.protocol = Some(Protocol::Udp),
            "multiport" => self.modules.others.push(("multiport", 0)),
            "owner" => self.modules.others.push(("owner", 0)),
            "conntrack" => self.modules.others.push(("conntrack", 0)),
            "addrtype" => self.modules.others.push(("addrtype", 0)),
            "comment" => self.modules.others.push(("comment", 0)),
            _ => return Err(strange(option, text)),
        }
        Ok(())
    }

    /// `--dport` is the protocol module's own option if that module is there already; else it is an
    /// abbreviation of multiport's `--dports` if that one is; else it brings the protocol's module in.
    fn port(&mut self, option: &str, negated: bool) -> Result<(), Unknown> {
        if self.modules.protocol.is_none() && self.modules.last("multiport").is_some() {
            return self.ports(option, negated);
        }
        let transport = self.transport(option)?;
        self.modules.protocol = self.modules.protocol.or(Some(transport));
        let (text, negated) = self.negatable(option, negated)?;
        let range = range(text, true).ok_or_else(|| strange(option, text))?;
        self.set_ports(option, PortMatch::Range { range, negated })
    }

    fn ports(&mut self, option: &str, negated: bool) -> Result<(), Unknown> {
        self.counts("multiport", option)?;
        self.transport(option)?;
        let (text, negated) = self.negatable(option, negated)?;
        let ports: Option<PortSet> = text.split(',').map(|item| range(item, false)).collect();
        let ports = ports.filter(|p| p.slots() <= Rule::<F>::MULTIPORT_SLOTS).ok_or_else(|| strange(option, text))?;
        self.set_ports(option, PortMatch::Multiport { ports, negated })
    }

    /// Of the conditions on flags, only "opens no connection".
    fn mid_stream(&mut self, option: &str, negated: bool) -> Result<(), Unknown> {
        let protocol = self.transport(option)?;
        self.modules.protocol = self.modules.protocol.or(Some(protocol));
        let (mask, set) = (self.value(option)?, self.value(option)?);
        let known = negated && protocol == Protocol::Tcp && mask == "FIN,SYN,RST,ACK" && set == "SYN";
        match self.transport.map(|index| &mut self.matches[index]) {
            Some(Match::Transport(transport)) if known && !transport.mid_stream => transport.mid_stream = true,
            _ => return Err(unknown(format!("'{option} {mask} {set}'"))),
        }
        Ok(())
    }

    fn transport(&self, option: &str) -> Result<Protocol, Unknown> {
        match self.transport.map(|index| &self.matches[index]) {
            Some(Match::Transport(transport)) => Ok(transport.protocol),
            _ => Err(unknown(format!("'{option}' without a protocol before it"))),
        }
    }

    fn set_ports(&mut self, option: &str, ports: PortMatch) -> Result<(), Unknown> {
        let Some(Match::Transport(transport)) = self.transport.map(|index| &mut self.matches[index]) else {
            return Err(unknown(format!("'{option}' without a protocol before it")));
        };
        let place = if option.starts_with("--s") { &mut transport.source } else { &mut transport.destination };
        match place.replace(ports) {
            None => Ok(()),
            Some(_) => Err(unknown(format!("'{option}' after another condition on the same port"))),
        }
    }

    fn owner(&mut self, option: &str, negated: bool) -> Result<(), Unknown> {
        match self.modules.last("owner") {
            Some(options) => *options += 1,
            None => return Err(unknown(format!("'{option}' without '-m owner'"))),
        }
        let (text, negated) = self.negatable(option, negated)?;
        if !text.split(['-', ':']).all(is_number) {
            return Err(strange(option, text));
        }
        let owner = match option {
            "--uid-owner" => Owner::Uid(text.parse::<UidRange>().map_err(|_| strange(option, text))?),
            _ => Owner::Gid(text.parse::<GidRange>().map_err(|_| strange(option, text))?),
        };
        let same = |m: &Match<F>| {
            matches!(
                (m, owner),
                (Match::Owner { owner: Owner::Uid(_), .. }, Owner::Uid(_))
                    | (Match::Owner { owner: Owner::Gid(_), .. }, Owner::Gid(_))
            )
        };
        self.once(option, same)?;
        self.matches.push(Match::Owner { owner, negated });
        Ok(())
    }

    fn jump(&mut self, option: &str) -> Result<(), Unknown> {
        let text = self.value(option)?;
        let jump = match text {
            "ACCEPT" => Jump::Done(Target::Accept),
            "DROP" => Jump::Done(Target::Drop),
            "RETURN" => Jump::Done(Target::Return),
            "REDIRECT" => Jump::Redirect(None),
            "LOG" => Jump::Log(None, None),
            "CT" => Jump::Zone(None),
            _ if MODULES.contains(&text) => return Err(strange(option, text)),
            _ => Jump::Done(Target::Jump { chain: text.parse::<ChainName>().map_err(|_| strange(option, text))? }),
        };
        match self.jump.replace(jump) {
            None => Ok(()),
            Some(_) => Err(unknown(format!("'{option}' twice"))),
        }
    }

    fn target_option(&mut self, option: &str) -> Result<(), Unknown> {
        let twice = || unknown(format!("'{option}' twice"));
        match (option, &self.jump) {
            ("--to-ports" | "--to-port", Some(Jump::Redirect(port))) => {
                if port.is_some() {
                    return Err(twice());
                }
                let text = self.value(option)?;
                let port = Some(text).filter(|t| is_number(t)).and_then(|t| t.parse().ok());
                self.jump = Some(Jump::Redirect(Some(port.ok_or_else(|| strange(option, text))?)));
            }
            ("--log-prefix", Some(Jump::Log(prefix, level))) => {
                if prefix.is_some() {
                    return Err(twice());
                }
                let level = *level;
                let text = self.value(option)?;
                self.jump = Some(Jump::Log(Some(text.parse().map_err(|_| strange(option, text))?), level));
            }
            ("--log-level", Some(Jump::Log(prefix, level))) => {
                if level.is_some() {
                    return Err(twice());
                }
                let prefix = prefix.clone();
                let text = self.value(option)?;
                self.jump = Some(Jump::Log(prefix, Some(log_level(text).ok_or_else(|| strange(option, text))?)));
            }
            ("--zone", Some(Jump::Zone(zone))) => {
                if zone.is_some() {
                    return Err(twice());
                }
                let text = self.value(option)?;
                let zone = Some(text).filter(|t| is_number(t)).and_then(|t| t.parse().ok());
                self.jump = Some(Jump::Zone(Some(zone.ok_or_else(|| strange(option, text))?)));
            }
            _ => return Err(unknown(format!("'{option}'"))),
        }
        Ok(())
    }

    /// Whether each module that was named has what it needs.
    fn complete(&self) -> Result<(), Unknown> {
        let protocol = self.transport.and_then(|index| match &self.matches[index] {
            Match::Transport(transport) => Some(transport.protocol),
            _ => None,
        });
        if let Some(module) = self.modules.protocol.filter(|module| Some(*module) != protocol) {
            return Err(unknown(format!("'-m {module}' without '-p {module}'")));
        }
        match self.modules.others.iter().find(|(_, options)| *options == 0) {
            Some((name, _)) => Err(unknown(format!("'-m {name}' without an option"))),
            None => Ok(()),
        }
    }

    fn target(&self) -> Result<Target, Unknown> {
        let without = |target, option| unknown(format!("'-j {target}' without '{option}'"));
        Ok(match self.jump.as_ref().ok_or_else(|| unknown("no target"))? {
            Jump::Done(target) => target.clone(),
            Jump::Redirect(port) => Target::Redirect { port: port.ok_or_else(|| without("REDIRECT", "--to-ports"))? },
            Jump::Log(prefix, level) => Target::Log {
                prefix: prefix.clone().ok_or_else(|| without("LOG", "--log-prefix"))?,
                level: level.unwrap_or(DEFAULT_LEVEL),
            },
            Jump::Zone(zone) => Target::Zone { zone: zone.ok_or_else(|| without("CT", "--zone"))? },
        })
    }

    /// Counts an option of a module that takes one only.
    fn counts(&mut self, module: &str, option: &str) -> Result<(), Unknown> {
        match self.modules.last(module) {
            None => Err(unknown(format!("'{option}' without '-m {module}'"))),
            Some(options @ 0) => {
                *options = 1;
                Ok(())
            }
            Some(_) => Err(unknown(format!("'{option}' after another option of '-m {module}'"))),
        }
    }

    fn once(&self, option: &str, same: impl Fn(&Match<F>) -> bool) -> Result<(), Unknown> {
        match self.matches.iter().any(same) {
            false => Ok(()),
            true => Err(unknown(format!("'{option}' twice"))),
        }
    }

    fn value(&mut self, option: &str) -> Result<&'a str, Unknown> {
        self.rest.next().map(|token| token.text.as_ref()).ok_or_else(|| unknown(format!("'{option}' without a value")))
    }

    /// The value of an option, which may be negated in the old way: `-s ! 10.0.0.1`.
    fn negatable(&mut self, option: &str, negated: bool) -> Result<(&'a str, bool), Unknown> {
        match (self.value(option)?, negated) {
            ("!", true) => Err(unknown(format!("'! {option} !'"))),
            ("!", false) => Ok((self.value(option)?, true)),
            (text, _) => Ok((text, negated)),
        }
    }
}

fn takes_negation(option: &str) -> bool {
    matches!(
        option,
        "-s" | "--source"
            | "--src"
            | "-d"
            | "--destination"
            | "--dst"
            | "-i"
            | "--in-interface"
            | "-o"
            | "--out-interface"
            | "--sport"
            | "--source-port"
            | "--dport"
            | "--destination-port"
            | "--sports"
            | "--source-ports"
            | "--dports"
            | "--destination-ports"
            | "--uid-owner"
            | "--gid-owner"
            | "--ctstate"
            | "--tcp-flags"
    )
}

/// An option that is known, with a value that the model does not hold.
fn strange(option: &str, value: &str) -> Unknown {
    unknown(format!("'{option} {}'", visible(value)))
}

/// Decimal without a leading zero, which iptables would take for octal.
fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() && (text == "0" || !text.starts_with('0'))
}

fn cidr<F: Family>(option: &str, text: &str) -> Result<Cidr<F>, Unknown> {
    let of_family = F::NAME == FamilyName::V6 || !text.contains(':');
    let plain = text.split_once('/').is_none_or(|(_, prefix)| is_number(prefix));
    match of_family && plain && !text.contains(char::is_whitespace) {
        true => text.parse().map_err(|_| strange(option, text)),
        false => Err(strange(option, text)),
    }
}

/// A port or a range. `80:` ends at 65535. `:80` begins at 0, which no [`Port`] is.
fn range(text: &str, open: bool) -> Option<PortRange> {
    let port = |text: &str| Some(text).filter(|t| is_number(t)).and_then(|t| t.parse::<Port>().ok());
    match text.split_once(':') {
        None => port(text).map(PortRange::from),
        Some((first, "")) if open => PortRange::new(port(first)?, PortRange::ALL.last()),
        Some((first, last)) => PortRange::new(port(first)?, port(last)?),
    }
}

/// A severity by number, or by syslog's name.
fn log_level(text: &str) -> Option<LogLevel> {
    let number = match text {
        "emerg" | "panic" => 0,
        "alert" => 1,
        "crit" => 2,
        "err" | "error" => 3,
        "warn" | "warning" => 4,
        "notice" => 5,
        "info" => 6,
        "debug" => 7,
        _ => return Some(text).filter(|t| is_number(t)).and_then(|t| t.parse().ok()),
    };
    LogLevel::new(number)
}

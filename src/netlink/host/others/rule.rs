//! From the expressions of a rule of other programs to what it does.

use super::constants::*;
use super::facts::Reader;
use super::registers::{Load, Registers, Value, What, pieces};
use super::sets::{Set, possible};
use super::text as words;
use crate::error::visible;
use crate::model::{End, LogLevel};
use crate::net::Port;
use crate::netlink::constants::*;
use crate::netlink::wire::{Attributes, text};
use crate::nftables::{Deed, Fact, Part};

/// How severe a line of the log is where the rule does not say (`LOGLEVEL_WARNING`).
const WARNING: u32 = 4;

/// Targets of iptables that have no say in where a packet ends.
const HARMLESS: [&str; 9] = ["LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "DSCP", "CLASSIFY", "CHECKSUM", "AUDIT"];

/// A rule while it is read.
pub(super) struct Rule<'a> {
    reader: Reader<'a>,
    sets: &'a [Set],
    registers: Registers,
    pub(super) parts: Vec<Part>,
    pub(super) words: Vec<String>,
    /// Whether nothing behind what was read counts.
    ended: bool,
}

impl<'a> Rule<'a> {
    /// Reads the expressions of a rule.
    pub(super) fn read(reader: Reader<'a>, sets: &'a [Set], expressions: &Attributes<'_>) -> Self {
        let mut rule =
            Self { reader, sets, registers: Registers::default(), parts: Vec::new(), words: Vec::new(), ended: false };
        for (_, expression) in expressions.clone() {
            if rule.ended {
                break;
            }
            let expression = Attributes::of(expression);
            let name = expression.text(NFTA_EXPR_NAME).unwrap_or_default();
            rule.expression(name, &expression.nest(NFTA_EXPR_DATA).unwrap_or_default());
        }
        rule
    }

    /// Whether the rule does nothing with any packet of this family.
    pub(super) fn is_idle(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::If(lists) if lists.is_empty()))
    }

    fn expression(&mut self, name: &str, data: &Attributes<'_>) {
        match name {
            "meta" | "payload" | "ct" | "fib" | "socket" | "rt" | "exthdr" | "numgen" | "hash" | "osf" | "xfrm"
            | "tunnel" | "bitwise" | "byteorder" => {
                if self.load(name, data).is_none() {
                    // What it would have put where is not known, so nothing is known any more.
                    self.registers = Registers::default();
                }
            }
            "cmp" => self.compare(data),
            "range" => self.range(data),
            "lookup" => self.lookup(data),
            "immediate" => self.immediate(data),
            "counter" | "last" | "flow_offload" | "dup" => self.words.push(name.to_owned()),
            "dynset" if data.get(NFTA_DYNSET_EXPR).or(data.get(NFTA_DYNSET_EXPRESSIONS)).is_none() => {
                self.words.push("add to a set".to_owned());
            }
            "limit" | "quota" | "connlimit" | "dynset" => self.unknown(name),
            "objref" => match data.number(NFTA_OBJREF_IMM_TYPE) {
                Some(NFT_OBJECT_QUOTA | NFT_OBJECT_LIMIT | NFT_OBJECT_CONNLIMIT) | None => self.unknown(name),
                Some(NFT_OBJECT_SYNPROXY) => self.deed(Deed::Unknown("synproxy".into())),
                Some(_) => self.words.push(name.to_owned()),
            },
            "log" => self.log(data),
            "reject" => {
                self.deed(Deed::Drop);
                self.words.pop();
                self.words.push("reject".to_owned());
            }
            "notrack" => self.deed(Deed::Untrack),
            "masq" => self.deed(Deed::Source),
            "nat" => self.nat(data),
            "redir" => self.redirect(data),
            "match" => match data.text(NFTA_MATCH_NAME).unwrap_or_default() {
                "comment" => {
                    let comment = data.get(NFTA_MATCH_INFO).and_then(text).unwrap_or_default();
                    self.words.push(format!("comment \"{}\"", visible(comment)));
                }
                other => self.unknown(&format!("xt match {}", visible(other))),
            },
            "target" => match data.text(NFTA_MATCH_NAME).unwrap_or_default() {
                "REJECT" => self.deed(Deed::Drop),
                "MASQUERADE" | "SNAT" => self.deed(Deed::Source),
                harmless if HARMLESS.contains(&harmless) => self.words.push(format!("xt target {harmless}")),
                other => self.deed(Deed::Unknown(format!("xt target {}", visible(other)).into())),
            },
            other => self.deed(Deed::Unknown(visible(other).into())),
        }
    }

    /// Goes on only if all facts hold.
    fn only(&mut self, facts: Vec<Fact>) {
        self.words.extend(facts.iter().map(|fact| words::fact(fact, self.reader.family)));
        if possible(&facts) {
            self.parts.push(Part::If(vec![facts]));
        } else {
            self.never();
        }
    }

    fn never(&mut self) {
        self.parts.push(Part::If(Vec::new()));
    }

    fn unknown(&mut self, word: &str) {
        self.only(vec![Fact::Unknown(word.into())]);
    }

    fn deed(&mut self, deed: Deed) {
        self.words.push(words::deed(&deed));
        self.ended = deed.is_final();
        self.parts.push(Part::Do(deed));
    }

    /// Loads something, or writes it. `None` if it is not known where to.
    fn load(&mut self, name: &str, data: &Attributes<'_>) -> Option<()> {
        let put = |kind| data.number(kind);
        let (register, value) = match name {
            "meta" => match put(NFTA_META_SREG) {
                Some(_) => return self.set_something(name),
                None => {
                    let key = data.number(NFTA_META_KEY)?;
                    (put(NFTA_META_DREG)?, Value::new(Load::Meta(key), meta_length(key)))
                }
            },
            "payload" => {
                let value = payload(data)?;
                match put(NFTA_PAYLOAD_SREG) {
                    None => (put(NFTA_PAYLOAD_DREG)?, value),
                    Some(_) => {
                        let here = pieces(&value, self.reader.family);
                        let changes = |(_, what): &(usize, What)| matches!(what, What::Field(..) | What::Protocol);
                        match here.iter().any(changes) {
                            true => self.deed(Deed::Unknown(format!("{} set", words::value(&value)).into())),
                            false => self.words.push(format!("{} set", words::value(&value))),
                        }
                        return Some(());
                    }
                }
            }
            "ct" => match put(NFTA_CT_SREG) {
                Some(register) if data.number(NFTA_CT_KEY) == Some(NFT_CT_ZONE) => {
                    let zone = match self.registers.one(register, 2).map(|value| value.load) {
                        Some(Load::Constant(bytes)) => <[u8; 2]>::try_from(&bytes[..]).ok().map(u16::from_ne_bytes),
                        _ => None,
                    };
                    self.deed(zone.map_or_else(|| Deed::Unknown("ct zone set".into()), Deed::Zone));
                    return Some(());
                }
                Some(_) => return self.set_something(name),
                None => (put(NFTA_CT_DREG)?, connection(data)),
            },
            "fib" => (put(NFTA_FIB_DREG)?, address_type(data)),
            "socket" => (put(NFTA_SOCKET_DREG)?, Value::other(name, 4)),
            "rt" => (put(NFTA_RT_DREG)?, Value::other(name, 16)),
            "exthdr" => match put(NFTA_EXTHDR_DREG) {
                Some(register) => (register, Value::other(name, 16)),
                None => return self.set_something(name),
            },
            "numgen" => (put(NFTA_NUMGEN_DREG)?, Value::other(name, 4)),
            "hash" => (put(NFTA_HASH_DREG)?, Value::other(name, 4)),
            "osf" => (put(NFTA_OSF_DREG)?, Value::other(name, 16)),
            "xfrm" => (put(NFTA_XFRM_DREG)?, Value::other(name, 16)),
            "tunnel" => (put(NFTA_TUNNEL_DREG)?, Value::other(name, 4)),
            "bitwise" => {
                let length = usize::try_from(data.number(NFTA_BITWISE_LEN)?).ok()?;
                let masked = self.masked(data, length).unwrap_or_else(|| Value::other(name, length));
                (put(NFTA_BITWISE_DREG)?, masked)
            }
            _ => {
                let length = usize::try_from(data.number(NFTA_BYTEORDER_LEN)?).ok()?;
                let size = data.number(NFTA_BYTEORDER_SIZE)?;
                let value = self.registers.one(data.number(NFTA_BYTEORDER_SREG)?, length);
                let value =
                    value.filter(|value| value.length == length && size as usize == length && value.mask.is_none());
                let turned = value.map(|value| Value { swapped: !value.swapped, ..value });
                (put(NFTA_BYTEORDER_DREG)?, turned.unwrap_or_else(|| Value::other(name, length)))
            }
        };
        self.registers.set(register, value);
        Some(())
    }

    /// What is set decides nothing here.
    fn set_something(&mut self, name: &str) -> Option<()> {
        self.words.push(format!("{name} set"));
        Some(())
    }

    fn masked(&self, data: &Attributes<'_>, length: usize) -> Option<Value> {
        let bytes = |kind| data.nest(kind)?.get(NFTA_DATA_VALUE);
        let value = self.registers.one(data.number(NFTA_BITWISE_SREG)?, length)?;
        let simple = data.number(NFTA_BITWISE_OP).unwrap_or(NFT_BITWISE_BOOL) == NFT_BITWISE_BOOL
            && bytes(NFTA_BITWISE_XOR)?.iter().all(|byte| *byte == 0)
            && value.mask.is_none()
            && value.length == length;
        simple.then_some(Value { mask: Some(bytes(NFTA_BITWISE_MASK)?.to_vec()), ..value })
    }

    fn compare(&mut self, data: &Attributes<'_>) {
        let compared = data.nest(NFTA_CMP_DATA).and_then(|value| value.get(NFTA_DATA_VALUE));
        let (Some(bytes), Some(operation)) = (compared, data.number(NFTA_CMP_OP)) else { return self.unknown("cmp") };
        let value = data.number(NFTA_CMP_SREG).and_then(|register| self.registers.one(register, bytes.len()));
        let Some(value) = value else { return self.unknown("cmp") };
        let reader = self.reader;
        let (sign, facts) = match operation {
            NFT_CMP_EQ => ("==", reader.equal(&value, bytes)),
            NFT_CMP_NEQ => ("!=", reader.not(&reader.equal(&value, bytes))),
            NFT_CMP_LT => {
                ("<", less(bytes).map_or(vec![Fact::Never], |last| vec![reader.between(&value, &least(bytes), &last)]))
            }
            NFT_CMP_LTE => ("<=", vec![reader.between(&value, &least(bytes), bytes)]),
            NFT_CMP_GT => {
                (">", more(bytes).map_or(vec![Fact::Never], |first| vec![reader.between(&value, &first, &most(bytes))]))
            }
            NFT_CMP_GTE => (">=", vec![reader.between(&value, bytes, &most(bytes))]),
            _ => ("?", vec![Fact::Unknown("cmp".into())]),
        };
        // Of what is not known, it is said how it is compared.
        let said = |fact: Fact| match fact {
            Fact::Unknown(_) => Fact::Unknown(format!("{} {sign} {}", words::value(&value), words::hex(bytes)).into()),
            known => known,
        };
        self.only(facts.into_iter().map(said).collect());
    }

    fn range(&mut self, data: &Attributes<'_>) {
        let end = |kind| data.nest(kind)?.get(NFTA_DATA_VALUE);
        let ends = end(NFTA_RANGE_FROM_DATA).zip(end(NFTA_RANGE_TO_DATA));
        let value = ends.and_then(|(first, _)| self.registers.one(data.number(NFTA_RANGE_SREG)?, first.len()));
        let (Some((first, last)), Some(value)) = (ends, value) else { return self.unknown("range") };
        let inside = vec![self.reader.between(&value, first, last)];
        match data.number(NFTA_RANGE_OP) {
            Some(NFT_RANGE_EQ) => self.only(inside),
            Some(NFT_RANGE_NEQ) => self.only(self.reader.not(&inside)),
            _ => self.unknown("range"),
        }
    }

    fn lookup(&mut self, data: &Attributes<'_>) {
        let name = data.text(NFTA_LOOKUP_SET).unwrap_or_default();
        let Some(set) = self.sets.iter().find(|set| set.name == name) else { return self.unknown("lookup") };
        let values = data.number(NFTA_LOOKUP_SREG).and_then(|register| self.registers.get(register, set.key_length));
        let values = values.as_deref();
        let asked = values.map_or_else(|| "lookup".to_owned(), |values| self.asked(values));
        let inverted = data.number(NFTA_LOOKUP_FLAGS).unwrap_or(0) & NFT_LOOKUP_F_INV != 0;
        match data.number(NFTA_LOOKUP_DREG) {
            Some(NFT_REG_VERDICT) => {
                self.words.push(format!("{asked} vmap {}", set.title()));
                self.parts.push(set.choose(self.reader, values));
                self.ended = true;
            }
            Some(register) => {
                self.only_if_in_map(set, values);
                self.words.push(format!("{asked} map {}", set.title()));
                self.registers.set(register, Value::other(&format!("map {}", set.title()), 16));
            }
            None => {
                self.words.push(format!("{asked}{} {}", if inverted { " !=" } else { "" }, set.title()));
                self.parts.push(set.holds(self.reader, values, inverted));
            }
        }
    }

    /// A rule ends where a map has nothing for the packet. What such maps have is not read.
    fn only_if_in_map(&mut self, set: &Set, values: Option<&[Value]>) {
        self.parts.push(set.holds(self.reader, values, false));
    }

    /// Values in words.
    fn asked(&self, values: &[Value]) -> String {
        let one = |value: &Value| match &pieces(value, self.reader.family)[..] {
            [(_, What::Field(field, 0))] => words::name(*field, self.reader.family).to_owned(),
            _ => words::value(value),
        };
        values.iter().map(one).collect::<Vec<_>>().join(" . ")
    }

    fn immediate(&mut self, data: &Attributes<'_>) {
        let value = data.nest(NFTA_IMMEDIATE_DATA).unwrap_or_default();
        match data.number(NFTA_IMMEDIATE_DREG) {
            Some(NFT_REG_VERDICT) => match value.nest(NFTA_DATA_VERDICT).and_then(|data| verdict(&data)) {
                Some(deed) => self.deed(deed),
                // On with the next rule.
                None => self.ended = true,
            },
            Some(register) => {
                let bytes = value.get(NFTA_DATA_VALUE).unwrap_or_default().to_vec();
                let length = bytes.len();
                self.registers.set(register, Value::new(Load::Constant(bytes), length));
            }
            None => self.unknown("immediate"),
        }
    }

    fn log(&mut self, data: &Attributes<'_>) {
        let prefix = data.text(NFTA_LOG_PREFIX).unwrap_or_default().parse().ok();
        let level = u8::try_from(data.number(NFTA_LOG_LEVEL).unwrap_or(WARNING)).ok().and_then(LogLevel::new);
        match prefix.zip(level).filter(|_| data.get(NFTA_LOG_GROUP).is_none()) {
            Some((prefix, level)) => self.deed(Deed::Log { prefix, level }),
            None => self.words.push("log".to_owned()),
        }
    }

    fn nat(&mut self, data: &Attributes<'_>) {
        if data.number(NFTA_NAT_TYPE) == Some(NFT_NAT_SNAT) {
            return self.deed(Deed::Source);
        }
        let address = match self.constant(data, NFTA_NAT_REG_ADDR_MIN, 4, data.number(NFTA_NAT_FAMILY)) {
            Some(address) => address,
            None if data.get(NFTA_NAT_REG_ADDR_MIN).is_some() => "an address from a map".to_owned(),
            None => String::new(),
        };
        let port = match self.constant(data, NFTA_NAT_REG_PROTO_MIN, 2, None) {
            Some(port) => format!(":{port}"),
            None => String::new(),
        };
        let address = if address.contains(':') && !port.is_empty() { format!("[{address}]") } else { address };
        self.deed(Deed::Unknown(format!("dnat to {address}{port}").into()));
    }

    /// The number or, of a family, the address that the register of an attribute holds.
    fn constant(&self, data: &Attributes<'_>, kind: u16, length: usize, family: Option<u32>) -> Option<String> {
        let length = if family == Some(NFPROTO_IPV6.into()) { 16 } else { length };
        let Load::Constant(bytes) = self.registers.one(data.number(kind)?, length)?.load else { return None };
        Some(match (family.is_some(), &bytes[..]) {
            (true, [a, b, c, d]) => std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string(),
            (true, other) => std::net::Ipv6Addr::from(<[u8; 16]>::try_from(other).ok()?).to_string(),
            (false, other) => u16::from_be_bytes(other.try_into().ok()?).to_string(),
        })
    }

    fn redirect(&mut self, data: &Attributes<'_>) {
        let port = |kind| self.constant(data, kind, 2, None)?.parse::<u16>().ok().and_then(Port::new);
        let first = port(NFTA_REDIR_REG_PROTO_MIN);
        let one = data.get(NFTA_REDIR_REG_PROTO_MAX).is_none() || port(NFTA_REDIR_REG_PROTO_MAX) == first;
        match (first, data.get(NFTA_REDIR_REG_PROTO_MIN)) {
            (Some(port), _) if one => self.deed(Deed::Redirect(port)),
            (None, None) => self.deed(Deed::Unknown("redirect to the port that it was sent to".into())),
            _ => self.deed(Deed::Unknown("redirect to one of several ports".into())),
        }
    }
}

/// What a verdict does; none if it goes on with the next rule.
pub(super) fn verdict(data: &Attributes<'_>) -> Option<Deed> {
    let chain = || data.text(NFTA_VERDICT_CHAIN).unwrap_or_default().into();
    // The same bits, signed.
    Some(match data.number(NFTA_VERDICT_CODE).map(|code| code as i32) {
        Some(NF_ACCEPT) => Deed::Accept,
        Some(NF_DROP) => Deed::Drop,
        Some(NFT_RETURN) => Deed::Return,
        Some(NFT_JUMP) => Deed::Jump(chain()),
        Some(NFT_GOTO) => Deed::Goto(chain()),
        Some(NFT_CONTINUE) => return None,
        Some(other) => Deed::Unknown(format!("verdict {other}").into()),
        None => Deed::Unknown("verdict".into()),
    })
}

fn meta_length(key: u32) -> usize {
    match key {
        NFT_META_IIFNAME | NFT_META_OIFNAME | 17 | 18 | 26 | 27 => 16,
        NFT_META_NFPROTO | NFT_META_L4PROTO | 19 => 1,
        NFT_META_PROTOCOL | 8 | 9 => 2,
        _ => 4,
    }
}

fn payload(data: &Attributes<'_>) -> Option<Value> {
    let length = usize::try_from(data.number(NFTA_PAYLOAD_LEN)?).ok().filter(|length| (1..=16).contains(length))?;
    let offset = usize::try_from(data.number(NFTA_PAYLOAD_OFFSET)?).ok()?;
    Some(Value::new(Load::Payload { base: data.number(NFTA_PAYLOAD_BASE)?, offset }, length))
}

fn connection(data: &Attributes<'_>) -> Value {
    match (data.number(NFTA_CT_KEY), data.get(NFTA_CT_DIRECTION)) {
        (Some(NFT_CT_STATE), None) => Value::new(Load::State, 4),
        (Some(NFT_CT_STATUS), None) => Value::new(Load::Status, 4),
        (key, _) => Value::other(connection_key(key), 16),
    }
}

fn connection_key(key: Option<u32>) -> &'static str {
    match key {
        Some(1) => "ct direction",
        Some(3) => "ct mark",
        Some(6) => "ct helper",
        Some(11) => "ct label",
        Some(NFT_CT_ZONE) => "ct zone",
        _ => "ct",
    }
}

fn address_type(data: &Attributes<'_>) -> Value {
    match (data.number(NFTA_FIB_RESULT), data.number(NFTA_FIB_FLAGS)) {
        (Some(NFT_FIB_RESULT_ADDRTYPE), Some(NFTA_FIB_F_SADDR)) => Value::new(Load::AddressType(End::Source), 4),
        (Some(NFT_FIB_RESULT_ADDRTYPE), Some(NFTA_FIB_F_DADDR)) => Value::new(Load::AddressType(End::Destination), 4),
        _ => Value::other("fib", 16),
    }
}

fn least(bytes: &[u8]) -> Vec<u8> {
    vec![0; bytes.len()]
}

fn most(bytes: &[u8]) -> Vec<u8> {
    vec![0xff; bytes.len()]
}

/// The number before, big endian; none before 0.
fn less(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let last = bytes.iter().rposition(|byte| *byte != 0)?;
    bytes[last] -= 1;
    bytes[last + 1..].fill(0xff);
    Some(bytes)
}

/// The number behind, big endian; none behind the highest.
fn more(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let last = bytes.iter().rposition(|byte| *byte != 0xff)?;
    bytes[last] += 1;
    bytes[last + 1..].fill(0);
    Some(bytes)
}

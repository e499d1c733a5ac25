//! A connection or a query both ways: the outcome of the request, and whether the answer gets back.

use std::fmt::{self, Write as _};

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use super::Simulator;
use super::outcome::{Outcome, Step, Verdict};
use super::packet::{AnyPacket, Direction, IpProtocol, Packet, Socket, Tracking};
use super::translation::{Endpoint, Known, Translation};
use super::view::Value;
use super::walk::Sent;
use crate::net::{Family, FamilyName, Gid, InterfaceName, Port};

/// The outcome of a connection or a query.
///
/// As text, one paragraph. As JSON an object with `summary` (that paragraph), `packet`, `request` (an [`Outcome`]) and, where an
/// answer is to be expected, `reply` with `packet`, `outcome`, `arrival` and, if it is lost or undecided, `reason`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Explanation<'r> {
    /// The first packet.
    pub packet: AnyPacket,
    /// Its outcome.
    pub request: Outcome<'r>,
    /// The answer; none where the request does not get anywhere, or it is not known where.
    pub reply: Option<Reply<'r>>,
    /// What listens where the request goes.
    listener: Option<&'static str>,
    /// Whether sockets are steered, and packets stay as they are.
    sockets: bool,
    /// Who asked for what the deciding rule does.
    asked_by: Option<String>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Reply<'r> {
    /// The first packet of it.
    pub packet: AnyPacket,
    /// Its outcome.
    pub outcome: Outcome<'r>,
    /// Whether it comes to who asked, and from whom.
    pub arrival: Arrival,
}

/// Whether an answer comes to who asked. As JSON `{"arrival": "lost", "reason": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(tag = "arrival", rename_all = "camelCase")]
#[non_exhaustive]
pub enum Arrival {
    /// It does, from where the request was sent, which it was sent from indeed.
    AsSent,
    /// It does, and seems to be from where the request was sent, although the request was redirected.
    TranslatedBack,
    /// It does not, or not in a form that anyone waits for.
    Lost {
        /// Why.
        reason: String,
    },
    /// The rules that it meets have a part that is not known, and the answer depends on it.
    Undecided {
        /// What is not known.
        reason: String,
    },
}

impl<'r> Simulator<'r> {
    /// Explains the connection or the query that begins with this packet.
    ///
    /// ```
    /// use kumatp::model::EngineName;
    /// use kumatp::simulate::Simulator;
    /// # use kumatp::{Config, Facts, net::Uid, policy};
    ///
    /// # let plan = policy::plan(&Config::default(), &Facts::capable_host(Uid::SIDECAR))?;
    /// let explanation = Simulator::of(&plan, EngineName::Netlink).explain(&"tcp 10.1.2.3:443 uid 1000".parse()?);
    /// assert_eq!(
    ///     explanation.to_string(),
    ///     "A TCP connection that uid 1000 opens to 10.1.2.3:443 is redirected to port 15001, the outbound listener of the \
    ///      sidecar. Rule 6 of KUMA_MESH_OUTBOUND in nat decides: redirect all other outbound connections \
    ///      (redirect.outbound.enabled). Replies are translated back: the client sees 10.1.2.3:443 as their source."
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn explain(&self, packet: &AnyPacket) -> Explanation<'r> {
        match packet {
            AnyPacket::V4(packet) => self.explain_in(packet),
            AnyPacket::V6(packet) => self.explain_in(packet),
        }
    }

    fn explain_in<F: Family>(&self, packet: &Packet<F>) -> Explanation<'r>
    where
        AnyPacket: From<Packet<F>>,
    {
        let request = self.send_knowing(packet, None);
        let listener = match request.outcome.verdict {
            Verdict::Redirected { port } => self.listeners.iter().find(|(at, _)| *at == port).map(|(_, name)| *name),
            _ => None,
        };
        let reply = self.reply(packet, &request);
        let request = request.outcome;
        Explanation { packet: packet.clone().into(), request, reply, listener, sockets: self.sockets, asked_by: None }
    }

    fn reply<F: Family>(&self, packet: &Packet<F>, sent: &Sent<'r>) -> Option<Reply<'r>>
    where
        AnyPacket: From<Packet<F>>,
    {
        let Sent { outcome: request, translation, untracked } = sent;
        // A connection from before has its answers underway, and what fits none has none.
        if packet.tracking != Tracking::New || !matches!(packet.protocol, IpProtocol::Tcp | IpProtocol::Udp) {
            return None;
        }
        let redirected = match request.verdict {
            Verdict::Redirected { port } => Some(port),
            Verdict::Delivered => None,
            _ => return None,
        };
        let (from, to) = (
            Endpoint::of::<F>(packet.source, packet.source_port),
            Endpoint::of::<F>(packet.destination, packet.destination_port),
        );
        let (source, destination) = (translation.destination.unwrap_or(to), translation.source.unwrap_or(from));
        let mut known =
            Known { source: Some(source), destination: Some(destination), translation: translation.back(from, to) };
        let mut answer = self.answer(packet, redirected, source, destination);
        let Sent { mut outcome, untracked: answer_untracked, .. } = self.send_knowing(&answer, Some(&known));
        let found = outcome.zone == request.zone && !untracked && !answer_untracked;
        if !found {
            // Connection tracking does not find the connection, and takes a query's answer for a query, and that of a connection
            // for nothing that it knows.
            answer.tracking = if packet.protocol == IpProtocol::Udp { Tracking::New } else { Tracking::Invalid };
            known.translation = Translation::NONE;
            outcome = self.send_knowing(&answer, Some(&known)).outcome;
        }
        let lost = |reason: String| Arrival::Lost { reason };
        let arrival = match (&outcome.verdict, redirected, found) {
            (Verdict::Dropped, ..) => lost("it is dropped".to_owned()),
            (Verdict::Undecided { reason }, ..) => Arrival::Undecided { reason: reason.clone() },
            (_, Some(_), false) if answer_untracked => {
                lost("connection tracking lets it alone, so it is not translated back".to_owned())
            }
            (_, Some(_), false) => lost(format!(
                "it is tracked in zone {} and the request in zone {}, so it is not translated back",
                outcome.zone, request.zone
            )),
            (Verdict::Redirected { port }, ..) => {
                lost(format!("it is taken for a new request and redirected to port {port}"))
            }
            (_, Some(_), true) => Arrival::TranslatedBack,
            (_, None, _) => Arrival::AsSent,
        };
        Some(Reply { packet: answer.into(), outcome, arrival })
    }

    /// The answer to a packet, as it is sent: where it was redirected, by the sidecar from that port. Of what is not known of its
    /// ends, as the address of the interface by which something redirected came in, it has what the request says.
    fn answer<F: Family>(
        &self,
        packet: &Packet<F>,
        redirected: Option<Port>,
        from: Endpoint,
        to: Endpoint,
    ) -> Packet<F> {
        let mut answer = Packet::outbound(packet.protocol, packet.source, packet.source_port);
        answer.source = packet.destination;
        answer.source_port = packet.destination_port;
        for (end, address, port) in [
            (from, &mut answer.source, &mut answer.source_port),
            (to, &mut answer.destination, &mut answer.destination_port),
        ] {
            if let Value::Is(bits) = end.address {
                *address = F::from_bits(bits);
            }
            if let Value::Is(number) = end.port {
                *port = u16::try_from(number).ok().and_then(Port::new).unwrap_or(*port);
            }
        }
        answer.tracking = Tracking::Established;
        let to_lo = packet.out_interface.as_ref() == Some(&self.loopback);
        if redirected.is_some() {
            // Its group is not known; the number of the user is the usual one, and both have the same limits.
            answer.socket = Gid::new(self.sidecar.number()).map(|gid| Socket { uid: self.sidecar, gid });
        }
        match (packet.direction, redirected) {
            (Direction::Outbound, Some(_)) => answer.out_interface = Some(self.loopback.clone()),
            (Direction::Outbound, None) if to_lo => answer.out_interface = Some(self.loopback.clone()),
            (Direction::Outbound, None) => arrive(&mut answer, Direction::Inbound, packet.out_interface.clone(), None),
            (Direction::Forwarded, None) => {
                arrive(&mut answer, Direction::Forwarded, packet.out_interface.clone(), packet.in_interface.clone())
            }
            (Direction::Inbound, _) | (Direction::Forwarded, Some(_)) => {
                answer.out_interface.clone_from(&packet.in_interface);
            }
        }
        answer
    }
}

/// Makes a packet one that arrives.
fn arrive<F: Family>(
    packet: &mut Packet<F>,
    direction: Direction,
    input: Option<InterfaceName>,
    output: Option<InterfaceName>,
) {
    packet.direction = direction;
    packet.socket = None;
    packet.in_interface = input;
    packet.out_interface = output;
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.packet {
            AnyPacket::V4(packet) => self.write(packet, f),
            AnyPacket::V6(packet) => self.write(packet, f),
        }
    }
}

impl Explanation<'_> {
    /// Says who asked for what the deciding rule does, behind its key: `annotation traffic.kuma.io/exclude-outbound-ports`. In JSON
    /// that is `askedBy`.
    pub fn asked_by(self, who: impl Into<String>) -> Self {
        Self { asked_by: Some(who.into()), ..self }
    }

    fn write<F: Family>(&self, packet: &Packet<F>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_subject(packet, f)?;
        match (&self.request.verdict, self.listener) {
            (Verdict::Delivered, _) => f.write_str(" is not redirected.")?,
            (Verdict::Redirected { port }, Some(listener)) => write!(f, " is redirected to port {port}, {listener}.")?,
            (Verdict::Redirected { port }, None) => write!(f, " is redirected to port {port}.")?,
            (Verdict::Dropped, _) => f.write_str(" is dropped.")?,
            (Verdict::Established, _) => f.write_str(" follows its connection, which was decided when it began.")?,
            (Verdict::Undecided { reason }, _) => write!(f, " is undecided: {reason}.")?,
        }
        match self.request.deciding() {
            Some(step) => {
                let undecided = matches!(self.request.verdict, Verdict::Undecided { .. });
                self.write_decision(step, if undecided { "is where it stops" } else { "decides" }, f)?;
            }
            None if self.request.verdict == Verdict::Delivered => f.write_str(" No rule matches it.")?,
            None => {}
        }
        if self.request.zone != 0 {
            write!(f, " It is tracked in zone {}.", self.request.zone)?;
        }
        match self.reply.as_ref().map(|reply| &reply.arrival) {
            None => Ok(()),
            Some(Arrival::AsSent) => f.write_str(" Replies are not translated."),
            Some(Arrival::TranslatedBack) => {
                f.write_str(match self.sockets {
                    false => " Replies are translated back: the client sees ",
                    true => " Nothing is translated: the client sees ",
                })?;
                write_end::<F>(packet.protocol, packet.destination, packet.destination_port, f)?;
                f.write_str(match self.sockets {
                    false => " as their source.",
                    true => " as the source of replies.",
                })
            }
            Some(Arrival::Lost { reason }) => write!(f, " Replies do not arrive: {reason}."),
            Some(Arrival::Undecided { reason }) => write!(f, " Whether replies arrive is not known: {reason}."),
        }
    }

    fn write_decision(&self, step: &Step<'_>, does: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match step.number() {
            Some(number) => write!(f, " Rule {number} of {} in {} {does}", step.chain(), step.table())?,
            None => write!(f, " {} in {} {does}", step.chain(), step.table())?,
        }
        match (step.purpose(), step.key(), &self.asked_by) {
            (Some(words), Some(key), Some(who)) => write!(f, ": {words} ({key}, {who})."),
            (Some(words), Some(key), None) => write!(f, ": {words} ({key})."),
            (Some(words), None, _) => write!(f, ": {words}."),
            (None, Some(key), Some(who)) => write!(f, ", as {key} asks ({who})."),
            (None, Some(key), None) => write!(f, ", as {key} asks."),
            (None, None, _) => match step.rule() {
                Some(rule) => write!(f, ": {rule}."),
                None => f.write_char('.'),
            },
        }
    }
}

fn write_subject<F: Family>(packet: &Packet<F>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let dns = packet.protocol == IpProtocol::Udp && packet.destination_port == Port::DNS;
    match (packet.protocol, packet.tracking) {
        (IpProtocol::Tcp, Tracking::New) => f.write_str("A TCP connection")?,
        (IpProtocol::Tcp, Tracking::MidStream) => {
            f.write_str("A TCP packet from the middle of a connection that is not known, and")?;
        }
        (IpProtocol::Tcp, Tracking::Lost) => {
            f.write_str("A TCP packet of a connection that is open, but no longer known, and")?;
        }
        (IpProtocol::Tcp, Tracking::LostAnswer) => {
            f.write_str("A TCP packet that answers on a connection that is open, but no longer known, and")?;
        }
        (IpProtocol::Tcp, Tracking::Reused) => {
            f.write_str("A TCP connection whose addresses and ports an older one has that is not translated, and")?;
        }
        (_, Tracking::New) if dns => f.write_str("A DNS query")?,
        (IpProtocol::Tcp, tracking) => write!(f, "A TCP packet ({})", tracking.name())?,
        (IpProtocol::Udp, Tracking::New) => f.write_str("A UDP packet")?,
        (IpProtocol::Udp, tracking) => write!(f, "A UDP packet ({})", tracking.name())?,
        (IpProtocol::Other(_), Tracking::New) => write!(f, "A packet of protocol {}", packet.protocol)?,
        (IpProtocol::Other(_), tracking) => {
            write!(f, "A packet of protocol {} ({})", packet.protocol, tracking.name())?
        }
    }
    let end = |addr, port, f: &mut fmt::Formatter<'_>| write_end::<F>(packet.protocol, addr, port, f);
    let by = |f: &mut fmt::Formatter<'_>, words: &str, interface: &Option<InterfaceName>| match interface {
        Some(interface) => write!(f, "{words}{interface}"),
        None => Ok(()),
    };
    match packet.direction {
        Direction::Outbound => {
            let opens = packet.protocol == IpProtocol::Tcp && packet.tracking.opens();
            let verb = if opens { "opens" } else { "sends" };
            match packet.socket {
                Some(Socket { uid, gid }) if uid.number() == gid.number() => write!(f, " that uid {uid} {verb} to ")?,
                Some(Socket { uid, gid }) => write!(f, " that uid {uid} with gid {gid} {verb} to ")?,
                None => write!(f, " that the kernel itself {verb} to ")?,
            }
            end(packet.destination, packet.destination_port, f)?;
            if packet.out_interface.as_ref().is_some_and(|interface| interface.as_str() != "eth0") {
                by(f, " by ", &packet.out_interface)?;
            }
        }
        Direction::Inbound | Direction::Forwarded => {
            by(f, " that comes in by ", &packet.in_interface)?;
            f.write_str(" from ")?;
            end(packet.source, packet.source_port, f)?;
            f.write_str(" for ")?;
            end(packet.destination, packet.destination_port, f)?;
            if packet.direction == Direction::Forwarded {
                f.write_str(" on another host")?;
            }
        }
    }
    Ok(())
}

fn write_end<F: Family>(protocol: IpProtocol, addr: F::Addr, port: Port, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match (protocol, F::NAME) {
        (IpProtocol::Other(_), _) => write!(f, "{addr}"),
        (_, FamilyName::V4) => write!(f, "{addr}:{port}"),
        (_, FamilyName::V6) => write!(f, "[{addr}]:{port}"),
    }
}

impl Serialize for Explanation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Explanation", 5)?;
        object.serialize_field("summary", &self.to_string())?;
        object.serialize_field("packet", &self.packet)?;
        object.serialize_field("request", &self.request)?;
        match &self.reply {
            Some(reply) => object.serialize_field("reply", reply)?,
            None => object.skip_field("reply")?,
        }
        match &self.asked_by {
            Some(who) => object.serialize_field("askedBy", who)?,
            None => object.skip_field("askedBy")?,
        }
        object.end()
    }
}

impl Serialize for Reply<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Members<'a, 'r> {
            packet: &'a AnyPacket,
            outcome: &'a Outcome<'r>,
            #[serde(flatten)]
            arrival: &'a Arrival,
        }
        Members { packet: &self.packet, outcome: &self.outcome, arrival: &self.arrival }.serialize(serializer)
    }
}

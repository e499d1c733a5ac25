use super::{Context, Queries};
use crate::model::{BuiltinChain, Chain, Match, Rule, Table, TableName, Target, Transport};
use crate::net::{Cidr, Family, Port};

const KEY: &str = "redirect.dns.skipConntrackZoneSplit";

/// The zone of queries between the sidecar and the real servers.
pub(super) const UPSTREAM: Target = Target::Zone { zone: 1 };

/// The zone of queries between the workload and the sidecar.
const WORKLOAD: Target = Target::Zone { zone: 2 };

/// A workload may ask from the very address and port that the sidecar then asks the same server
/// from. Tracked together, the two would be one connection, and the sidecar's query would be sent
/// back to the sidecar. So each is tracked in a zone of its own.
pub(super) fn table<F: Family>(context: &Context<'_, F>) -> Table<F> {
    let mut prerouting = Chain::builtin(BuiltinChain::Prerouting);
    let mut output = Chain::builtin(BuiltinChain::Output);
    if context.dns.zones {
        let sidecar = context.facts.sidecar_uid;
        let query = || Transport::udp().to_port(Port::DNS);
        let answer = || Transport::udp().from_port(Port::DNS);
        let rule = |target: &Target, words: &str| Rule::new(target.clone()).comment(words).because(KEY);
        output
            .push(rule(&UPSTREAM, "track DNS queries of the sidecar in zone 1").with(query()).with(Match::by(sidecar)));
        output.push(
            rule(&WORKLOAD, "track DNS answers of the sidecar in zone 2")
                .with(Transport::udp().from_port(context.config.redirect.dns.port))
                .with(Match::by(sidecar)),
        );
        match &context.dns.queries {
            Queries::None => {}
            Queries::All => {
                output.push(rule(&WORKLOAD, "track DNS queries of the workload in zone 2").with(query()));
                prerouting.push(rule(&UPSTREAM, "track answers of DNS servers in zone 1").with(answer()));
            }
            Queries::To(servers) => {
                for server in servers {
                    output.push(
                        server
                            .asked(rule(&WORKLOAD, "track DNS queries of the workload to this server in zone 2"))
                            .with(query()),
                    );
                    if is_loopback(&server.addr) {
                        // Its answers never pass PREROUTING with port 53: Docker's server, for one,
                        // answers from a port of its own.
                        output.push(
                            rule(&UPSTREAM, "track answers of this local DNS server in zone 1")
                                .with(Match::from(server.addr.clone()))
                                .with(Match::to(F::localhost()))
                                .with(Transport::udp()),
                        );
                    }
                    prerouting.push(
                        server.answering(rule(&UPSTREAM, "track answers of this DNS server in zone 1")).with(answer()),
                    );
                }
            }
        }
    }
    Table::new(TableName::Raw, [prerouting, output])
}

fn is_loopback<F: Family>(server: &Cidr<F>) -> bool {
    let addr: std::net::IpAddr = server.addr().into();
    addr.is_loopback()
}

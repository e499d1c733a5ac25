//! What the kernel's refusals mean.

use nix::errno::Errno;

use crate::engine::messages::{in_use, leftover};
use crate::error::Error;
use crate::net::FamilyName;
use crate::netlink::{Failure, Finished, Object, Socket, Stop};
use crate::nftables::{Native, table_name};
use crate::render::nft;

pub(super) use crate::engine::messages::not_permitted;

/// How sending a batch went, if nothing was wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It was carried out.
    Done,
    /// The rules are of another generation than the batch was made for. Nothing was carried out.
    Changed,
    /// It may have been carried out, or not.
    Unknown,
}

/// Sends a batch that is to be carried out. The rules are named from `native`.
pub(super) fn send(socket: &mut Socket, batch: &Finished, native: Option<&Native>) -> Result<Attempt, Error> {
    let outcome = match socket.send(batch) {
        Ok(outcome) => outcome,
        Err(Stop::Unknown) => return Ok(Attempt::Unknown),
        Err(stop) => return Err(stop.into()),
    };
    if outcome.failures.iter().any(|failure| failure.errno == RESTART) {
        return Ok(Attempt::Changed);
    }
    match outcome.failures.first() {
        None => Ok(Attempt::Done),
        Some(first) => Err(explain(first, outcome.failures.len() - 1, native)),
    }
}

/// `ERESTART`, which the kernel answers if the generation is another. It is meant for the kernel's own
/// use, so the libraries do not name it on all machines.
const RESTART: i32 = 85;

/// An error about a message of a batch.
pub(super) fn explain(failure: &Failure, more: usize, native: Option<&Native>) -> Error {
    let errno = Errno::from_raw(failure.errno);
    let what = name(failure.object.as_ref(), native);
    match (errno, &failure.object, &failure.expression) {
        (Errno::EPERM, Some(Object::Batch), _) => return not_permitted(),
        (Errno::EPERM, ..) => {
            return Error::Conflict {
                problem: format!("{what} is owned by another process (nft table flag 'owner')"),
                remedy: "stop that process, or have it remove the table".to_owned(),
            };
        }
        (Errno::EBUSY, Some(Object::Leftover { .. }), _) => {
            return in_use(&what);
        }
        (Errno::EOPNOTSUPP, Some(Object::Batch), _) => return Stop::Missing.into(),
        (Errno::ENOENT | Errno::EOPNOTSUPP, Some(Object::Rule { .. }), Some(expression)) => {
            return Error::Unsupported {
                what: format!("the nf_tables expression '{expression}' in this kernel, needed for {what},"),
                remedy: format!(
                    "load the kernel module nft_{expression}, use a kernel that has it (CONFIG_NFT_{}), or use the engine iptables",
                    expression.to_ascii_uppercase()
                ),
            };
        }
        (Errno::ENOENT | Errno::EOPNOTSUPP, Some(Object::Chain { .. } | Object::Table { .. }), _) => {
            return Error::Unsupported {
                what: format!("a part of nf_tables in this kernel, needed for {what}"),
                remedy: "load the kernel modules nf_tables and nft_chain_nat (nft_chain_nat_ipv4 and nft_chain_nat_ipv6 before Linux 5.1), use a kernel that has them (CONFIG_NF_TABLES, CONFIG_NFT_NAT), or use the engine iptables".to_owned(),
            };
        }
        _ => {}
    }
    let mut message = errno.desc().to_owned();
    if let Some(said) = &failure.message {
        message = format!("{message}: {said}");
    }
    if more > 0 {
        message = format!("{message} (and {more} more failed)");
    }
    let verb = if matches!(failure.object, Some(Object::Leftover { .. })) { "remove" } else { "make" };
    Error::Os { action: format!("{verb} {what}"), message, errno: Some(failure.errno) }
}

/// What a message is about, as text.
fn name(object: Option<&Object>, native: Option<&Native>) -> String {
    let table = |family: &FamilyName| table_name(*family);
    match object {
        Some(Object::Table { family }) => format!("the table {}", table(family)),
        Some(Object::Chain { family, chain }) => format!("the chain {chain} of the table {}", table(family)),
        Some(Object::Set { family, set }) => format!("the set {set} of the table {}", table(family)),
        Some(Object::Leftover { family, table, chain }) => leftover(*family, table, chain),
        Some(Object::Rule { family, chain, index }) => {
            let tables = native.into_iter().flat_map(Native::tables);
            let rule =
                tables.filter(|table| table.family == *family).find_map(|table| table.chain(chain)?.rules.get(*index));
            let origin =
                rule.and_then(|rule| rule.origin()).map(|origin| format!(", from {origin},")).unwrap_or_default();
            let text = rule.map(|rule| nft::rule(rule, *family)).unwrap_or_else(|| format!("number {}", index + 1));
            format!("the rule '{text}'{origin} in the chain {chain} of the table {}", table(family))
        }
        _ => "the nf_tables rules".to_owned(),
    }
}

/// Others change the rules faster than we can read them.
pub(super) fn restless() -> Error {
    Error::Conflict {
        problem: "other programs keep changing the nf_tables rules of this network namespace".to_owned(),
        remedy: "find out which do (nft monitor), or try again".to_owned(),
    }
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Missing => Self::Unsupported {
                what: "nf_tables in this kernel".to_owned(),
                remedy: "load the kernel module nf_tables, use a kernel that has it (CONFIG_NF_TABLES, Linux 5.10 or later), or use the engine iptables".to_owned(),
            },
            Stop::System(_, Errno::EPERM) => not_permitted(),
            Stop::System(action, errno) => Self::io(action, &errno.into()),
            Stop::TooLong(bytes) => Self::Unsupported {
                what: format!("a batch of {bytes} bytes, which does not fit a socket's send buffer,"),
                remedy: format!(
                    "raise net.core.wmem_max to {bytes}, run with CAP_NET_ADMIN outside of user namespaces, or list fewer exclusions"
                ),
            },
            Stop::Unknown => Self::Os {
                action: "tell whether the kernel has carried out a change of nf_tables rules".to_owned(),
                message: "its answer was lost".to_owned(),
                errno: Some(Errno::ENOBUFS as i32),
            },
            Stop::Restless => restless(),
            Stop::Invalid(invalid) => {
                Self::Os { action: "read nf_tables rules".to_owned(), message: invalid.to_string(), errno: None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Uid;

    fn said(errno: Errno, object: Object, expression: Option<&str>) -> Error {
        let mut failure = Failure::default();
        failure.errno = errno as i32;
        failure.object = Some(object);
        failure.expression = expression.map(str::to_owned);
        failure.message = Some("the kernel's words".to_owned());
        let plan = crate::policy::plan(&Default::default(), &crate::facts::Facts::capable_host(Uid::SIDECAR));
        explain(&failure, 2, Some(&Native::of(&plan.unwrap())))
    }

    fn rule() -> Object {
        Object::Rule { family: FamilyName::V6, chain: "KUMA_MESH_OUTBOUND_REDIRECT".to_owned(), index: 1 }
    }

    #[test]
    fn refusals_name_what_is_concerned_and_what_to_do() {
        assert!(
            matches!(said(Errno::EPERM, Object::Batch, None), Error::Permission { needed, .. } if needed.contains("CAP_NET_ADMIN"))
        );
        let table = Object::Table { family: FamilyName::V4 };
        assert!(
            matches!(said(Errno::EPERM, table, None), Error::Conflict { problem, .. } if problem.contains("ip kuma-mesh"))
        );
        assert!(
            matches!(said(Errno::EOPNOTSUPP, Object::Batch, None), Error::Unsupported { what, .. } if what == "nf_tables in this kernel")
        );
        let text = said(Errno::ENOENT, rule(), Some("redir")).to_string();
        for words in [
            "'redir'",
            "nft_redir",
            "CONFIG_NFT_REDIR",
            "the engine iptables",
            "meta l4proto tcp redirect to :15001",
            "ip6 kuma-mesh",
            "redirect.outbound.port",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let error = said(Errno::EEXIST, rule(), None);
        assert_eq!(error.errno(), Some(Errno::EEXIST as i32));
        assert!(error.to_string().contains("the kernel's words (and 2 more failed)"), "{error}");
        let long = Error::from(Stop::TooLong(300_000)).to_string();
        assert!(long.contains("300000 bytes") && long.contains("net.core.wmem_max"), "{long}");
    }
}

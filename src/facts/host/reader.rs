//! The only reader of the host.

use std::io;
use std::path::Path;

use super::ipv6;
use super::users::{self, PasswdScan};
use crate::error::{Error, visible};
use crate::facts::{Facts, HostAbilities, Ipv6, Request, Resolvers};
use crate::files;
use crate::model::Note;
use crate::net::{InterfacePattern, Uid};
use crate::netlink::Kernel;
use crate::netns::{self, Namespace};

/// The user that the sidecar runs as where nobody says another.
const DEFAULT_USER: &str = "kuma-dp";

/// Looks at the host, in the network namespace of the calling thread, for the facts that are asked
/// for. What the engine can do comes from the engine. Reads only.
///
/// # Errors
/// [`Error::Facts`] if the sidecar's user cannot be told, [`Error::Os`] if the file that lists the
/// name servers cannot be read.
pub fn probe(request: &Request, abilities: HostAbilities) -> Result<Facts, Error> {
    probe_by(&mut Kernel::default(), request, abilities)
}

/// The same in the middle of an operation.
pub(crate) fn probe_by(kernel: &mut Kernel, request: &Request, abilities: HostAbilities) -> Result<Facts, Error> {
    gather(request, abilities, network(kernel, request.ipv6))
}

/// The same in another network namespace, if one is given: its loopback interface and its IPv6 addresses. Users and
/// the file that lists the name servers are the caller's, as they belong to the mount namespace; which
/// file was read is in [`Resolvers::path`].
///
/// # Errors
/// As with [`probe`], and if the caller may not enter the namespace.
pub fn probe_in(namespace: Option<&Namespace>, request: &Request, abilities: HostAbilities) -> Result<Facts, Error> {
    let network = netns::run(namespace, || Ok(network(&mut Kernel::default(), request.ipv6)))?;
    gather(request, abilities, network)
}

fn gather(request: &Request, abilities: HostAbilities, network: Network) -> Result<Facts, Error> {
    let HostAbilities { v4, v6, v6_refused, v6_only_with_address, mut remarks } = abilities;
    let sidecar_uid = sidecar(request, &mut remarks)?;
    let resolvers = request.resolv_conf.as_deref().map(resolvers).transpose()?;
    remarks.extend(network.remarks);
    let ipv6 = network.ipv6.by_engine(v6_refused, v6_only_with_address);
    Ok(Facts { sidecar_uid, loopback: network.loopback, resolvers, ipv6, v4, v6, remarks })
}

/// What belongs to a network namespace.
struct Network {
    loopback: InterfacePattern,
    ipv6: Ipv6,
    remarks: Vec<Note>,
}

/// Looks at the network namespace of the calling thread.
fn network(kernel: &mut Kernel, ipv6_wanted: bool) -> Network {
    let mut remarks = Vec::new();
    let loopback = match loopback_by(kernel) {
        Ok((name, _)) => name,
        Err(error) => {
            remarks.push(Note::info("loopback", format!("taken to be lo: {error}")));
            InterfacePattern::lo()
        }
    };
    let ipv6 = match ipv6_wanted {
        true => match ipv6::look(kernel, &mut remarks) {
            Ipv6::Usable | Ipv6::LinkLocal if is_off_on(&loopback) => Ipv6::Unusable { reason: off_alone(&loopback) },
            found => found,
        },
        false => Ipv6::Unusable { reason: "nobody asked for it".into() },
    };
    Network { loopback, ipv6, remarks }
}

/// The loopback interface of the network namespace of the calling thread, and its index: the first
/// one, by index, that the kernel flags as loopback. It need not be up.
///
/// # Errors
/// [`Error::Os`] if the interfaces cannot be listed or none of them is loopback.
pub fn loopback() -> Result<(InterfacePattern, u32), Error> {
    loopback_by(&mut Kernel::default())
}

/// The same in the middle of an operation.
pub(crate) fn loopback_by(kernel: &mut Kernel) -> Result<(InterfacePattern, u32), Error> {
    let all = kernel.interfaces().map_err(|errno| Error::io("list the network interfaces", &errno.into()))?;
    match &all.loopback {
        Some(link) => Ok((link.name.clone(), link.index)),
        None => Err(Error::Os {
            action: "find the loopback interface".into(),
            message: "no interface is flagged as loopback".into(),
            errno: None,
        }),
    }
}

fn resolvers(path: &Path) -> Result<Resolvers, Error> {
    let bytes = files::read(path, 0, files::LONGEST)
        .map_err(|error| Error::io(format!("read the name servers from {}", path.display()), &error))?;
    Ok(Resolvers::parse(path, &String::from_utf8_lossy(&bytes)))
}

/// The uid that the sidecar runs as.
fn sidecar(request: &Request, remarks: &mut Vec<Note>) -> Result<Uid, Error> {
    let unknown =
        |problem: String, remedy: &str| Err(Error::Facts { fact: "kumaDPUser".into(), problem, remedy: remedy.into() });
    let given = request.user.as_deref().map(str::trim).filter(|user| !user.is_empty());
    if request.cni {
        // The user database is the host's, not the workload's.
        return match given.map(str::parse::<Uid>) {
            None => Ok(Uid::SIDECAR),
            Some(Ok(uid)) => Ok(uid),
            Some(Err(_)) => unknown(
                format!("'{}' is not a uid, and in CNI mode no user is looked up", visible(given.unwrap_or_default())),
                "give the number of the user",
            ),
        };
    }
    let Some(given) = given else {
        return match default_user()? {
            Some(uid) => Ok(uid),
            None => unknown(
                format!("neither a user with the uid {} nor one with the name '{DEFAULT_USER}' exists", Uid::SIDECAR),
                "create one of them, or name the user that the sidecar runs as (--kuma-dp-user)",
            ),
        };
    };
    if let Ok(uid) = given.parse::<Uid>() {
        match users::by_number(uid, given) {
            Ok(found) if found.has_uid => {}
            // A name may be all digits.
            Ok(PasswdScan { named: Some(uid), .. }) => return Ok(uid),
            // A number is an answer.
            Ok(_) => {
                let text = format!("no user with uid {uid} is in /etc/passwd; using it anyway");
                remarks.push(Note::info("kumaDPUser", text));
            }
            Err(_) => {}
        }
        return Ok(uid);
    }
    match users::by_name(given).map_err(|error| unread(&error))? {
        Some(uid) => Ok(uid),
        None => unknown(
            format!("no user '{}' exists", visible(given)),
            "create it, or name another user or a uid (--kuma-dp-user)",
        ),
    }
}

fn default_user() -> Result<Option<Uid>, Error> {
    users::by_uid_or_name(Uid::SIDECAR, DEFAULT_USER).map_err(|error| unread(&error))
}

/// That the users of this host are not known.
fn unread(error: &io::Error) -> Error {
    Error::io("look for the sidecar's user in /etc/passwd", error)
}

/// Whether IPv6 is off on an interface. What cannot be read, the kernel says when an address is added.
fn is_off_on(interface: &InterfacePattern) -> bool {
    let setting = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"));
    setting.is_ok_and(|value| value.trim() != "0")
}

fn off_alone(loopback: &InterfacePattern) -> String {
    format!(
        "it is off on {loopback}, so nothing can be redirected, and on for other interfaces, whose connections go past the \
         sidecar; set net.ipv6.conf.{loopback}.disable_ipv6 to 0, or net.ipv6.conf.all.disable_ipv6 to 1"
    )
}

/// Whether the network namespace of the calling thread has no IPv6 address at all and can have none on loopback.
pub(crate) fn ipv6_is_off(kernel: &mut Kernel) -> bool {
    let off = loopback_by(kernel).is_ok_and(|(name, _)| is_off_on(&name));
    off && !matches!(ipv6::look(kernel, &mut Vec::new()), Ipv6::Usable | Ipv6::LinkLocal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Severity;

    fn request(user: Option<&str>, cni: bool) -> Request {
        Request { user: user.map(Into::into), cni, ..Request::default() }
    }

    fn user(user: Option<&str>, cni: bool) -> Result<u32, String> {
        sidecar(&request(user, cni), &mut Vec::new()).map(Uid::number).map_err(|error| error.to_string())
    }

    #[test]
    fn users_are_looked_up_as_uid_and_then_by_name() {
        assert_eq!(user(Some("root"), false), Ok(0));
        assert_eq!(user(Some(" 0 "), false), Ok(0));
        assert!(user(Some("no-such-user"), false).unwrap_err().contains("no-such-user"));
        assert!(user(Some("-1"), false).unwrap_err().contains("-1"));
    }

    #[test]
    fn an_unknown_uid_is_used_without_a_warning() {
        let mut remarks = Vec::new();
        assert_eq!(sidecar(&request(Some("4294967000"), false), &mut remarks).unwrap().number(), 4_294_967_000);
        assert!(remarks[0].severity == Severity::Info && remarks[0].text.contains("4294967000"));
    }

    #[test]
    fn a_plugin_never_looks_a_user_up() {
        assert_eq!(user(None, true), Ok(5678));
        assert_eq!(user(Some("4294967000"), true), Ok(4_294_967_000));
        assert!(user(Some("root"), true).unwrap_err().contains("'root'"));
    }

    #[test]
    fn without_a_user_the_error_names_both_candidates() {
        match default_user().unwrap() {
            Some(uid) => assert_eq!(user(None, false), Ok(uid.number())),
            None => {
                let error = user(None, false).unwrap_err();
                assert!(error.contains("5678") && error.contains("kuma-dp"), "{error}");
            }
        }
    }

    #[test]
    fn a_missing_resolv_conf_is_named() {
        let mut request = request(Some("0"), false);
        request.resolv_conf = Some("/nonexistent/resolv.conf".into());
        let error = probe(&request, HostAbilities::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/resolv.conf"), "{error}");
    }

    #[test]
    fn refused_ipv6_matters_only_where_there_is_some() {
        let mut request = request(Some("0"), false);
        request.ipv6 = true;
        let refusal = ("no program".to_owned(), "install one".to_owned());
        let facts = probe(&request, HostAbilities { v6_refused: Some(refusal), ..HostAbilities::default() }).unwrap();
        assert_eq!(facts.loopback, InterfacePattern::lo());
        match ipv6::look(&mut Kernel::default(), &mut Vec::new()) {
            Ipv6::Usable => assert!(matches!(facts.ipv6, Ipv6::Refused { .. })),
            _ => assert!(matches!(facts.ipv6, Ipv6::Unusable { .. }), "{:?}", facts.ipv6),
        }
    }
}

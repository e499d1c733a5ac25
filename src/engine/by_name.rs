//! The engine behind a name: the one place that chooses.

use super::contract::Engine;
#[cfg(feature = "ebpf")]
use super::ebpf::Ebpf;
use super::iptables::Iptables;
#[cfg(not(feature = "ebpf"))]
use super::messages;
use super::netlink::Netlink;
use crate::error::Error;
use crate::model::EngineName;
use crate::netns::Namespace;

/// The engine of this name, in another network namespace if one is given; the caller's thread stays where it is.
///
/// # Errors
/// [`Error::Unsupported`] if it is not part of this build.
pub fn by_name(name: EngineName, namespace: Option<Namespace>) -> Result<Box<dyn Engine>, Error> {
    let namespace = namespace.into_iter();
    Ok(match name {
        EngineName::Iptables => Box::new(namespace.fold(Iptables::default(), Iptables::in_namespace)),
        EngineName::Netlink => Box::new(namespace.fold(Netlink::default(), Netlink::in_namespace)),
        #[cfg(feature = "ebpf")]
        EngineName::Ebpf => Box::new(namespace.fold(Ebpf::default(), Ebpf::in_namespace)),
        #[cfg(not(feature = "ebpf"))]
        EngineName::Ebpf => return Err(messages::without_ebpf()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_engine() {
        for name in EngineName::ALL {
            match by_name(name, None) {
                Ok(engine) => assert_eq!(engine.name(), name),
                Err(error) => assert!(!cfg!(feature = "ebpf") && matches!(error, Error::Unsupported { .. }), "{error}"),
            }
        }
    }
}

//! What an installation for IPv4 alone leaves open.

use super::Report;
use crate::facts::look_for_ipv6;
use crate::model::{IpFamilyMode, Note, Plan};
use crate::netlink::Kernel;

/// Says what goes past the sidecar in the network namespace of the calling thread, if the plan leaves IPv6 alone because it was
/// told to. Where the facts are the reason, the plan says it.
pub(super) fn note(plan: &Plan, report: &mut Report) {
    if plan.options.ip_family_mode != IpFamilyMode::Ipv4 {
        return;
    }
    // What cannot be looked at is taken to be there.
    if let Some(open) = look_for_ipv6(&mut Kernel::default(), &mut Vec::new()).left_open() {
        let text = format!(
            "IPv6 is left alone, as the mode is 'ipv4': {open}; set it to 'dualstack', or switch IPv6 off (net.ipv6.conf.all.disable_ipv6=1)"
        );
        report.notes.push(Note::warning("ipFamilyMode", text));
    }
}

//! What the engine would install, as text.

use std::fmt::Display;

use crate::ebpf::{self, Paths, outline};
use crate::engine::ebpf_unsupported;
use crate::error::Error;
use crate::model::{DnsServers, Owner, Plan, RedirectedPorts, SocketPlan};

/// What an installation of this plan would attach, and what the programs would be told, as text. Asks no host: on one,
/// its addresses come to what the programs are told.
///
/// # Errors
/// [`Error::Unsupported`] if the plan asks for what the engine cannot do.
///
/// ```
/// use kumatp::engine::ebpf;
/// # use kumatp::{Config, Facts, net::Uid, policy};
///
/// let plan = policy::plan(&Config::default(), &Facts::capable_host(Uid::SIDECAR))?;
/// assert!(ebpf::preview(&plan)?.contains("connections go to port 15001"));
/// # Ok::<(), kumatp::Error>(())
/// ```
pub fn preview(plan: &Plan) -> Result<String, Error> {
    ebpf_unsupported::refuse(plan)?;
    let (sockets, options) = (&plan.sockets, &plan.options);
    let outline = outline(sockets);
    let bpffs = options.bpffs.clone().unwrap_or_else(|| Paths::default().bpffs);
    let cgroup = match &options.cgroup {
        Some(path) => path.display().to_string(),
        None => "that all processes are in".to_owned(),
    };
    let mut text = Lines::default();
    text.add(0, format!("programs, pinned by their links in {}", ebpf::directory(&bpffs).display()));
    text.add(1, format!("at the cgroup {cgroup}: {}", outline.at_cgroup.join(", ")));
    text.add(1, format!("at the network namespace: {}", outline.at_netns.join(", ")));
    text.add(0, "what they are told");
    let families = if sockets.ipv6 { "IPv4 and IPv6" } else { "IPv4" };
    text.add(1, format!("families: {families}"));
    text.add(1, format!("sidecar: uid {}", sockets.sidecar));
    outbound(sockets, &mut text);
    inbound(sockets, &mut text);
    dns(sockets, &mut text);
    text.add(0, "maps, with this host's addresses still to come");
    for (name, elements) in outline.maps {
        text.add(1, format!("{name}: {elements} {}", if elements == 1 { "element" } else { "elements" }));
    }
    Ok(text.0)
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, depth: usize, line: impl AsRef<str>) {
        self.0.push_str(&"  ".repeat(depth));
        self.0.push_str(line.as_ref());
        self.0.push('\n');
    }

    /// A line for a list, unless it is empty.
    fn list<T: Display>(&mut self, words: &str, items: &[T]) {
        if !items.is_empty() {
            let items: Vec<_> = items.iter().map(T::to_string).collect();
            self.add(2, format!("{words} {}", items.join(", ")));
        }
    }

    fn ports(&mut self, ports: &RedirectedPorts) {
        match ports {
            RedirectedPorts::Only(ports) => self.add(2, format!("only ports {ports}")),
            RedirectedPorts::AllBut(ports) if ports.is_empty() => {}
            RedirectedPorts::AllBut(ports) => self.add(2, format!("except ports {ports}")),
        }
    }
}

fn outbound(plan: &SocketPlan, text: &mut Lines) {
    let Some(ports) = &plan.outbound else {
        return text.add(1, "outbound: connections go where they are sent");
    };
    text.add(1, format!("outbound: connections go to port {}", plan.listeners.outbound));
    text.ports(ports);
    text.list("only to", &plan.included_destinations);
    text.list("except to", &plan.excluded_destinations);
    let (users, groups): (Vec<_>, Vec<_>) =
        plan.excluded_owners.iter().partition(|exclusion| matches!(exclusion.owner, Owner::Uid(_)));
    text.list("except by users, protocols:ports:uids", &users);
    text.list("except by groups, protocols:ports:gids", &groups);
}

fn inbound(plan: &SocketPlan, text: &mut Lines) {
    let Some(ports) = &plan.inbound else {
        return text.add(1, "inbound: connections go where they are sent");
    };
    text.add(1, format!("inbound: connections go to the listener of port {}", plan.listeners.inbound));
    text.ports(ports);
    text.list("except from", &plan.excluded_sources);
}

fn dns(plan: &SocketPlan, text: &mut Lines) {
    let port = plan.listeners.dns;
    match plan.dns.as_ref().map(|dns| &dns.servers) {
        None => text.add(1, "DNS: queries go where they are sent"),
        Some(DnsServers::All) => text.add(1, format!("DNS: every query goes to port {port}")),
        Some(DnsServers::These(servers)) => {
            text.add(1, format!("DNS: queries to some servers go to port {port}"));
            text.list("which are", servers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::facts::Facts;
    use crate::net::Uid;

    fn of(change: fn(&mut Config)) -> Result<String, Error> {
        let mut config = Config::default();
        change(&mut config);
        preview(&crate::policy::plan(&config, &Facts::capable_host(Uid::SIDECAR)).unwrap())
    }

    #[test]
    fn everything_is_told() {
        let text = of(|config| {
            config.ebpf.bpffs = Some("/mnt/bpf".into());
            config.ebpf.cgroup = Some("/sys/fs/cgroup/workload".into());
            config.redirect.inbound.exclude_ports = "22,8000-8100".parse().unwrap();
            config.redirect.inbound.exclude_ips = vec!["192.0.2.0/24".parse().unwrap()];
            config.redirect.outbound.include_ports = "80".parse().unwrap();
            config.redirect.outbound.exclude_ips =
                vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
            config.redirect.outbound.exclude_ports_for_uids = vec!["tcp:22:1000-1001".parse().unwrap()];
            config.redirect.dns.enabled = true;
            config.redirect.dns.capture_all = true;
        });
        let expected = "\
programs, pinned by their links in /mnt/bpf/kumatp/(cookie of the network namespace)
  at the cgroup /sys/fs/cgroup/workload: sockops, cgroup/getsockopt, cgroup/getpeername4, cgroup/getpeername6, \
cgroup/recvmsg4, cgroup/recvmsg6, cgroup/sendmsg4, cgroup/sendmsg6, cgroup/connect4, cgroup/connect6
  at the network namespace: sk_lookup
what they are told
  families: IPv4 and IPv6
  sidecar: uid 5678
  outbound: connections go to port 15001
    only ports 80
    except to 10.0.0.0/8, 2001:db8::/32
    except by users, protocols:ports:uids tcp:22:1000-1001
  inbound: connections go to the listener of port 15006
    except ports 22,8000-8100
    except from 192.0.2.0/24
  DNS: every query goes to port 15053
maps, with this host's addresses still to come
  settings: 1 element
  networks: 9 elements
  owners: 1 element
  owner_ports: 1 element
";
        assert_eq!(text.unwrap(), expected);
    }

    #[test]
    fn what_the_engine_cannot_do_is_refused() {
        let error = of(|config| config.log.enabled = true).unwrap_err().to_string();
        assert!(error.starts_with("log.enabled"), "{error}");
    }
}

//! What the engine would install, as text for people.

use std::fmt::Display;

use crate::config::Config;
use crate::ebpf::{self, Paths, outline};
use crate::engine::ebpf_unsupported;
use crate::error::Error;
use crate::model::Plan;
use crate::net::PortSet;

/// What an installation of this plan would attach, and what the programs would be told, as text for people. Asks no host: on one,
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
    let config = &plan.config;
    let outline = outline(plan);
    let bpffs = config.ebpf.bpffs.clone().unwrap_or_else(|| Paths::default().bpffs);
    let cgroup = match &config.ebpf.cgroup {
        Some(path) => path.display().to_string(),
        None => "that all processes are in".to_owned(),
    };
    let mut text = Lines::default();
    text.add(0, format!("programs, pinned by their links in {}", ebpf::directory(&bpffs).display()));
    text.add(1, format!("at the cgroup {cgroup}: {}", outline.at_cgroup.join(", ")));
    text.add(1, format!("at the network namespace: {}", outline.at_netns.join(", ")));
    text.add(0, "what they are told");
    let families = if plan.v6.is_some() { "IPv4 and IPv6" } else { "IPv4" };
    text.add(1, format!("families: {families}"));
    text.add(1, format!("sidecar: uid {}", plan.sidecar_uid));
    outbound(config, &mut text);
    inbound(config, &mut text);
    dns(plan, &mut text);
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

    fn ports(&mut self, include: &PortSet, exclude: &PortSet) {
        match (include.is_empty(), exclude.is_empty()) {
            (false, _) => self.add(2, format!("only ports {include}")),
            (true, false) => self.add(2, format!("except ports {exclude}")),
            (true, true) => {}
        }
    }
}

fn outbound(config: &Config, text: &mut Lines) {
    let outbound = &config.redirect.outbound;
    if !outbound.enabled {
        return text.add(1, "outbound: connections go where they are sent");
    }
    text.add(1, format!("outbound: connections go to port {}", outbound.port));
    text.ports(&outbound.include_ports, &outbound.exclude_ports);
    text.list("only to", &outbound.include_ips);
    text.list("except to", &outbound.exclude_ips);
    text.list("except by users, protocols:ports:uids", &outbound.exclude_ports_for_uids);
    text.list("except by groups, protocols:ports:gids", &outbound.exclude_ports_for_gids);
}

fn inbound(config: &Config, text: &mut Lines) {
    let inbound = &config.redirect.inbound;
    if !inbound.enabled {
        return text.add(1, "inbound: connections go where they are sent");
    }
    text.add(1, format!("inbound: connections go to the listener of port {}", inbound.port));
    text.ports(&inbound.include_ports, &inbound.exclude_ports);
    text.list("except from", &inbound.exclude_ips);
}

fn dns(plan: &Plan, text: &mut Lines) {
    let dns = &plan.config.redirect.dns;
    match (dns.enabled, dns.capture_all) {
        (false, _) => text.add(1, "DNS: queries go where they are sent"),
        (true, true) => text.add(1, format!("DNS: every query goes to port {}", dns.port)),
        (true, false) => {
            text.add(1, format!("DNS: queries to some servers go to port {}", dns.port));
            text.list("which are", &plan.name_servers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

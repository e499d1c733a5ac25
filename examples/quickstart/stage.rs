//! Everything that has to be there before there is a rule.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use kumatp::net::Uid;

use crate::role::Role;
use crate::traffic::{serve_tcp, serve_udp};
use crate::world::{
    APP, APP_SSH, APP_V6, DATABASE, DNS, DNS_PORT, INBOUND_PORT, LEGACY, Namespace, OUTBOUND_PORT, WEB, WEB_V6, build,
};
use crate::{Result, users};

/// The namespaces, the servers, and the sidecar.
pub(crate) struct Stage {
    /// Where the clients and the servers are.
    pub(crate) outside: Namespace,
    /// The process of the sidecar.
    pub(crate) sidecar: Role,
    /// Whether the sidecar is a user of its own.
    pub(crate) second_uid: bool,
}

impl Stage {
    /// Makes it all. This process is then inside.
    pub(crate) fn set() -> Result<Self> {
        users::enter_namespaces()?;
        limit_time();
        let outside = build().map_err(|error| {
            let remedy = if error.kind() == ErrorKind::PermissionDenied { users::remedy() } else { String::new() };
            format!("cannot set the namespaces up: {error}{remedy}")
        })?;

        for server in [APP, APP_SSH] {
            serve_tcp(server)?;
        }
        outside.run(|| {
            serve_udp(DNS)?;
            [WEB, DATABASE, LEGACY].into_iter().try_for_each(serve_tcp)
        })?;
        // Without IPv6 in the kernel, nobody will call these.
        let _ = serve_tcp(APP_V6);
        let _ = outside.run(|| serve_tcp(WEB_V6));

        let second_uid = users::is_mapped(Uid::SIDECAR);
        let elsewhere = outside.path();
        let arguments = ["sidecar", &elsewhere];
        let mut sidecar = Role::start(if second_uid { &arguments[..1] } else { &arguments })?;
        sidecar.hear()?;
        Ok(Self { outside, sidecar, second_uid })
    }

    /// Says what there is.
    pub(crate) fn describe(&self) {
        println!("A workload and its sidecar in a network namespace of their own, linked to an outside world:\n");
        println!(
            "  inside    workload {APP} and :22, sidecar on the ports {OUTBOUND_PORT}, {INBOUND_PORT} and {DNS_PORT}"
        );
        println!("  outside   client, web {WEB}, database {DATABASE}, legacy {LEGACY}, dns {DNS}\n");
        if !self.second_uid {
            println!(
                "This user has one uid only, so rules cannot tell the sidecar from the workload by its uid, as they"
            );
            println!(
                "normally do. Here the sidecar calls out from the outside namespace instead. For all of it, run this"
            );
            println!("as root, or install newuidmap (package uidmap) and have uids granted in /etc/subuid.\n");
        }
    }
}

/// Ends this process if it takes too long.
pub(crate) fn limit_time() {
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(9));
        eprintln!("quickstart: gave up after 9 seconds");
        std::process::exit(1);
    });
}

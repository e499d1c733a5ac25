//! Everything that has to be there before there is a rule.

use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::Duration;

use kumatp::net::Uid;

use super::role::Role;
use super::traffic::{serve_tcp, serve_udp};
use super::world::{
    APP, APP_SSH, APP_V6, DATABASE, DNS, DNS_PORT, INBOUND_PORT, LEGACY, Namespace, OUTBOUND_PORT, WEB, WEB_V6, build,
    namespace_id,
};
use super::{Again, Result, users};

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
    pub(crate) fn set(again: Again) -> Result<Self> {
        let host = namespace_id()?;
        users::enter_namespaces(again)?;
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
        let arguments = ["sidecar", &host, &elsewhere];
        let mut sidecar = Role::start(again, if second_uid { &arguments[..2] } else { &arguments })?;
        sidecar.hear()?;
        Ok(Self { outside, sidecar, second_uid })
    }

    /// Says what there is.
    pub(crate) fn describe(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "A workload and its sidecar in a network namespace of their own, linked to an outside world:\n\n\
             \x20 inside    workload {APP} and :22, sidecar on the ports {OUTBOUND_PORT}, {INBOUND_PORT} and {DNS_PORT}\n\
             \x20 outside   client, web {WEB}, database {DATABASE}, legacy {LEGACY}, dns {DNS}\n"
        )?;
        match self.second_uid {
            true => Ok(()),
            false => writeln!(
                out,
                "This user has one uid only, so rules cannot tell the sidecar from the workload by its uid, as they\n\
                 normally do. Here the sidecar calls out from the outside namespace instead. For all of it, run this\n\
                 as root, or install newuidmap (package uidmap) and have uids granted in /etc/subuid.\n"
            ),
        }
    }
}

/// Ends this process if it takes too long: a second is usual.
pub(crate) fn limit_time() {
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(30));
        let _ = writeln!(io::stderr(), "error: gave up after 30 seconds");
        std::process::exit(1);
    });
}

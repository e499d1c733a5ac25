//! Envoy, configured as Kuma configures it for what it passes through, and what it logs.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use kumatp::net::{Family, FamilyName, V4, V6};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::http;
use crate::world::{Place, SIDECAR, within};

/// Where Envoy answers questions about itself, on loopback.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);

/// The longest that Envoy runs, in seconds: it ends even if this process ends before it.
const LIMIT: &str = "60";

/// Which of the sidecar's listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Listener {
    Inbound,
    Outbound,
}

/// A connection in the access log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
pub(crate) struct Entry {
    /// Where it came from.
    pub(crate) client: SocketAddr,
    pub(crate) listener: Listener,
    /// Where it wanted to go.
    pub(crate) destination: SocketAddr,
    /// Where Envoy connected to.
    pub(crate) upstream: SocketAddr,
    /// What went wrong; `-` if nothing did.
    pub(crate) flags: String,
}

/// A running Envoy. It ends when this is dropped.
pub(crate) struct Sidecar {
    process: Child,
    access_log: File,
    errors: File,
}

impl Sidecar {
    /// The program: that of the environment variable `KUMATP_ENVOY`, else `envoy` in `PATH`, else what `tests/envoy/install`
    /// has put there. The error says where it was looked for.
    pub(crate) fn program() -> Result<PathBuf, String> {
        let is_program =
            |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        if let Some(given) = std::env::var_os("KUMATP_ENVOY") {
            let given = PathBuf::from(given);
            return is_program(&given).then(|| given.clone()).ok_or(format!("no program {}", given.display()));
        }
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/envoy/envoy");
        let in_path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&in_path)
            .map(|dir| dir.join("envoy"))
            .chain([installed])
            .find(is_program)
            .ok_or("no envoy: name one in KUMATP_ENVOY, or run tests/envoy/install".to_owned())
    }

    /// Starts it and waits until its listeners are served.
    pub(crate) fn start(program: &Path, workload: &Place) -> io::Result<Self> {
        let memory = || memfd_create(c"log", MFdFlags::MFD_CLOEXEC).map(File::from);
        let (access_log, errors) = (memory()?, memory()?);
        let mut command = Command::new("timeout");
        command
            // By its open file: its user need not be allowed to search the directories that it is in.
            .args(["--kill-after=5", LIMIT, "/proc/self/fd/0"])
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"])
            .args(["--file-flush-interval-msec", "20", "--config-yaml", &config().to_string()])
            .uid(SIDECAR)
            .gid(SIDECAR)
            .stdin(File::open(program)?)
            .stdout(access_log.try_clone()?)
            .stderr(errors.try_clone()?);
        let mut sidecar = Self { process: workload.enter(|| command.spawn())?, access_log, errors };
        within(Duration::from_secs(20), || {
            let (_, stats) = workload.enter(|| http::exchange(ADMIN, "/stats?filter=workers_started"))?;
            match stats.contains("listener_manager.workers_started: 1") {
                true => Ok(()),
                false => Err(io::Error::other("the listeners are not served yet")),
            }
        })
        .inspect_err(|_| sidecar.say_errors())?;
        Ok(sidecar)
    }

    /// Waits until this many connections are logged, ends Envoy, and returns the whole log, sorted.
    pub(crate) fn stop(mut self, expected: usize) -> Vec<Entry> {
        // If they are too few, the caller sees which.
        let _ = within(Duration::from_secs(5), || match self.log().lines().count() < expected {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        });
        assert_eq!(self.process.try_wait().unwrap(), None, "envoy still runs");
        self.end();
        let mut entries: Vec<Entry> = self
            .log()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        entries.sort();
        entries
    }

    fn log(&mut self) -> String {
        text(&mut self.access_log)
    }

    fn say_errors(&mut self) {
        eprintln!("envoy says:\n{}", text(&mut self.errors));
    }

    fn end(&mut self) {
        // `timeout` passes the signal on, and kills what does not end by it.
        if let (Ok(None), Ok(pid)) = (self.process.try_wait(), i32::try_from(self.process.id())) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.process.wait();
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            self.say_errors();
        }
    }
}

fn text(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    read.map_or_else(|error| error.to_string(), |_| text)
}

/// For each direction and address family a listener that takes what the rules send it, and a cluster that connects to where
/// that wanted to go: `inbound:passthrough:ipv4` and so on in Kuma. Inbound from an address that the rules know.
fn config() -> Value {
    let (mut listeners, mut clusters) = (Vec::new(), Vec::new());
    for (direction, port) in [("inbound", 15006), ("outbound", 15001)] {
        for family in FamilyName::ALL {
            let name = format!("{direction}:passthrough:{family}");
            listeners.push(listener(&name, direction, any(family), port));
            let mut cluster = json!({
                "name": name,
                "type": "ORIGINAL_DST",
                "lb_policy": "CLUSTER_PROVIDED",
                "connect_timeout": "5s",
            });
            if direction == "inbound" {
                cluster["upstream_bind_config"] = json!({ "source_address": socket(passthrough(family), 0) });
            }
            clusters.push(cluster);
        }
    }
    json!({
        "admin": { "address": { "socket_address": socket(ADMIN.ip(), ADMIN.port()) } },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
}

fn listener(name: &str, direction: &str, ip: IpAddr, port: u16) -> Value {
    let access_log = json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": "/dev/stdout",
            "log_format": { "json_format": {
                "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
                "listener": direction,
                "destination": "%DOWNSTREAM_LOCAL_ADDRESS%",
                "upstream": "%UPSTREAM_HOST%",
                "flags": "%RESPONSE_FLAGS%",
            } },
        },
    });
    let proxy = json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": direction,
            "cluster": name,
            "access_log": [access_log],
        },
    });
    json!({
        "name": name,
        "address": { "socket_address": socket(ip, port) },
        "traffic_direction": direction.to_uppercase(),
        "use_original_dst": true,
        "listener_filters": [{
            "name": "envoy.filters.listener.original_dst",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
            },
        }],
        "filter_chains": [{ "filters": [proxy] }],
    })
}

fn socket(ip: IpAddr, port: u16) -> Value {
    json!({ "address": ip.to_string(), "port_value": port })
}

fn any(family: FamilyName) -> IpAddr {
    match family {
        FamilyName::V4 => Ipv4Addr::UNSPECIFIED.into(),
        FamilyName::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Whom the workload's servers see in the place of a client that came through the inbound listener.
pub(crate) fn passthrough(family: FamilyName) -> IpAddr {
    match family {
        FamilyName::V4 => V4::passthrough().addr().into(),
        FamilyName::V6 => V6::passthrough().addr().into(),
    }
}

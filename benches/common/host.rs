//! Places on the host that nobody else uses, and what is done there.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kumatp::config::Config;
use kumatp::net::Uid;
use kumatp::netlink::{Batch, KernelTable};
use kumatp::nftables::Native;
use kumatp::{Facts, Plan, policy};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, setsockopt, socket,
    sockopt,
};

/// Moves this thread into a network namespace of its own, and a mount namespace with an empty `/run`.
pub(crate) fn place() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none)?;
    program("ip", &["link", "set", "lo", "up"]);
    Ok(())
}

/// Says that a bench cannot run here.
pub(crate) fn skipped(error: &impl std::fmt::Display) {
    println!("skipped: namespaces of their own are needed, which take root: {error}");
    assert!(std::env::var_os("KUMATP_REQUIRE_ALL").is_none());
}

/// Moves this thread into a new network namespace: with an interface and addresses of both families, without which nobody but the
/// netlink engine installs rules for IPv6.
pub(crate) fn namespace() -> File {
    const LINES: &[u8] = b"link set lo up\n\
        link add eth0 type veth peer name outside\n\
        link set outside up\n\
        link set eth0 up\n\
        address add 10.9.0.1/16 dev eth0\n\
        address add fd09::1/64 dev eth0 nodad\n";
    unshare(CloneFlags::CLONE_NEWNET).expect("another namespace");
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("the program ip");
    ip.stdin.take().expect("a pipe").write_all(LINES).expect("lines are taken");
    assert!(ip.wait().expect("its end").success(), "ip failed");
    File::open("/proc/thread-self/ns/net").expect("the namespace")
}

/// Gives the sidecar's uid to a user, which kumactl wants. The mount namespace has to be this process's own.
pub(crate) fn sidecar_user() -> io::Result<()> {
    let users = std::fs::read_to_string("/etc/passwd")?;
    if users.lines().any(|line| line.split(':').nth(2) == Some("5678")) {
        return Ok(());
    }
    std::fs::write("/run/passwd", format!("{}\nkuma-dp:x:5678:5678::/:/bin/false\n", users.trim_end()))?;
    Ok(mount(Some("/run/passwd"), "/etc/passwd", None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// Moves this thread to a namespace that was made before.
pub(crate) fn enter(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("it is our own");
}

/// Runs a program that has to succeed, and says nothing.
pub(crate) fn program(name: &str, args: &[&str]) {
    run(Command::new(name).args(args));
}

/// The same for a command, whose input stays as it is.
pub(crate) fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "{command:?}: {status:?}");
}

/// Where a program is, so that looking for it takes nobody's time.
pub(crate) fn located(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|place| place.join(name));
    places.find(|place| place.is_file()).unwrap_or_else(|| panic!("the program {name} is needed"))
}

pub(crate) fn plan(config: &Config) -> Plan {
    policy::plan(config, &Facts::capable_host(Uid::SIDECAR)).expect("a plan")
}

/// Sends a batch and waits for its acknowledgement, with nothing around it.
pub(crate) fn bare(bytes: &[u8]) {
    let fd =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(SockProtocol::NetlinkNetFilter))
            .expect("a socket");
    let raw = fd.as_raw_fd();
    connect(raw, &NetlinkAddr::new(0, 0)).expect("the kernel");
    setsockopt(&fd, sockopt::SndBuf, &(8 << 20)).expect("a buffer");
    assert_eq!(send(raw, bytes, MsgFlags::empty()).expect("sent"), bytes.len());
    let mut answer = [0; 8192];
    let length = recv(raw, &mut answer, MsgFlags::empty()).expect("an answer");
    // struct nlmsghdr, then the error number, which is 0 in an acknowledgement.
    assert!(length >= 20 && answer[16..20] == [0; 4], "the kernel refused: {:?}", &answer[..length.min(40)]);
}

/// Two configurations of one size, so that each installation over the other really replaces it.
pub(crate) fn two_configs() -> [Config; 2] {
    PORTS.map(|port| {
        let mut config = Config::default();
        config.redirect.outbound.port = kumatp::net::Port::new(port).expect("a port");
        config.redirect.dns.enabled = true;
        config.redirect.dns.capture_all = true;
        config.redirect.inbound.exclude_ports = "22,9000".parse().expect("ports");
        config
    })
}

/// The outbound ports of the two configurations.
const PORTS: [u16; 2] = [15001, 15002];

/// The flags that make them, for kumatp and for kumactl.
pub(crate) fn two_lists_of_flags() -> [Vec<String>; 2] {
    PORTS.map(|port| {
        let flags = "--kuma-dp-user 5678 --redirect-all-dns-traffic --exclude-inbound-ports 22,9000";
        let port = ["--redirect-outbound-port".to_owned(), port.to_string()];
        flags.split(' ').map(str::to_owned).chain(port).collect()
    })
}

/// The bytes that install each plan, over another one or where there is none.
pub(crate) fn batches(plans: &[Plan; 2], replace: bool) -> [Vec<u8>; 2] {
    plans.each_ref().map(|plan| {
        let mut batch = Batch::new(None);
        for table in Native::of(plan).tables() {
            if replace {
                batch.remove(table.family);
            }
            batch.add(table.family, &KernelTable::of(table));
        }
        batch.commit().bytes().to_vec()
    })
}

/// What a process that has ended took.
pub(crate) struct Used {
    /// Of processors: its own and the kernel's for it.
    pub(crate) time: Duration,
    /// The most memory that it had, in bytes.
    pub(crate) peak: f64,
}

/// Waits for the end of a process that has to succeed.
#[expect(unsafe_code, reason = "std and nix tell nothing of what a process took")]
pub(crate) fn used(child: Child) -> Used {
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    let pid = child.id().try_into().expect("a process");
    // SAFETY: both pointers are to variables of the right types, and numbers may be zero.
    let (ended, usage) = unsafe { (libc::wait4(pid, &mut status, 0, usage.as_mut_ptr()), usage.assume_init()) };
    assert!(ended == pid && status == 0, "the program failed: {status}");
    let duration = |time: libc::timeval| Duration::new(time.tv_sec as u64, 1_000 * time.tv_usec as u32);
    Used { time: duration(usage.ru_utime) + duration(usage.ru_stime), peak: 1024.0 * usage.ru_maxrss as f64 }
}

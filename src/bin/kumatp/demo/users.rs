//! Namespaces that anyone may make, and a second user in them.

use std::fs;
use std::os::unix::process::parent_id;
use std::process::Command;

use kumatp::net::Uid;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{User, getegid, geteuid};

use super::role::{Role, say, told};
use super::stage::limit_time;
use super::{Again, Result};

/// Moves this process, which must be single-threaded, into a network and a mount namespace of its
/// own, and into a user namespace of its own if the two take that.
pub(crate) fn enter_namespaces(again: Again) -> Result<()> {
    let namespaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    let remedy = remedy();
    let forbidden =
        |errno: Errno| format!("this user may not make user, network and mount namespaces ({}){remedy}", errno.desc());
    // The users of a new user namespace are mapped from outside, so somebody has to stay there.
    let mut mapper = Role::start(again, &["map-users"])?;
    if unshare(namespaces).is_err() {
        unshare(CloneFlags::CLONE_NEWUSER).map_err(forbidden)?;
        match mapper.ask("made")?.as_str() {
            "mapped" => {}
            problem => return Err(format!("cannot map users: {problem}{remedy}").into()),
        }
        // Not before: what the kernel shows of a network namespace belongs to the root that there
        // is when it is made.
        unshare(namespaces).map_err(forbidden)?;
    }
    cover_run();
    Ok(())
}

/// Puts an empty directory over `/run`, for this process only. An engine notes down there what it
/// has to undo one day; an ordinary user cannot write to the host's, and root should not.
fn cover_run() {
    let none = None::<&str>;
    // Where it cannot be done, a note of the engine says what comes of it.
    let _ = mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .and_then(|()| mount(none, "/run", Some("tmpfs"), MsFlags::empty(), none));
}

/// Whether a uid can be used here.
pub(crate) fn is_mapped(uid: Uid) -> bool {
    // Each line: the first uid here, the first outside, and how many.
    fs::read_to_string("/proc/self/uid_map").unwrap_or_default().lines().any(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        matches!(numbers[..], [first, _, count] if (first..first.saturating_add(count)).contains(&uid.number()))
    })
}

/// The role `map-users`: outside, waits until the process that started it has made its user
/// namespace. There this user becomes root, and the sidecar's uid some other user, if it may.
pub(crate) fn map_users() -> Result<()> {
    limit_time();
    if told().next().is_none() {
        return Ok(()); // It did without.
    }
    Ok(say(map().map_or_else(|error| error.to_string(), |()| "mapped".to_owned()))?)
}

fn map() -> Result<()> {
    let target = parent_id();
    let (uid, gid, sidecar) = (geteuid(), getegid(), Uid::SIDECAR);
    fs::write(format!("/proc/{target}/setgroups"), "deny")?;
    fs::write(format!("/proc/{target}/gid_map"), format!("0 {gid} 1"))?;

    let uid_map = format!("/proc/{target}/uid_map");
    // Root may map any uid. An ordinary user may map those that /etc/subuid grants, by newuidmap,
    // and else only the own one.
    if fs::write(&uid_map, format!("0 {uid} 1\n{sidecar} {sidecar} 1")).is_ok() {
        return Ok(());
    }
    if let Some(granted) = granted_uid() {
        let map = format!("{target} 0 {uid} 1 {sidecar} {granted} 1");
        if Command::new("newuidmap").args(map.split(' ')).output().is_ok_and(|done| done.status.success()) {
            return Ok(());
        }
    }
    fs::write(&uid_map, format!("0 {uid} 1"))?;
    Ok(())
}

/// The first uid that `/etc/subuid` grants to this user; its lines are `user:first:count`.
fn granted_uid() -> Option<u32> {
    let uid = geteuid();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    fs::read_to_string("/etc/subuid").ok()?.lines().find_map(|line| {
        let (user, grant) = line.split_once(':')?;
        let ours = Some(user) == name.as_deref() || user == uid.to_string();
        ours.then(|| grant.split(':').next()?.parse().ok())?
    })
}

/// What forbids namespaces here, as far as sysctls tell.
pub(crate) fn remedy() -> String {
    let forbidding = [
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user.max_user_namespaces", "0", "1000"),
        ("user.max_net_namespaces", "0", "1000"),
    ];
    let found = forbidding.iter().find(|(key, value, _)| {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        fs::read_to_string(path).is_ok_and(|text| text.trim() == *value)
    });
    match found {
        Some((key, value, better)) => {
            format!(": the sysctl {key} is {value}; as root, run 'sysctl -w {key}={better}', or this program")
        }
        None => ": no sysctl forbids it, so a container runtime or a security module does; try as root".into(),
    }
}

//! firewalld's own file: how it is written, and that firewalld accepts it.
#![cfg(all(feature = "firewalld", feature = "host"))]

#[path = "common/generate.rs"]
mod generate;
#[path = "common/skip.rs"]
mod skip;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use kumatp::config::Config;
use kumatp::facts::Facts;
use kumatp::firewalld::{merge, remove, store, translate, unstore};
use kumatp::model::Plan;
use kumatp::net::Uid;
use kumatp::policy;

/// A directory that is gone afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kumatp-firewalld-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn direct_xml(&self) -> PathBuf {
        self.0.join("direct.xml")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A plan with inserted and appended rules in both families.
fn plan() -> Plan {
    let mut config = Config::default();
    config.drop_invalid_packets = true;
    config.log.enabled = true;
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    config.redirect.outbound.exclude_ips = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
    config.redirect.vnet = vec!["docker0:172.17.0.0/16".parse().unwrap()];
    policy::plan(&config, &Facts::capable_host(Uid::SIDECAR)).unwrap()
}

const FOREIGN: &str = "<direct>\n  <chain ipv=\"ipv4\" table=\"filter\" chain=\"MINE\"/>\n  <rule ipv=\"ipv4\" table=\"filter\" chain=\"INPUT\" priority=\"0\">-j MINE</rule>\n</direct>\n";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_new_file_is_for_its_owner_alone() {
    let directory = Directory::new("new");
    let path = directory.direct_xml();
    assert!(!unstore(&path).unwrap());
    assert!(store(&path, &plan()).unwrap());
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::read_to_string(&path).unwrap(), kumatp::render::firewalld::plan(&plan()));
    assert!(unstore(&path).unwrap());
    assert!(!unstore(&path).unwrap());
    assert_eq!(directory.names(), ["direct.xml"]);
}

#[test]
fn an_old_file_keeps_its_mode_and_the_entries_of_others() {
    let directory = Directory::new("old");
    let path = directory.direct_xml();
    fs::write(&path, FOREIGN).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    assert!(store(&path, &plan()).unwrap());
    let after = fs::metadata(&path).unwrap().ino();
    assert_ne!(before, after, "the file is replaced, not written over");
    assert_eq!(mode(&path), 0o640);
    assert!(!store(&path, &plan()).unwrap(), "the same plan again changes nothing");
    assert_eq!(fs::metadata(&path).unwrap().ino(), after);
    assert!(unstore(&path).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), FOREIGN);
    assert_eq!(mode(&path), 0o640);
    assert_eq!(directory.names(), ["direct.xml"]);
}

#[test]
fn a_link_stays_one() {
    let directory = Directory::new("link");
    let path = directory.direct_xml();
    fs::write(directory.0.join("real.xml"), FOREIGN).unwrap();
    symlink("real.xml", &path).unwrap();
    assert!(store(&path, &plan()).unwrap());
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(fs::read_to_string(directory.0.join("real.xml")).unwrap().contains("KUMA_MESH_INBOUND"));
    assert_eq!(directory.names(), ["direct.xml", "real.xml"]);
    fs::remove_file(directory.0.join("real.xml")).unwrap();
    assert!(store(&path, &plan()).unwrap_err().to_string().contains("follow the link"));
}

#[test]
fn what_cannot_be_read_is_left_as_it_is() {
    let directory = Directory::new("broken");
    let path = directory.direct_xml();
    assert!(store(&directory.0, &plan()).is_err());
    assert!(store(&directory.0.join("absent/direct.xml"), &plan()).unwrap_err().to_string().contains("absent"));
    for text in ["<direct>", "<zone/>"] {
        fs::write(&path, text).unwrap();
        assert!(store(&path, &plan()).is_err() && unstore(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, b"<direct>\xff</direct>").unwrap();
    assert!(store(&path, &plan()).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"<direct>\xff</direct>");
    assert_eq!(directory.names(), ["direct.xml"]);
}

#[test]
fn any_plan_comes_and_goes_without_a_trace() {
    arbtest::arbtest(|u| {
        let mut config = generate::config(u)?;
        config.comments.disabled = false;
        let plan = policy::plan(&config, &generate::facts(u)?).unwrap();
        let other = policy::plan(&generate::config(u)?, &generate::facts(u)?).unwrap();
        let merged = merge(FOREIGN, &plan).unwrap();
        assert_eq!(merge(&merged, &plan).unwrap(), merged);
        assert_eq!(remove(&merged).unwrap().as_deref(), Some(FOREIGN));
        if other.options.comments {
            assert_eq!(merge(&merge(FOREIGN, &other).unwrap(), &plan).unwrap(), merged);
        }
        Ok(())
    })
    .budget_ms(400);
}

/// Asks firewalld's own command about a configuration of our own.
fn offline(directory: &Directory, arguments: &[&str]) -> Option<String> {
    let config = directory.0.to_str().unwrap();
    // Without it, there are complaints.
    fs::write(directory.0.join("firewalld.conf"), "DefaultZone=public\n").unwrap();
    let mut command = Command::new("firewall-offline-cmd");
    command.args(["--system-config", config]).args(arguments);
    match command.output() {
        Err(error) => {
            skip::skipped(&format!("firewall-offline-cmd: {error}"));
            None
        }
        Ok(output) if !output.status.success() => {
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            if message.contains("root") {
                skip::skipped(&message);
                return None;
            }
            panic!("{arguments:?}: {message}");
        }
        Ok(output) => {
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(message, "", "{arguments:?}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
    }
}

#[test]
fn firewalld_lists_the_rules() {
    let directory = Directory::new("offline");
    fs::write(directory.direct_xml(), FOREIGN).unwrap();
    let plan = plan();
    store(&directory.direct_xml(), &plan).unwrap();
    let Some(chains) = offline(&directory, &["--direct", "--get-all-chains"]) else { return };
    let Some(rules) = offline(&directory, &["--direct", "--get-all-rules"]) else { return };
    for line in ["ipv4 filter MINE", "ipv4 nat KUMA_MESH_INBOUND", "ipv6 nat KUMA_MESH_OUTBOUND_REDIRECT"] {
        assert!(chains.lines().any(|found| found == line), "{line}\n{chains}");
    }
    assert!(rules.contains("ipv4 filter INPUT 0 -j MINE\n"), "{rules}");
    let planned = plan.v4.rules().count() + plan.v6.as_ref().unwrap().rules().count();
    assert_eq!(rules.lines().count(), planned + 1, "{rules}");
    // firewalld quotes comments in its own way.
    for line in [
        "ipv4 nat OUTPUT -4 -m comment --comment 'kuma/mesh/transparent/proxy/log every packet that comes here' -j LOG --log-prefix OUTPUT: --log-level 7",
        "ipv6 nat OUTPUT -3 -m comment --comment 'kuma/mesh/transparent/proxy/let connections to this destination pass without the sidecar' -d fd00::/8 -j RETURN",
        "ipv4 nat PREROUTING 3 -m comment --comment 'kuma/mesh/transparent/proxy/log every packet that comes here' -j LOG --log-prefix PREROUTING: --log-level 7",
    ] {
        assert!(rules.lines().any(|found| found == line), "{line}\n{rules}");
    }
    // What firewalld writes itself is known again.
    assert!(offline(&directory, &["--direct", "--add-rule", "ipv4", "filter", "INPUT", "1", "-j", "ACCEPT"]).is_some());
    let rewritten = fs::read_to_string(directory.direct_xml()).unwrap();
    assert!(rewritten.contains("'kuma/mesh/"), "{rewritten}");
    unstore(&directory.direct_xml()).unwrap();
    let Some(rules) = offline(&directory, &["--direct", "--get-all-rules"]) else { return };
    assert_eq!(rules, "ipv4 filter INPUT 0 -j MINE\nipv4 filter INPUT 1 -j ACCEPT\n");
    assert_eq!(offline(&directory, &["--direct", "--get-all-chains"]).unwrap(), "ipv4 filter MINE\n");
}

#[test]
fn firewalld_reads_translated_words_as_iptables_does() {
    let directory = Directory::new("words");
    let text = "*nat\n-A OUTPUT -m comment --comment \"it\\'s \\\"so\\\" <&> \\\\ \" -m string --string \"a b\" -j RETURN\nCOMMIT\n";
    fs::write(directory.direct_xml(), translate(text).unwrap()).unwrap();
    let Some(rules) = offline(&directory, &["--direct", "--get-all-rules"]) else { return };
    assert_eq!(
        rules,
        "ipv4 nat OUTPUT 3 -m comment --comment 'it'\"'\"'s \"so\" <&> \\ ' -m string --string 'a b' -j RETURN\n"
    );
}

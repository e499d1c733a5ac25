//! What the kernel says is what programs say.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;

use kumatp::config::Config;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::{Engine as _, presuming};
use kumatp::error::Error;
use kumatp::facts::HostAbilities;
use kumatp::model::IptablesMode;
use kumatp::{facts, policy};

use crate::netns::{isolated, run};
use crate::outside::{foreign_rules, native_rules, network, program};
use crate::{config, everything, saved};

/// Writes a program of this name into a folder.
fn script(dir: &str, name: &str, text: &str) {
    std::fs::create_dir_all(dir).unwrap();
    let path = Path::new(dir).join(name);
    std::fs::write(&path, format!("#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// An engine whose programs do not say by their names what they are, so that they are asked everything.
fn asked() -> Iptables {
    let mut path = OsString::new();
    for mode in IptablesMode::ALL {
        let dir = format!("/run/asked-{mode}");
        for family in ["iptables", "ip6tables"] {
            for end in ["", "-save", "-restore"] {
                let real = program(family, mode, end);
                script(&dir, &format!("{family}{end}"), &format!("exec {} \"$@\"", real.display()));
            }
        }
        path.push(format!("{dir}:"));
    }
    Iptables::in_path(path)
}

/// One that asks the kernel.
fn asking() -> Iptables {
    Iptables::in_path("/usr/sbin")
}

/// One that asks for nothing, one for each thing that can be asked, one for all, and a dry run of that.
fn configs() -> Vec<Config> {
    let with = |dns: bool, drop: bool, comments: bool, dry_run: bool| {
        let mut config = config(IptablesMode::Nft);
        config.iptables_executables = kumatp::model::Executables::default();
        config.redirect.dns.enabled = dns;
        config.drop_invalid_packets = drop;
        config.comments.disabled = !comments;
        config.dry_run = dry_run;
        config
    };
    vec![
        with(false, false, false, false),
        with(true, false, false, false),
        with(false, true, false, false),
        with(true, true, true, false),
        with(true, true, true, true),
    ]
}

type Found = Result<HostAbilities, String>;

/// What is found out for each configuration, by whom.
fn found(engine: &Iptables) -> Vec<[Found; 2]> {
    let told = |error: Error| error.to_string();
    let all = configs().into_iter();
    all.map(|config| {
        [engine.abilities(&config.options()).map_err(told), engine.presumed(&config.options()).map_err(told)]
    })
    .collect()
}

fn both_say_the_same() -> Vec<[Found; 2]> {
    let (by_programs, by_kernel) = (found(&asked()), found(&asking()));
    for (config, (programs, kernel)) in configs().iter().zip(by_programs.iter().zip(&by_kernel)) {
        assert_eq!(programs, kernel, "{config:?}");
        assert_eq!(programs[0], programs[1], "{config:?}");
    }
    by_kernel
}

#[test]
fn the_kernel_says_what_programs_say() {
    isolated(|| {
        network();
        let nothing = both_say_the_same();
        assert!(nothing.iter().flatten().all(|found| found.as_ref().is_ok_and(|found| found.remarks.is_empty())));
        foreign_rules(IptablesMode::Nft);
        both_say_the_same();
        let tables = |mode: IptablesMode, args: &[&str]| run(program("iptables", mode, "").to_str().unwrap(), args);
        tables(IptablesMode::Nft, &["-t", "nat", "-N", "DOCKER_OUTPUT"]);
        let docker = |all: &[[Found; 2]]| all.iter().flatten().all(|f| f.as_ref().is_ok_and(|f| f.v4.docker_output));
        assert!(!docker(&nothing) && docker(&both_say_the_same()));
        // Rules of legacy programs alone, of both, and Docker's chain there.
        tables(IptablesMode::Legacy, &["-t", "raw", "-N", "OLD"]);
        assert!(docker(&both_say_the_same()));
        tables(IptablesMode::Legacy, &["-t", "nat", "-N", "DOCKER_OUTPUT"]);
        let both = both_say_the_same();
        assert!(both.iter().flatten().all(|found| found.as_ref().is_ok_and(|found| found.remarks.len() == 1)));
        tables(IptablesMode::Nft, &["-t", "nat", "-X", "DOCKER_OUTPUT"]);
        let legacy = both_say_the_same();
        assert!(docker(&legacy) && legacy.iter().flatten().flatten().all(|found| found.remarks.is_empty()));
    });
}

#[test]
fn the_kernel_says_what_legacy_programs_say() {
    isolated(|| {
        network();
        run(program("iptables", IptablesMode::Legacy, "").to_str().unwrap(), &["-t", "mangle", "-N", "OLD"]);
        both_say_the_same();
        // An empty chain of iptables-nft that is built in is no rule.
        run("iptables-nft", &["-t", "mangle", "-A", "OUTPUT", "-p", "udp", "-j", "ACCEPT"]);
        run("iptables-nft", &["-t", "mangle", "-F"]);
        both_say_the_same();
        assert!(everything().concat().iter().any(|table| table.contains("OLD")));
    });
}

#[test]
fn tables_that_programs_cannot_list_are_left_to_them() {
    isolated(|| {
        network();
        native_rules();
        run(program("iptables", IptablesMode::Legacy, "").to_str().unwrap(), &["-t", "nat", "-N", "OLD"]);
        both_say_the_same();
    });
}

/// Which sockets the kernel refuses.
#[derive(Clone, Copy)]
enum Refused {
    /// Those of this process, which have a flag that those of the programs have not.
    Ours,
    /// All to nf_tables.
    NfTables,
}

/// Has the system refuse this thread, and the programs that it starts, some sockets.
#[expect(unsafe_code, reason = "nix does not know seccomp")]
fn refuse(refused: Refused) {
    let statement = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code.try_into().unwrap(), jt, jf, k };
    let load = |at: u32| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let equal = |number: i64, so: u8, or: u8| {
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, so, or, number.try_into().unwrap())
    };
    let answer = |answer: u32| statement(libc::BPF_RET | libc::BPF_K, 0, 0, answer);
    // struct seccomp_data: the number, the architecture, the instruction, and six arguments of 64 bits.
    let low = |argument: u32| 16 + 8 * argument + if cfg!(target_endian = "big") { 4 } else { 0 };
    let is_socket = [load(0), equal(libc::SYS_socket, 0, 5)];
    let mut filter = Vec::from(is_socket);
    match refused {
        Refused::Ours => filter.extend([
            load(low(1)),
            equal((libc::SOCK_RAW | libc::SOCK_CLOEXEC).into(), 2, 0),
            equal((libc::SOCK_DGRAM | libc::SOCK_CLOEXEC).into(), 1, 0),
            answer(libc::SECCOMP_RET_ALLOW),
            answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        ]),
        Refused::NfTables => filter.extend([
            load(low(0)),
            equal(libc::AF_NETLINK.into(), 0, 3),
            load(low(2)),
            equal(libc::NETLINK_NETFILTER.into(), 0, 1),
            answer(libc::SECCOMP_RET_ERRNO | libc::EPROTONOSUPPORT as u32),
        ]),
    }
    filter.push(answer(libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len().try_into().unwrap(), filter: filter.as_mut_ptr() };
    // SAFETY: the program and its statements outlive the calls.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

/// What is found where some sockets are refused.
fn with(refused: Refused, find: fn() -> Vec<[Found; 2]>) -> Vec<[Found; 2]> {
    let found = thread::spawn(move || {
        refuse(refused);
        find()
    });
    found.join().unwrap()
}

#[test]
fn what_the_kernel_does_not_say_programs_are_asked() {
    isolated(|| {
        network();
        run(program("iptables", IptablesMode::Nft, "").to_str().unwrap(), &["-t", "nat", "-N", "DOCKER_OUTPUT"]);
        let free = both_say_the_same();
        assert_eq!(with(Refused::Ours, both_say_the_same), free);
        run(program("iptables", IptablesMode::Legacy, "").to_str().unwrap(), &["-t", "nat", "-N", "DOCKER_OUTPUT"]);
        let free = both_say_the_same();
        assert_eq!(with(Refused::Ours, both_say_the_same), free);
        // Where there is no nf_tables, programs of the other variant are chosen, and asked.
        let legacy = with(Refused::NfTables, || found(&asking()));
        assert!(legacy.iter().flatten().all(|found| found.as_ref().is_ok_and(|found| found.v4.docker_output)));
    });
}

/// Programs of the nft variant without the target CT, as of a small system.
fn without_zones() -> Iptables {
    let dir = "/run/small";
    for family in ["iptables", "ip6tables"] {
        let real = |end| program(family, IptablesMode::Nft, end).display().to_string();
        let missing = "echo \"Couldn't load target \\`CT'\" >&2; exit 2";
        script(dir, &format!("{family}-nft-save"), &format!("exec {} \"$@\"", real("-save")));
        let tables = format!("case \"$*\" in *CT*) {missing};; esac\nexec {} \"$@\"", real(""));
        script(dir, &format!("{family}-nft"), &tables);
        let restore = format!(
            "cat >/run/text\nif grep -q -e '-j CT' /run/text; then {missing}; fi\nexec {} \"$@\" </run/text",
            real("-restore")
        );
        script(dir, &format!("{family}-nft-restore"), &restore);
    }
    Iptables::in_path(dir)
}

#[test]
fn what_programs_lack_is_found_out_where_they_refuse() {
    isolated(|| {
        network();
        let engine = without_zones();
        let mut config = config(IptablesMode::Nft);
        config.iptables_executables = kumatp::model::Executables::default();
        config.redirect.dns.enabled = true;
        assert!(engine.presumed(&config.options()).unwrap().v4.conntrack_zones);
        let found = engine.abilities(&config.options()).unwrap();
        assert!(!found.v4.conntrack_zones && !found.v6.conntrack_zones && found.v4.comments);
        let mut plans = Vec::new();
        let report = presuming(&engine, &config.options(), |abilities| {
            let facts = facts::probe(&policy::facts_needed(&config), abilities)?;
            plans.push(policy::plan(&config, &facts)?);
            engine.apply(plans.last().unwrap())
        });
        assert!(report.unwrap().changed && plans.len() == 2);
        assert!(plans[1].notes.len() > plans[0].notes.len(), "{:?}", plans[1].notes);
        for family in ["iptables", "ip6tables"] {
            let tables = saved(family, IptablesMode::Nft).concat();
            assert!(tables.contains("KUMA_MESH_OUTBOUND") && !tables.contains("--zone"), "{tables}");
        }
    });
}

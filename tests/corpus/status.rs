//! What is said of installations, in a network namespace: each step changes something, or asks.

use std::path::Path;
use std::process::Command;

use crate::COMMAND;
use crate::answers::{Answer, Length};
use crate::isolated::run;

/// Each step is a line for the shell, in which `kumatp` is the command and `$C` the options for the configuration.
const STEPS: &[&str] = &[
    "kumatp status --json",
    "kumatp status --json $C",
    "kumatp uninstall --engine netlink",
    "kumatp install $C --verbose",
    "kumatp install $C",
    "kumatp status --json",
    "kumatp status --json $C",
    "kumatp status --json $C --redirect-inbound=false --exclude-outbound-ports=1",
    "kumatp diff live $CONFIG --json",
    "kumatp uninstall --dry-run",
    "nft flush chain ip kuma-mesh KUMA_MESH_OUTBOUND",
    "kumatp status --json",
    "kumatp status --json $C",
    "nft delete table ip6 kuma-mesh",
    "ip -6 addr del ::6/128 dev lo",
    "kumatp status --json",
    "kumatp status --json $C",
    "kumatp explain --live --json tcp 10.1.2.3:443",
    "kumatp install $C --engine iptables --verbose",
    "kumatp status --json",
    "kumatp status --json $C",
    "kumatp status --json $C --redirect-inbound=false --exclude-outbound-ports=1",
    "kumatp explain --live --json tcp 10.1.2.3:443",
    "iptables-nft -t nat -F KUMA_MESH_OUTBOUND",
    "iptables-nft -t nat -A OUTPUT -j KUMA_MESH_INBOUND",
    "kumatp status --json $C",
    "kumatp uninstall --dry-run",
    "kumatp install $C --verbose",
    "iptables-nft -t nat -N KUMA_MESH_OUTBOUND",
    "kumatp status --json",
    "kumatp status --json $C",
    "kumatp uninstall --verbose",
    "kumatp status --json",
];

/// Readies the namespace, or says why the steps cannot be taken here.
pub(crate) fn prepare() -> Result<(), &'static str> {
    if !["iptables-nft-restore", "ip6tables-nft-restore"].iter().all(|name| Path::new("/usr/sbin").join(name).exists())
    {
        return Err("iptables-nft is not installed in /usr/sbin");
    }
    // With an address that hosts beyond the link can reach.
    run("ip", &["link", "add", "out0", "type", "veth", "peer", "name", "nobody0"], "");
    for link in ["nobody0", "out0"] {
        run("ip", &["link", "set", link, "up"], "");
    }
    run("ip", &["addr", "add", "fd77::1/64", "dev", "out0", "nodad"], "");
    // Where nothing is installed, only who may look everywhere is told so.
    if shell(COMMAND, "kumatp status --json").0 != 4 {
        return Err("this user may not see whether rules of iptables-legacy or eBPF programs are there");
    }
    let dry = "kumatp install $C --dry-run --engine netlink";
    let capable = format!("{dry} --facts tests/corpus/facts/root.json");
    match shell(COMMAND, dry).1 == shell(COMMAND, &capable).1 {
        true => Ok(()),
        false => Err("the kernel lacks a match that rules use where it is there"),
    }
}

pub(crate) fn ask(command: &str, _: Length) -> Vec<Answer> {
    let steps = STEPS.iter().enumerate();
    let answers = steps.map(|(number, step)| {
        let (status, stdout, stderr) = shell(command, step);
        let status = if status == 0 { String::new() } else { format!("exit status {status}\n") };
        Answer { question: format!("{}: {step}", number + 1), text: format!("{stderr}{status}{stdout}") }
    });
    answers.collect()
}

fn shell(command: &str, line: &str) -> (i32, String, String) {
    let config = "tests/corpus/installed.yaml";
    let mut sh = Command::new("sh");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KUMA")) {
        sh.env_remove(name);
    }
    let prepare = "kumatp() { \"$KUMATP\" \"$@\"; }\n";
    let output = sh
        .args(["-c", &format!("{prepare}{line}")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("KUMATP", command)
        .env("CONFIG", config)
        .env("C", format!("--config {config}"))
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (
        output.status.code().unwrap(),
        without_notes(&stdout),
        stderr.lines().filter(|line| !is_of_this_user(line)).map(|line| format!("! {line}\n")).collect(),
    )
}

/// Whether a note says what this user may not see on this host.
fn is_of_this_user(note: &str) -> bool {
    ["iptables-legacy", "no eBPF programs are pinned here", "/etc/firewalld/direct.xml"]
        .iter()
        .any(|part| note.contains(part))
}

/// A JSON document without such notes.
fn without_notes(text: &str) -> String {
    const NOTES: &str = ",\n  \"notes\": [\n    {\n";
    const BETWEEN: &str = "\n    },\n    {\n";
    const END: &str = "\n    }\n  ]";
    let parts = text.split_once(NOTES).and_then(|(head, rest)| Some((head, rest.split_once(END)?)));
    let Some((head, (notes, tail))) = parts else { return text.to_owned() };
    let kept: Vec<&str> = notes.split(BETWEEN).filter(|note| !is_of_this_user(note)).collect();
    match kept.is_empty() {
        true => format!("{head}{tail}"),
        false => format!("{head}{NOTES}{}{END}{tail}", kept.join(BETWEEN)),
    }
}

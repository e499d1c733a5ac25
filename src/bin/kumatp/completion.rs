//! Completion scripts: what a shell may offer behind each flag.

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;

/// The completion script for a shell.
pub(crate) fn script(shell: Shell, command: Command) -> String {
    let mut command = offering(command);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "kumatp", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => behind_an_equals_sign(&script, &command),
        Shell::Zsh => each_switch(script, &command, |name| (format!("--{name}=["), format!("--{name}=-["))),
        // Without -r, fish offers the values behind an equals sign only.
        Shell::Fish => {
            let is_switch =
                |line: &str| each(&command, is_switch).iter().any(|name| line.contains(&format!(" -l {name} ")));
            let lines =
                script.lines().map(|line| if is_switch(line) { line.replace(" -r -f", " -f") } else { line.into() });
            lines.map(|line| line + "\n").collect()
        }
        _ => script,
    }
}

/// The command whose arguments say which values they take. The parser leaves that to the library, which takes more
/// spellings and has better errors.
fn offering(command: Command) -> Command {
    let name = command.get_name().to_owned();
    let subcommands: Vec<String> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    let command = subcommands.into_iter().fold(command, |command, name| command.mut_subcommand(name, offering));
    command.mut_args(|arg| of_values(&name, arg))
}

/// The argument of a command with its values, or with what kind of value it takes.
fn of_values(command: &str, arg: Arg) -> Arg {
    let values: &[&'static str] = match arg.get_id().as_str() {
        _ if !arg.get_possible_values().is_empty() => return arg,
        "engine" => &["netlink", "iptables", "ebpf"],
        "ip-family-mode" => &["dualstack", "ipv4", "required"],
        "expect" => {
            &["delivered", "redirected:15001", "redirected:15006", "redirected:15053", "dropped", "established"]
        }
        "words" => match command {
            "explain" => &["outbound", "inbound", "forwarded", "tcp", "udp"],
            "diff" => return arg.value_hint(ValueHint::FilePath),
            _ => &["transparent-proxy"],
        },
        _ if is_switch(&arg) => &["true", "false"],
        _ => &[],
    };
    if !values.is_empty() {
        return arg.value_parser(PossibleValuesParser::new(values));
    }
    if !arg.get_action().takes_values() {
        return arg;
    }
    let hint = match (arg.get_id().as_str(), arg.get_value_names().and_then(<[_]>::first).map(|name| name.as_str())) {
        ("ebpf-bpffs-path" | "ebpf-cgroup-path", _) => ValueHint::DirPath,
        ("config-file" | "file", _) | (_, Some("FILE" | "PATH")) => ValueHint::FilePath,
        _ => ValueHint::Other,
    };
    arg.value_hint(hint)
}

/// Whether the argument is a switch, whose value follows an equals sign.
fn is_switch(arg: &Arg) -> bool {
    arg.is_require_equals_set()
}

/// The names of the flags of any command that are of a kind.
fn each(command: &Command, kind: fn(&Arg) -> bool) -> Vec<String> {
    let of_this = command.get_arguments().filter(|arg| kind(arg)).filter_map(Arg::get_long).map(str::to_owned);
    let mut names: Vec<String> = of_this.collect();
    names.extend(command.get_subcommands().flat_map(|one| each(one, kind)));
    names.sort();
    names.dedup();
    names
}

/// The script with a text of every switch replaced.
fn each_switch(script: String, command: &Command, replaced: impl Fn(&str) -> (String, String)) -> String {
    each(command, is_switch).iter().fold(script, |script, name| {
        let (from, to) = replaced(name);
        script.replace(&from, &to)
    })
}

/// The script for bash, to which an equals sign is a word of its own: it finds the flag before one, and offers the
/// values of switches nowhere else. What help does not show is not offered.
fn behind_an_equals_sign(script: &str, command: &Command) -> String {
    const PREVIOUS: &str = "    prev=\"$3\"\n";
    let find_flag = format!(
        "{PREVIOUS}    if [[ \"${{cur}}\" == \"=\" ]]; then\n        cur=\"\"\n    fi\n    \
         if [[ \"${{COMP_WORDS[COMP_CWORD]}}\" == \"=\" ]]; then\n        prev=\"${{COMP_WORDS[COMP_CWORD-1]}}=\"\n    \
         elif [[ \"${{prev}}\" == \"=\" && COMP_CWORD -ge 2 ]]; then\n        prev=\"${{COMP_WORDS[COMP_CWORD-2]}}=\"\n    fi\n"
    );
    let mut script = script.replace(PREVIOUS, &find_flag);
    for name in each(command, |_| true) {
        script = script.replace(&format!(" --{name})\n"), &format!(" --{name}|--{name}=)\n"));
    }
    for name in each(command, is_switch) {
        script = script.replace(&format!(" --{name}|--{name}=)\n"), &format!(" --{name}=)\n"));
    }
    for name in each(command, Arg::is_hide_set) {
        script = script.replace(&format!(" --{name} "), " ");
    }
    script
}

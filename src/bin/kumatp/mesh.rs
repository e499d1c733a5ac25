//! The commands about pods, Dataplanes and what they reach.

use clap::{Arg, ArgAction, Command};

use crate::commands::switches;
use crate::{Define, flags, json, pod};

pub(crate) fn config(how: Define) -> Command {
    let about = "Print a configuration, make one from a pod or a Dataplane, and say where each setting comes from";
    how(Command::new("config").about(about), |command| {
        command
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommand(printed())
            .subcommand(from_pod())
            .subcommand(from_dataplane())
            .subcommand(to_dataplane())
    })
}

fn printed() -> Command {
    flags::define(
        Command::new("print")
            .about("Print the configuration that files, environment and flags make")
            .long_about(
                "Print the configuration that files, environment and flags make, as with install. With --for kuma in the form \
                 that Kuma's own programs read, kuma-dp and kumactl: what they have nothing like is left out, with a warning.",
            )
            .arg(for_kuma())
            .arg(output()),
    )
    .after_help(
        "Example: one file for the rules, and one for the sidecar\n\
         \n  kumatp config print --config /etc/kumatp/config.yaml --for kuma >/etc/kuma/transparent-proxy.yaml\
         \n  kuma-dp run --transparent-proxy-config /etc/kuma/transparent-proxy.yaml …",
    )
}

fn for_kuma() -> Arg {
    Arg::new("for")
        .long("for")
        .value_name("PROGRAM")
        .value_parser(["kuma"])
        .help("Write it in the form that Kuma's own programs read, kuma-dp and kumactl; what they cannot read is left out, with a warning")
}

fn from_pod() -> Command {
    Command::new("from-pod")
        .about("Print the configuration of a pod")
        .long_about(
            "Print the configuration of a pod: its annotations override the ConfigMap, and that overrides the control plane's \
             settings, as in Kuma's injector. No cluster is asked: a source that is not given is taken as empty. \
             An injected pod carries the result, which is used as it is.",
        )
        .arg(file("POD", "A Pod in YAML or JSON; - is standard input"))
        .args(pod::sources())
        .arg(explain("Say for each setting where it comes from and which values it overrides; as text, or in the format of --output"))
        .arg(output())
        .arg(for_kuma().conflicts_with_all(["explain", "annotation"]))
        .arg(
            Arg::new("annotation")
                .long("annotation")
                .action(ArgAction::SetTrue)
                .conflicts_with("explain")
                .help("Print the annotations that the injector writes to the pod, the whole configuration among them"),
        )
        .after_help(
            "Example: why a port of a running pod is not redirected\n\
             \n  kubectl -n kuma-demo get pod web-1 -o yaml | kumatp config from-pod - --explain\n\
             \n\
             Example: what a pod would get that is not there yet\n\
             \n  kubectl -n kuma-system set env deployment/kuma-control-plane --list >cp.env\n\
             \x20 kubectl -n kuma-system get configmap kuma-transparent-proxy-config -o yaml >tp.yaml\n\
             \x20 kumatp config from-pod pod.yaml --cp-env cp.env --configmap tp.yaml",
        )
}

fn from_dataplane() -> Command {
    let command = Command::new("from-dataplane")
        .about("Print the configuration of the host that a Dataplane runs on")
        .long_about(
            "Print the configuration that the section networking.transparentProxying of a Dataplane asks for: which \
             directions are redirected to which ports, and the address families. Other keys have Kuma's defaults.",
        )
        .arg(file("DATAPLANE", "A Dataplane in YAML or JSON, with placeholders or without; - is standard input"));
    command
        .args(variables())
        .arg(explain("Say for each setting which field it comes from"))
        .arg(output())
        .arg(for_kuma().conflicts_with("explain"))
        .after_help(
            "Example: redirect the traffic of this host as its Dataplane says\n\
         \n  kumatp config from-dataplane dataplane.yaml --var address=192.0.2.7 | kumatp install --config -",
        )
}

fn to_dataplane() -> Command {
    flags::define(
        Command::new("to-dataplane")
            .about("Print the section networking.transparentProxying for the configuration of a host")
            .long_about(
                "Print what the Dataplane of a host must contain, so that sidecar and rules \
                 agree. The configuration comes from files, environment and flags, as with install.",
            )
            .arg(output()),
    )
    .after_help("Example:\n\n  kumatp config to-dataplane --config /etc/kumatp/config.yaml")
}

pub(crate) fn dataplane(how: Define) -> Command {
    how(Command::new("dataplane").about("Check a Dataplane"), |command| {
        command.subcommand_required(true).arg_required_else_help(true).subcommand(validate())
    })
}

fn validate() -> Command {
    Command::new("validate")
        .about("Check Dataplanes and report every problem in them")
        .long_about(
            "Check Dataplanes by the rules of Kuma's control plane, and report every problem at once, at the path that Kuma \
             gives it. Warn of what Kuma accepts although it is plainly a slip, such as a field that it drops. Which meshes \
             there are, only a control plane knows. With --config, warn where a Dataplane and the configuration of its \
             host disagree.",
        )
        .arg(file("DATAPLANE", "A Dataplane in YAML or JSON, with placeholders or without; - is standard input").num_args(1..))
        .args(variables())
        .args(switches())
        .arg(pod::profile())
        .arg(
            Arg::new("config").long("config").value_name("FILE").action(ArgAction::Append).help(
                "Compare with this configuration of the host. Repeatable: later files override earlier ones. Environment variables override files",
            ),
        )
        .after_help(
            "Example:\n\n  kumatp dataplane validate dataplane.yaml --var address=192.0.2.7 --config /etc/kumatp/config.yaml",
        )
}

pub(crate) fn reachable(how: Define) -> Command {
    let about = "Say what a workload reaches through its transparent proxy, and why";
    how(Command::new("reachable").about(about), |command| {
        command
        .long_about(
            "Say which of the mesh's resources a Dataplane reaches, and on which ports: MeshService, MeshExternalService \
             and MeshMultiZoneService by reachableBackends, values of kuma.io/service by reachableServices (Kuma 2.9). Where Kuma \
             chooses by chance among several, say which it might choose. With --explain, say why one of them is \
             reachable, or why not.",
        )
        .arg(
            Arg::new("dataplane")
                .long("dataplane")
                .value_name("FILE")
                .required(true)
                .help("The Dataplane, in YAML or JSON; - is standard input"),
        )
        .arg(
            Arg::new("resources").long("resources").value_name("PATH").required(true).num_args(1..).action(ArgAction::Append).help(
                "The resources of the mesh: files in YAML or JSON, or directories with files that end in .yaml, .yml or .json; - is standard input",
            ),
        )
        .arg(
            Arg::new("explain")
                .long("explain")
                .value_name("NAME")
                .help("Say why the resource or service of this name is reachable, or why it is not"),
        )
        .args(variables())
        .arg(pod::profile())
        .arg(
            Arg::new("transparent-proxy").long("transparent-proxy").action(ArgAction::SetTrue).help(
                "kuma-dp runs with --transparent-proxy, as on Kubernetes, so that the Dataplane need not say that there is a transparent proxy",
            ),
        )
        .arg(
            Arg::new("transparent-proxy-config")
                .long("transparent-proxy-config")
                .value_name("FILE")
                .action(ArgAction::Append)
                .help("The configuration that kuma-dp is given by --transparent-proxy-config; implies --transparent-proxy; - is standard input. Repeatable: later files override earlier ones"),
        )
        .arg(json())
        .after_help(
            "Example: why a service cannot be reached\n\
             \n  kumatp reachable --dataplane dataplane.yaml --var address=192.0.2.7 --resources mesh/ --explain redis",
        )
    })
}

fn file(name: &'static str, help: &'static str) -> Arg {
    Arg::new("file").value_name(name).required(true).help(help)
}

fn variables() -> [Arg; 2] {
    [
        Arg::new("var")
            .long("var")
            .value_name("NAME=VALUE")
            .action(ArgAction::Append)
            .help("The value of {{ NAME }}, as `kuma-dp run --dataplane-var` does. Repeatable"),
        Arg::new("var-file")
            .long("var-file")
            .value_name("FILE")
            .action(ArgAction::Append)
            .help("The same from a file of NAME=VALUE lines, which --var overrides; - is standard input. Repeatable"),
    ]
}

fn explain(help: &'static str) -> Arg {
    Arg::new("explain").long("explain").action(ArgAction::SetTrue).help(help)
}

fn output() -> Arg {
    Arg::new("output")
        .long("output")
        .short('o')
        .value_name("FORMAT")
        .value_parser(["yaml", "json"])
        .help("Print YAML or JSON [default: yaml]")
}

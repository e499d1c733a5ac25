//! Fulfilling requests.

use std::ffi::OsString;
use std::io::Read;

use serde_json::{Value, json};

use super::failure::Code;
use super::network::{ANNOTATIONS, Network};
use super::pod::{self, Decision};
use super::request::{Attachment, Request};
use super::settings::{ConfigMaps, configuration};
use super::template::Template;
use super::{Failure, Version, host};
use crate::config::Config;
use crate::config::kubernetes::{CONFIG_MAP_NAME, Pod};
use crate::engine::netlink::Netlink;
use crate::engine::{Engine, Status, engine_there};
use crate::error::{Error, visible};
use crate::facts::{self, Facts, Resolvers};
use crate::model::{EngineName, IpFamilyMode, Note, Options, Plan};
use crate::net::Uid;
use crate::policy;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// What the specification wants on standard output: a result, or nothing.
    pub output: String,
    /// What there is to say besides, line by line; for standard error, which runtimes log.
    pub remarks: Vec<String>,
}

/// Fulfils one request, which is read from the variables of the environment and standard input.
///
/// ADD, CHECK and DEL enter the network namespace of the pod once, on a thread of their own; the caller's stays where it is.
/// Nothing is kept outside of that namespace, so GC has nothing to collect.
///
/// ```
/// let variables = [("CNI_COMMAND", "VERSION")].map(|(name, value)| (name.into(), value.into()));
/// let answer = kumatp::cni::answer(variables, r#"{"cniVersion": "1.0.0"}"#.as_bytes())?;
/// assert!(answer.output.starts_with(r#"{"cniVersion":"1.0.0","supportedVersions":["0.3.0","#));
/// # Ok::<(), kumatp::cni::Failure>(())
/// ```
///
/// # Errors
/// Whatever keeps a pod from being redirected as it asks: it must not start then. [`Code`] has the kinds.
pub fn answer(variables: impl IntoIterator<Item = (OsString, OsString)>, input: impl Read) -> Result<Answer, Failure> {
    let mut remarks = Vec::new();
    let output = match Request::read(variables, input)? {
        Request::Version { asked } => {
            json!({"cniVersion": asked, "supportedVersions": Version::ALL.map(Version::as_str)}).to_string()
        }
        Request::Add(attachment) => of(&attachment.network, add(&attachment, &mut remarks))?,
        Request::Check(attachment) => of(&attachment.network, check(&attachment, &mut remarks))?,
        Request::Del(attachment) => of(&attachment.network, del(&attachment, &mut remarks))?,
        // What is listed was checked while it was read.
        Request::Gc(_) => String::new(),
        Request::Status(network) => of(&network, status(&network, &mut remarks))?,
    };
    Ok(Answer { output, remarks })
}

fn of<T>(network: &Network, done: Result<T, Failure>) -> Result<T, Failure> {
    done.map_err(|failure| failure.in_version(network.version))
}

fn add(attachment: &Attachment, remarks: &mut Vec<String>) -> Result<String, Failure> {
    in_pod(attachment, || {
        if attachment.network.previous.is_none() && !host::has_interface().map_err(about)? {
            let details = "prevResult: there is none, and the pod has no interface yet: expected this plugin behind the one that makes it";
            return Err(Failure::new(Code::Network, "the network configuration is not valid", details));
        }
        if let Some(config) = wanted(attachment, remarks)? {
            let resolvers = resolvers(&config, &attachment.network)?;
            let installed = Netlink::default()
                .install(&config.options(), &needed(&config), |facts| plan(&config, resolvers, facts));
            let (plan, report, status) = installed.map_err(about)?;
            remarks.extend(report.steps.iter().cloned());
            remarks.extend(plan.notes.iter().chain(&report.notes).map(Note::to_string));
            in_force(status)?;
        }
        Ok(())
    })?;
    Ok(result(&attachment.network))
}

/// The result of the plugin before this one as it is. Where there is none, the plugin stands alone beside other
/// networks of the pod, and adds nothing that a result could tell.
fn result(network: &Network) -> String {
    let mut result = network.previous.clone().unwrap_or_default();
    result.entry("cniVersion").or_insert_with(|| Value::from(network.version.as_str()));
    Value::Object(result).to_string()
}

fn check(attachment: &Attachment, remarks: &mut Vec<String>) -> Result<String, Failure> {
    in_pod(attachment, || {
        let Some(config) = wanted(attachment, remarks)? else { return Ok(()) };
        let resolvers = resolvers(&config, &attachment.network)?;
        let engine = Netlink::default();
        let facts =
            facts::probe(&needed(&config), engine.abilities(&config.options()).map_err(about)?).map_err(about)?;
        let plan = plan(&config, resolvers, facts).map_err(about)?;
        in_force(engine.status(&plan).map_err(about)?)
    })?;
    Ok(String::new())
}

/// Takes back what is in the namespace, whatever is known of the pod by now.
fn del(attachment: &Attachment, remarks: &mut Vec<String>) -> Result<String, Failure> {
    host::in_namespace(attachment, || {
        // Rules by iptables are not the plugin's.
        if engine_there(&Options::default(), None).map_err(about)? == Some(EngineName::Netlink) {
            remarks.extend(Netlink::default().uninstall(&Options::default()).map_err(about)?.steps);
        }
        Ok(())
    })?;
    Ok(String::new())
}

/// Tries all that an ADD needs in a network namespace of its own, and changes nothing.
fn status(network: &Network, remarks: &mut Vec<String>) -> Result<String, Failure> {
    if network.pod_file.is_none() && network.asks_for_annotations == Some(false) {
        return Err(Failure::new(Code::NotAvailable, "no pod can be redirected here", unknown_pods()));
    }
    let tried = host::fresh_namespace().and_then(|namespace| {
        let mut config = Config::default();
        config.ip_family_mode = IpFamilyMode::Ipv4;
        let engine = Netlink::default().in_namespace(namespace);
        engine.check(&policy::plan(&config, &Facts::capable_host(Uid::SIDECAR))?)?;
        engine.abilities(&Options::default())
    });
    match tried {
        Ok(found) => {
            remarks.extend(found.v6_refused.map(|(reason, _)| format!("pods with IPv6 would fail: {reason}")));
            Ok(String::new())
        }
        Err(error) => Err(Failure::new(Code::NotAvailable, "no pod can be redirected here", error.to_string())),
    }
}

fn about(error: Error) -> Failure {
    Failure::about_the_pod(&error)
}

/// Does something in the network namespace of a pod that has to be there.
fn in_pod(attachment: &Attachment, work: impl FnOnce() -> Result<(), Failure> + Send) -> Result<(), Failure> {
    host::in_namespace(attachment, work)?.ok_or_else(|| {
        let path = attachment.netns.as_deref().unwrap_or("".as_ref()).display().to_string();
        let details = format!("CNI_NETNS: '{}' is not there, or is no network namespace", visible(&path));
        Failure::new(Code::Environment, "invalid environment variable: CNI_NETNS", details)
    })
}

/// The configuration that the pod asks for; none if it is left alone.
fn wanted(attachment: &Attachment, remarks: &mut Vec<String>) -> Result<Option<Config>, Failure> {
    let excluded = &attachment.network.excluded_namespaces;
    let namespace = attachment.args.get("K8S_POD_NAMESPACE");
    // Whoever provides the files may itself be a pod of such a namespace, so none is needed for it.
    if let Some(namespace) = namespace.filter(|name| excluded.contains(name)) {
        remarks.push(format!("the pod is left alone: the namespace {namespace} is excluded"));
        return Ok(None);
    }
    let mut pod = match (&attachment.network.pod_file, &attachment.network.annotations) {
        (Some(template), _) => {
            let path = attachment.path("podFile", template, None, "")?;
            let text = host::read("podFile", &path)?;
            pod::read(&text).map_err(|error| {
                let details = error.within(format_args!("podFile: {}", path.display())).to_string();
                Failure::new(Code::Pod, "the file about the pod is not valid", details)
            })?
        }
        (None, Some(annotations)) => Pod::with_annotations(annotations.clone()),
        (None, None) => {
            let message = "it is not known whether the pod is to be redirected";
            return Err(Failure::new(Code::Network, message, unknown_pods()));
        }
    };
    // What the runtime says comes first: the file may have been written for any namespace.
    pod.namespace = namespace.cloned().or(pod.namespace);
    remarks.extend(pod.notes.drain(..).map(|note| note.to_string()));
    match Decision::about(&pod, excluded).map_err(about)? {
        Decision::LeaveAlone { reason } => {
            remarks.push(format!("the pod is left alone: {reason}"));
            Ok(None)
        }
        Decision::Redirect => {
            let maps = config_maps(attachment, &pod)?;
            let (config, notes) = configuration(pod, &maps, attachment.network.profile).map_err(about)?;
            remarks.extend(notes.iter().map(Note::to_string));
            Ok(Some(config))
        }
    }
}

fn unknown_pods() -> String {
    format!(
        "the annotations of pods are not known: expected \"capabilities\": {{\"{ANNOTATIONS}\": true}} in the \
         configuration of the plugin, with a runtime that hands them over, or podFile"
    )
}

fn config_maps(attachment: &Attachment, pod: &Pod) -> Result<ConfigMaps, Failure> {
    let network = &attachment.network;
    let read = |key: &str, template: Option<&Template>, name: &str| {
        let path =
            template.map(|template| attachment.path(key, template, pod.namespace.as_deref(), name)).transpose()?;
        path.map(|path| host::read(key, &path)).transpose()
    };
    let system = read("systemConfigMapFile", network.system_config_map_file.as_ref(), "")?;
    let custom = match pod.annotations.get(CONFIG_MAP_NAME).filter(|name| !name.is_empty()) {
        None => None,
        Some(name) if network.config_map_file.is_none() => {
            let name = visible(name);
            let details = format!(
                "{CONFIG_MAP_NAME}: '{name}' is not known here: expected configMapFile in the network configuration"
            );
            return Err(Failure::new(Code::Network, "the pod names a ConfigMap", details));
        }
        Some(name) => read("configMapFile", network.config_map_file.as_ref(), name)?,
    };
    Ok(ConfigMaps { system, custom })
}

/// The name servers of the pod. What is no address is as good as none.
fn resolvers<'n>(config: &Config, network: &'n Network) -> Result<Option<&'n Resolvers>, Failure> {
    let known = network.resolvers.as_ref();
    if policy::facts_needed(config).resolv_conf.is_some() && known.is_none_or(|known| known.servers.is_empty()) {
        let details = "redirect.dns.enabled: the name servers of the pod are not known: expected \"capabilities\": {\"dns\": \
                       true} or \"dns\": {\"nameservers\": […]} in the configuration of the plugin, name servers in prevResult, \
                       or redirect.dns.captureAll";
        return Err(Failure::new(Code::Network, "the name servers of the pod are not known", details));
    }
    Ok(known)
}

/// What has to be known of the pod's namespace. Of the host's files none counts: the name servers are the pod's.
fn needed(config: &Config) -> facts::Request {
    let mut needed = policy::facts_needed(config);
    needed.resolv_conf = None;
    needed
}

/// The rules for a pod with this configuration.
fn plan(config: &Config, resolvers: Option<&Resolvers>, mut facts: Facts) -> Result<Plan, Error> {
    facts.resolvers = resolvers.cloned();
    policy::plan(config, &facts)
}

/// Whether exactly the rules of the pod are in force.
fn in_force(found: Status) -> Result<(), Failure> {
    let details = match found {
        Status::Current => return Ok(()),
        Status::Absent => "the pod has none of its rules".to_owned(),
        Status::Drifted { differences } => differences.join("\n"),
        Status::Uncompared { reason } => reason,
    };
    Err(Failure::new(Code::NotInForce, "the rules of the pod are not active", details))
}

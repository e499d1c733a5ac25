use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::environment::{Command, Parameters};
use super::failure::Code;
use super::network::{AttachmentId, Network, object};
use super::template::Template;
use super::{Failure, Version};
use crate::config::kubernetes::CONFIG_MAP_NAME;

/// The longest network configuration that is read, in bytes. The annotations of a pod can have 256 KiB in all.
const LIMIT: u64 = 4 << 20;

/// What a runtime asks for.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Request {
    /// Redirect the traffic of a pod.
    Add(Attachment),
    /// Say whether its rules are in force.
    Check(Attachment),
    /// Take the redirection back.
    Del(Attachment),
    /// Collect what pods that are gone left behind.
    Gc(Network),
    /// Say whether pods can be redirected here.
    Status(Network),
    /// Say which versions are spoken.
    Version {
        /// The version in which it is asked.
        asked: String,
    },
}

/// A pod, and the network that it is attached to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Attachment {
    /// The container and its interface: `CNI_CONTAINERID`, `CNI_IFNAME`.
    pub id: AttachmentId,
    /// The network namespace of the pod: `CNI_NETNS`. Only for a DEL it may be unset.
    pub netns: Option<PathBuf>,
    /// Whether the namespace may be the plugin's own: `CNI_NETNS_OVERRIDE`.
    pub netns_override: bool,
    /// The runtime's own arguments: `CNI_ARGS`.
    pub args: BTreeMap<String, String>,
    /// The network configuration.
    pub network: Network,
}

impl Attachment {
    /// The path of a file that the network configuration has under `key`.
    pub(super) fn path(
        &self,
        key: &str,
        template: &Template,
        namespace: Option<&str>,
        config_map: &str,
    ) -> Result<PathBuf, Failure> {
        let arg = |name: &str| self.args.get(name).map(String::as_str);
        let value = |placeholder: &str| match placeholder {
            "containerID" => Some(self.id.container_id.as_str()),
            "name" => arg("K8S_POD_NAME"),
            "uid" => arg("K8S_POD_UID"),
            "namespace" => arg("K8S_POD_NAMESPACE").or(namespace),
            _ => Some(config_map),
        };
        template.path(value).map_err(|(placeholder, why)| {
            let source = match placeholder {
                "name" => "CNI_ARGS: K8S_POD_NAME",
                "uid" => "CNI_ARGS: K8S_POD_UID",
                "namespace" => "CNI_ARGS: K8S_POD_NAMESPACE",
                _ => CONFIG_MAP_NAME,
            };
            let code = if source == CONFIG_MAP_NAME { Code::Pod } else { Code::Environment };
            let details = format!("{}; {key} needs it for {{{placeholder}}}", why.at(source));
            Failure::new(code, format!("the path of {key} is not known"), details)
        })
    }
}

impl Request {
    /// Reads a request from the environment and standard input.
    ///
    /// ```
    /// use kumatp::cni::{Request, Version};
    ///
    /// let variables = [("CNI_COMMAND", "STATUS")].map(|(name, value)| (name.into(), value.into()));
    /// let input = r#"{"cniVersion": "1.1.0", "name": "mesh", "type": "kumatp-cni"}"#;
    /// let Request::Status(network) = Request::read(variables, input.as_bytes())? else { panic!() };
    /// assert_eq!((network.version, network.name.as_str()), (Version::V1_1_0, "mesh"));
    /// # Ok::<(), kumatp::cni::Failure>(())
    /// ```
    ///
    /// # Errors
    /// What the specification asks for: see [`Code`]. Every problem of one source is told at once.
    pub fn read(variables: impl IntoIterator<Item = (OsString, OsString)>, input: impl Read) -> Result<Self, Failure> {
        let command = Command::read(variables)?;
        let text = bounded(input)?;
        if command == Command::Version {
            return version(&text);
        }
        let map = object(&text)?;
        let network = Network::read(&map)?;
        if network.version < command.since() {
            let details = format!("cniVersion is {}; the operation came with {}", network.version, command.since());
            let failure = Failure::new(Code::IncompatibleVersion, "the version lacks this operation", details);
            return Err(failure.in_version(network.version));
        }
        let attach = |Parameters { container_id, interface, netns, netns_override, args }, network| Attachment {
            id: AttachmentId { container_id, interface },
            netns,
            netns_override,
            args,
            network,
        };
        Ok(match command {
            Command::Add(parameters) => Self::Add(attach(parameters, network)),
            Command::Check(parameters) => Self::Check(attach(parameters, network)),
            Command::Del(parameters) => Self::Del(attach(parameters, network)),
            Command::Gc => Self::Gc(network),
            Command::Status | Command::Version => Self::Status(network),
        })
    }
}

fn bounded(input: impl Read) -> Result<Vec<u8>, Failure> {
    let refused = |details: String| Failure::new(Code::Input, "cannot read the network configuration", details);
    let mut text = Vec::new();
    input.take(LIMIT + 1).read_to_end(&mut text).map_err(|error| refused(format!("standard input: {error}")))?;
    match text.len() as u64 > LIMIT {
        true => Err(refused(format!("standard input has more than {LIMIT} bytes"))),
        false => Ok(text),
    }
}

/// Some runtimes ask for versions without saying theirs.
fn version(text: &[u8]) -> Result<Request, Failure> {
    let map = match text.iter().all(u8::is_ascii_whitespace) {
        true => Map::new(),
        false => object(text)?,
    };
    let asked = match map.get("cniVersion") {
        None | Some(Value::Null) => Version::NEWEST.to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(_) => return Err(Version::of(&map).expect_err("it is no string")),
    };
    Ok(Request::Version { asked })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables(command: &str, args: &str) -> Vec<(OsString, OsString)> {
        let all = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", "3f0c"),
            ("CNI_NETNS", "/var/run/netns/pod"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", args),
            ("CNI_PATH", "/opt/cni/bin"),
            ("HOME", "/root"),
        ];
        all.map(|(name, value)| (name.into(), value.into())).to_vec()
    }

    fn input() -> String {
        json!({
            "cniVersion": "1.1.0", "name": "dbnet", "type": "kumatp-cni", "profile": "kuma-3",
            "kubernetes": {"exclude_namespaces": ["kube-system"], "kubeconfig": "/x"},
            "podFile": "/run/pods/{namespace}/{name}.yaml", "configMapFile": "/run/maps/{namespace}/{configMap}",
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"a": "b"}, "dns": {"servers": ["10.0.0.1", "x"]}},
            "prevResult": {"cniVersion": "1.1.0", "dns": {"nameservers": ["10.0.0.2"]}},
            "cni.dev/valid-attachments": [{"containerID": "3f0c", "ifname": "eth0"}]
        })
        .to_string()
    }

    #[test]
    fn everything_is_read() {
        let args = "K8S_POD_NAME=web;;K8S_POD_NAMESPACE=shop;";
        let Request::Add(attachment) = Request::read(variables("ADD", args), input().as_bytes()).unwrap() else {
            panic!("it is no ADD");
        };
        assert_eq!((attachment.id.container_id.as_str(), attachment.id.interface.as_str()), ("3f0c", "eth0"));
        let network = &attachment.network;
        assert_eq!(network.annotations.as_ref().unwrap()["a"], "b");
        let resolvers = network.resolvers.as_ref().unwrap();
        assert_eq!((resolvers.servers.len(), resolvers.skipped.as_slice()), (1, &["x".to_owned()][..]));
        let path = |key, template: &Option<Template>| attachment.path(key, template.as_ref().unwrap(), None, "map");
        assert_eq!(path("podFile", &network.pod_file).unwrap(), PathBuf::from("/run/pods/shop/web.yaml"));
        assert_eq!(path("configMapFile", &network.config_map_file).unwrap(), PathBuf::from("/run/maps/shop/map"));
        assert_eq!(network.excluded_namespaces, ["kube-system"]);
        let Request::Gc(network) = Request::read(variables("GC", ""), input().as_bytes()).unwrap() else {
            panic!("it is no GC");
        };
        assert_eq!(network.valid_attachments, [attachment.id]);
    }

    #[test]
    fn whatever_comes_there_is_an_answer() {
        let input = input().into_bytes();
        arbtest::arbtest(|u| {
            let mut text = input.clone();
            for _ in 0..u.int_in_range(1..=4)? {
                let at = u.choose_index(text.len())?;
                match u.int_in_range(0..=2)? {
                    0 => text[at] = u.arbitrary()?,
                    1 => drop(text.drain(at..(at + u.int_in_range(1..=9)?).min(text.len()))),
                    _ => text.insert(at, *u.choose(b"{}[]\",:0\\n")?),
                }
            }
            let command = *u.choose(&["ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION", "x"])?;
            if let Err(failure) = Request::read(variables(command, u.arbitrary()?), text.as_slice()) {
                let object: Map<String, Value> = serde_json::from_str(&failure.to_json()).unwrap();
                assert!(object["code"].as_u64().is_some_and(|code| (1..=7).contains(&code)), "{object:?}");
                assert!(!object["details"].as_str().unwrap().is_empty(), "{object:?}");
            }
            Ok(())
        });
    }
}

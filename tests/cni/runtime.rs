//! A small container runtime: it derives requests from network configurations as the specification says (section 3).

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value, json};

/// The capability by which annotations are handed over.
pub(crate) const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// The annotation that holds the configuration.
pub(crate) const CONFIG: &str = "traffic.kuma.io/transparent-proxy-config";

/// The program.
pub(crate) fn plugin() -> PathBuf {
    env!("CARGO_BIN_EXE_kumatp-cni").into()
}

/// One call of a plugin.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<PathBuf>,
    /// Those that the specification names; nothing else is in the environment but `PATH`.
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) input: Vec<u8>,
    /// Run by an ordinary user.
    pub(crate) ordinary: bool,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Call {
    pub(crate) fn of(command: &str, input: impl Into<Vec<u8>>) -> Self {
        let mut call = Self {
            program: plugin(),
            arguments: Vec::new(),
            variables: Vec::new(),
            input: input.into(),
            ordinary: false,
        };
        call.set("CNI_COMMAND", command);
        call
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    pub(crate) fn run(&self) -> Reply {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if self.ordinary {
            command.uid(1000).gid(1000);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A plugin that refuses its environment reads nothing.
        let _ = child.stdin.take().unwrap().write_all(&self.input);
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        assert!(status.code().is_some_and(|code| code < 2), "{status}: {}", String::from_utf8_lossy(&stderr));
        Reply {
            success: status.success(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }
}

impl Reply {
    /// What a successful call printed.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert!(self.success, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The code of an error, with its message and details in one text. An error is one object with nothing but the keys
    /// of the specification.
    #[track_caller]
    pub(crate) fn error(self, version: &str) -> (u64, String) {
        assert!(!self.success, "it succeeded: {}{}", self.stdout, self.stderr);
        let object: Map<String, Value> = serde_json::from_str(&self.stdout).unwrap();
        let keys: Vec<_> = object.keys().map(String::as_str).collect();
        assert_eq!(keys, ["cniVersion", "code", "details", "msg"]);
        assert_eq!(object["cniVersion"], version, "{object:?}");
        let text = |key: &str| object[key].as_str().unwrap().to_owned();
        assert!(!text("msg").is_empty());
        (object["code"].as_u64().unwrap(), format!("{}: {}", text("msg"), text("details")))
    }
}

/// A pod, as a runtime knows it.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) netns: String,
    pub(crate) args: String,
    /// What the runtime offers for each capability.
    pub(crate) capabilities: Map<String, Value>,
}

impl Pod {
    /// A pod with these annotations.
    pub(crate) fn new(netns: impl Into<String>, annotations: &[(&str, &str)]) -> Self {
        let annotations: Map<_, _> =
            annotations.iter().map(|(name, text)| ((*name).to_owned(), Value::from(*text))).collect();
        let mut capabilities = Map::new();
        capabilities.insert(ANNOTATIONS.to_owned(), annotations.into());
        Self {
            id: "cnitest-3f0c".into(),
            netns: netns.into(),
            args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=3f0c;K8S_POD_UID=7d1c"
                .into(),
            capabilities,
        }
    }

    /// A pod that is to be redirected, with this configuration.
    pub(crate) fn injected(netns: impl Into<String>, config: &str) -> Self {
        Self::new(netns, &[("kuma.io/sidecar-injected", "true"), (CONFIG, config)])
    }
}

/// A network configuration, and where its plugins are.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) list: Value,
    pub(crate) programs: PathBuf,
}

impl Network {
    /// A chain with `kumatp-cni` alone.
    pub(crate) fn alone(own: Value) -> Self {
        let mut own = own;
        own["type"] = "kumatp-cni".into();
        let list = json!({"cniVersion": "1.1.0", "name": "dbnet", "plugins": [own]});
        Self { list, programs: plugin().parent().unwrap().to_owned() }
    }

    /// The same, with the annotations asked for and nothing else.
    pub(crate) fn usual() -> Self {
        Self::alone(json!({"capabilities": {ANNOTATIONS: true, "dns": true}}))
    }

    pub(crate) fn in_version(mut self, version: &str) -> Self {
        self.list["cniVersion"] = version.into();
        self
    }

    fn version(&self) -> &str {
        self.list["cniVersion"].as_str().unwrap()
    }

    /// The request configuration for one plugin of the chain.
    fn request(&self, plugin: &Value, pod: Option<&Pod>, previous: Option<&Value>) -> Value {
        let mut request = plugin.clone();
        request["cniVersion"] = self.list["cniVersion"].clone();
        request["name"] = self.list["name"].clone();
        if let Some(pod) = pod {
            let wanted = plugin["capabilities"].as_object().cloned().unwrap_or_default();
            let given = pod.capabilities.iter().filter(|(key, _)| wanted.get(*key) == Some(&true.into()));
            let given: Map<_, _> = given.map(|(key, value)| (key.clone(), value.clone())).collect();
            request.as_object_mut().unwrap().remove("capabilities");
            if !given.is_empty() {
                request["runtimeConfig"] = given.into();
            }
        }
        if let Some(previous) = previous {
            request["prevResult"] = previous.clone();
        }
        request
    }

    /// The call of one plugin of the chain for a pod.
    pub(crate) fn call(&self, command: &str, plugin: &Value, pod: &Pod, previous: Option<&Value>) -> Call {
        let mut call = Call::of(command, self.request(plugin, Some(pod), previous).to_string())
            .with("CNI_CONTAINERID", &pod.id)
            .with("CNI_NETNS", &pod.netns)
            .with("CNI_IFNAME", "eth0")
            .with("CNI_ARGS", &pod.args)
            .with("CNI_PATH", self.programs.to_str().unwrap());
        call.program = Path::new(&self.programs).join(plugin["type"].as_str().unwrap());
        call
    }

    fn plugins(&self) -> Vec<Value> {
        self.list["plugins"].as_array().unwrap().clone()
    }

    /// The call of the last plugin.
    pub(crate) fn last(&self, command: &str, pod: &Pod, previous: Option<&Value>) -> Call {
        self.call(command, self.plugins().last().unwrap(), pod, previous)
    }

    /// ADD: every plugin in turn, each with the result of the one before. `first` is what the first one is given.
    pub(crate) fn add(&self, pod: &Pod, first: Option<Value>) -> Reply {
        let mut previous = first;
        let mut last = None;
        for plugin in self.plugins() {
            let reply = self.call("ADD", &plugin, pod, previous.as_ref()).run();
            if !reply.success {
                return reply;
            }
            previous = Some(serde_json::from_str(&reply.stdout).unwrap());
            last = Some(reply);
        }
        last.unwrap()
    }

    /// CHECK: every plugin in turn, each with the result of ADD.
    pub(crate) fn check(&self, pod: &Pod, result: &Value) -> Reply {
        self.all("CHECK", self.plugins(), pod, result)
    }

    /// DEL: from the last plugin to the first.
    pub(crate) fn del(&self, pod: &Pod, result: &Value) -> Reply {
        self.all("DEL", self.plugins().into_iter().rev().collect(), pod, result)
    }

    fn all(&self, command: &str, plugins: Vec<Value>, pod: &Pod, result: &Value) -> Reply {
        let mut last = None;
        for plugin in plugins {
            let reply = self.call(command, &plugin, pod, Some(result)).run();
            if !reply.success {
                return reply;
            }
            assert_eq!(reply.stdout, "", "{command} has no output");
            last = Some(reply);
        }
        last.unwrap()
    }

    /// An operation that is about no pod.
    pub(crate) fn general(&self, command: &str, more: &Value) -> Call {
        let mut request = self.request(self.plugins().last().unwrap(), None, None);
        for (key, value) in more.as_object().unwrap() {
            request[key] = value.clone();
        }
        assert_eq!(request["cniVersion"], self.version());
        Call::of(command, request.to_string()).with("CNI_PATH", self.programs.to_str().unwrap())
    }
}

/// A result as the specification has it.
pub(crate) fn result(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "interfaces": [
            {"name": "veth3243", "mac": "55:44:33:22:11:11"},
            {"name": "eth0", "mac": "99:88:77:66:55:44", "mtu": 1500, "sandbox": "/var/run/netns/blue"}
        ],
        "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1}],
        "routes": [{"dst": "0.0.0.0/0", "priority": 4294967295_u32, "something.else/new": {"kept": [1.5, null]}}],
        "dns": {"nameservers": ["10.77.0.53"], "search": ["shop.svc.cluster.local"]}
    })
}

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::{Error, InvalidValue, Problem};

/// Says whether a pod has a sidecar. Kuma's injector writes `true`.
const INJECTED: &str = "kuma.io/sidecar-injected";

/// The container that redirects a pod's traffic where no plugin does.
const INIT: &str = "kuma-init";

/// The container of the sidecar.
const SIDECAR: &str = "kuma-sidecar";

/// What the plugin knows of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Pod {
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The namespace that it is in, where that is known.
    pub namespace: Option<String>,
    /// What its specification says, where that is known.
    pub spec: Option<Spec>,
}

/// The part of a pod's specification that matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Spec {
    /// Whether it has no network namespace of its own.
    pub host_network: bool,
    /// The names of its containers, those of `initContainers` included.
    pub containers: Vec<String>,
}

/// What is to be done with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Its traffic goes through its sidecar.
    Redirect,
    /// Nothing is done.
    LeaveAlone {
        /// Why, in one sentence without a full stop.
        reason: String,
    },
}

impl Pod {
    /// A pod of which the annotations are known.
    pub fn of_annotations(annotations: BTreeMap<String, String>) -> Self {
        Self { annotations, ..Self::default() }
    }

    /// Reads a Pod, or only its annotations as a mapping of names to texts; both in YAML or JSON.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem.
    pub fn parse(text: &str) -> Result<Self, Error> {
        const EXPECTED: &str = "a Pod, or a mapping of annotations to their texts";
        let value: Value = yaml_serde::from_str(text)
            .map_err(|error| Error::from(InvalidValue::new(error.to_string(), EXPECTED).at("")))?;
        let Value::Object(map) = value else {
            return Err(InvalidValue::new(value.to_string(), EXPECTED).at("").into());
        };
        let mut problems = Vec::new();
        let is_pod = ["kind", "apiVersion", "metadata", "spec"].iter().any(|key| map.contains_key(*key));
        let pod = match is_pod {
            true => whole(&map, &mut problems),
            false => Self::of_annotations(texts("", &map, &mut problems)),
        };
        match problems.is_empty() {
            true => Ok(pod),
            false => Err(Error::Config(problems)),
        }
    }

    /// What is to be done, as Kuma's own plugin decides.
    ///
    /// ```
    /// use kumatp::cni::{Decision, Pod};
    ///
    /// let pod = Pod::parse("kuma.io/sidecar-injected: 'true'")?;
    /// assert_eq!(pod.decide(&[])?, Decision::Redirect);
    /// assert!(matches!(Pod::default().decide(&[])?, Decision::LeaveAlone { .. }));
    /// # Ok::<(), kumatp::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the annotation that decides has a value that neither says yes nor no.
    pub fn decide(&self, excluded_namespaces: &[String]) -> Result<Decision, Error> {
        let alone = |reason: String| Ok(Decision::LeaveAlone { reason });
        if let Some(namespace) = self.namespace.as_ref().filter(|name| excluded_namespaces.contains(name)) {
            return alone(format!("the namespace {namespace} is excluded"));
        }
        if let Some(spec) = &self.spec {
            let has = |name: &str| spec.containers.iter().any(|container| container == name);
            if spec.host_network {
                return alone("it uses the network of the host".into());
            } else if has(INIT) {
                return alone(format!("its container {INIT} redirects its traffic"));
            } else if !has(SIDECAR) {
                return alone(format!("it has no container {SIDECAR}"));
            }
        }
        match self.annotations.get(INJECTED).map(String::as_str) {
            Some("true" | "enabled" | "yes") => Ok(Decision::Redirect),
            None => alone(format!("it has no annotation {INJECTED}")),
            Some("false" | "disabled" | "no") => {
                alone(format!("its annotation {INJECTED} says that it has no sidecar"))
            }
            Some(other) => Err(InvalidValue::new(other, "true or false").at(INJECTED).into()),
        }
    }
}

fn whole(map: &Map<String, Value>, problems: &mut Vec<Problem>) -> Pod {
    let mut refuse = |path: &str, value: &Value, expected: &'static str| {
        problems.push(InvalidValue::new(value.to_string(), expected).at(path));
    };
    if let Some(kind) = map.get("kind").filter(|kind| *kind != "Pod") {
        refuse("kind", kind, "Pod");
        return Pod::default();
    }
    let mut object = |path: &str, value: Option<&Value>| match value {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(map)) => map.clone(),
        Some(other) => {
            refuse(path, other, "a mapping");
            Map::new()
        }
    };
    let metadata = object("metadata", map.get("metadata"));
    let annotations = object("metadata.annotations", metadata.get("annotations"));
    let spec = map.contains_key("spec").then(|| object("spec", map.get("spec")));
    let annotations = texts("metadata.annotations.", &annotations, problems);
    let spec = spec.map(|spec| specification(&spec, problems));
    let namespace = metadata.get("namespace").and_then(Value::as_str).map(str::to_owned);
    Pod { annotations, namespace, spec }
}

fn specification(map: &Map<String, Value>, problems: &mut Vec<Problem>) -> Spec {
    let mut spec = Spec::default();
    let mut refuse = |path: String, value: &Value, expected: &'static str| {
        problems.push(InvalidValue::new(value.to_string(), expected).at(path));
    };
    match map.get("hostNetwork") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(on)) => spec.host_network = *on,
        Some(other) => refuse("spec.hostNetwork".into(), other, "true or false"),
    }
    for list in ["initContainers", "containers"] {
        match map.get(list) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    match item.get("name") {
                        Some(Value::String(name)) => spec.containers.push(name.clone()),
                        _ => refuse(format!("spec.{list}[{index}]"), item, "a container with a name"),
                    }
                }
            }
            Some(other) => refuse(format!("spec.{list}"), other, "a list of containers"),
        }
    }
    spec
}

fn texts(prefix: &str, map: &Map<String, Value>, problems: &mut Vec<Problem>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, value) in map {
        match value {
            Value::String(text) => drop(all.insert(name.clone(), text.clone())),
            other => problems.push(
                InvalidValue::new(other.to_string(), "text; put the value in quotes").at(format!("{prefix}{name}")),
            ),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(text: &str, excluded: &[&str]) -> String {
        let excluded: Vec<_> = excluded.iter().map(ToString::to_string).collect();
        match Pod::parse(text).unwrap().decide(&excluded) {
            Ok(Decision::Redirect) => "redirect".into(),
            Ok(Decision::LeaveAlone { reason }) => reason,
            Err(error) => error.to_string(),
        }
    }

    fn pod(metadata: &str, spec: &str) -> String {
        format!("{{kind: Pod, metadata: {{namespace: shop, annotations: {{{metadata}}}}}, spec: {{{spec}}}}}")
    }

    #[test]
    fn who_is_redirected() {
        const YES: &str = "kuma.io/sidecar-injected: 'true'";
        const BOTH: &str = "containers: [{name: web}, {name: kuma-sidecar}]";
        for (text, excluded, expected) in [
            (YES.to_owned(), &[][..], "redirect"),
            ("kuma.io/sidecar-injected: enabled".to_owned(), &[], "redirect"),
            ("{}".to_owned(), &[], "it has no annotation kuma.io/sidecar-injected"),
            ("kuma.io/sidecar-injected: 'false'".to_owned(), &[], "its annotation kuma.io/sidecar-injected says"),
            ("kuma.io/sidecar-injected: 'True'".to_owned(), &[], "kuma.io/sidecar-injected: 'True' is not valid"),
            (pod(YES, BOTH), &["other"], "redirect"),
            (pod(YES, BOTH), &["kube-system", "shop"], "the namespace shop is excluded"),
            (pod("", BOTH), &[], "it has no annotation"),
            (pod(YES, "containers: [{name: web}]"), &[], "it has no container kuma-sidecar"),
            // A sidecar as Kubernetes itself knows them.
            (pod(YES, "initContainers: [{name: kuma-sidecar}], containers: [{name: web}]"), &[], "redirect"),
            (pod(YES, &format!("initContainers: [{{name: kuma-init}}], {BOTH}")), &[], "its container kuma-init"),
            (pod(YES, &format!("hostNetwork: true, {BOTH}")), &[], "it uses the network of the host"),
        ] {
            let said = decision(&text, excluded);
            assert!(said.starts_with(expected), "{text}: {said}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let text = "{kind: Pod, metadata: {annotations: {a: true}}, spec: {hostNetwork: 1, containers: [{}], initContainers: x}}";
        let error = Pod::parse(text).unwrap_err();
        let paths: Vec<_> = error.problems().iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["metadata.annotations.a", "spec.hostNetwork", "spec.initContainers", "spec.containers[0]"]);
        for (text, path) in [
            ("kind: Deployment", "kind"),
            ("a: [1]", "a"),
            ("metadata: []", "metadata"),
            ("[1]", ""),
            ("", ""),
            ("{", ""),
            ("a: b: c", ""),
        ] {
            let error = Pod::parse(text).unwrap_err();
            assert_eq!(error.problems()[0].path, path, "{text}: {error}");
        }
    }
}

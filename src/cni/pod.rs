use serde_json::Value;

use crate::config::Format;
use crate::config::kubernetes::{INIT, INJECTED, Pod, SIDECAR};
use crate::error::{Error, InvalidValue};

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

impl Decision {
    /// What is to be done with a pod, as Kuma's own plugin decides. Of a pod without containers only the annotations
    /// are known.
    ///
    /// ```
    /// use kumatp::cni::Decision;
    /// use kumatp::config::kubernetes::Pod;
    ///
    /// let pod = Pod::with_annotations([("kuma.io/sidecar-injected".to_owned(), "true".to_owned())]);
    /// assert_eq!(Decision::about(&pod, &[])?, Decision::Redirect);
    /// assert!(matches!(Decision::about(&Pod::default(), &[])?, Decision::LeaveAlone { .. }));
    /// # Ok::<(), kumatp::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the annotation that decides says neither yes nor no.
    pub fn about(pod: &Pod, excluded_namespaces: &[String]) -> Result<Self, Error> {
        let alone = |reason: String| Ok(Self::LeaveAlone { reason });
        if let Some(namespace) = pod.namespace.as_ref().filter(|name| excluded_namespaces.contains(name)) {
            return alone(format!("the namespace {namespace} is excluded"));
        }
        let known = !pod.containers.is_empty();
        let starts_with = |name: &str| pod.init_containers.iter().any(|one| one.name == name);
        let runs = |name: &str| pod.containers.iter().any(|one| one.name == name);
        if pod.host_network {
            return alone("it uses the network of the host".into());
        } else if starts_with(INIT) {
            return alone(format!("its init container {INIT} redirects its traffic"));
        } else if known && !runs(SIDECAR) && !starts_with(SIDECAR) {
            return alone(format!("it has no container {SIDECAR}"));
        }
        match pod.annotations.get(INJECTED).map(String::as_str) {
            Some("true" | "yes") => Ok(Self::Redirect),
            None => alone(format!("it has no annotation {INJECTED}")),
            Some("false" | "no") => alone(format!("its annotation {INJECTED} says that it has no sidecar")),
            Some(other) => Err(InvalidValue::new(other, "true or false").at(INJECTED).into()),
        }
    }
}

/// Keys of which one at least is in every document that is more than a mapping of annotations.
const DOCUMENT: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];

/// Reads a Pod, or only its annotations as a mapping of names to texts; both in YAML or JSON.
///
/// A Pod with keys that were probably meant for others is refused: by what they say, it may have to be redirected.
pub(super) fn read(text: &str) -> Result<Pod, Error> {
    const EXPECTED: &str = "a Pod, or a mapping of annotations to their texts";
    let value: Value = yaml_serde::from_str(text)
        .map_err(|error| Error::from(InvalidValue::new(error.to_string(), EXPECTED).at("document")))?;
    let Value::Object(map) = value else {
        return Err(InvalidValue::new(value.to_string(), EXPECTED).at("document").into());
    };
    if DOCUMENT.iter().any(|key| map.contains_key(*key)) {
        return Pod::parse_strictly(text, Format::Yaml);
    }
    if let (Some(kind), true) = (map.get("type"), map.contains_key("mesh")) {
        return Err(InvalidValue::new(kind.to_string(), EXPECTED).at("type").into());
    }
    let (mut annotations, mut problems) = (Vec::new(), Vec::new());
    for (name, value) in map {
        match value {
            Value::String(text) => annotations.push((name, text)),
            other => problems.push(InvalidValue::new(other.to_string(), "text; put the value in quotes").at(name)),
        }
    }
    match problems.is_empty() {
        true => Ok(Pod::with_annotations(annotations)),
        false => Err(Error::Config(problems)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(text: &str, excluded: &[&str]) -> String {
        let excluded: Vec<_> = excluded.iter().map(ToString::to_string).collect();
        match Decision::about(&read(text).unwrap(), &excluded) {
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
            ("{}".to_owned(), &[], "it has no annotation kuma.io/sidecar-injected"),
            ("kuma.io/sidecar-injected: 'false'".to_owned(), &[], "its annotation kuma.io/sidecar-injected says"),
            ("kuma.io/sidecar-injected: 'True'".to_owned(), &[], "kuma.io/sidecar-injected: 'True' is not valid"),
            (pod(YES, BOTH), &["other"], "redirect"),
            (pod(YES, BOTH), &["kube-system", "shop"], "the namespace shop is excluded"),
            (pod("", BOTH), &[], "it has no annotation"),
            (pod(YES, "containers: [{name: web}]"), &[], "it has no container kuma-sidecar"),
            // A sidecar as Kubernetes itself knows them.
            (pod(YES, "initContainers: [{name: kuma-sidecar}], containers: [{name: web}]"), &[], "redirect"),
            (pod(YES, &format!("initContainers: [{{name: kuma-init}}], {BOTH}")), &[], "its init container kuma-init"),
            // An ordinary container of that name redirects nothing.
            (pod(YES, "containers: [{name: web}, {name: kuma-sidecar}, {name: kuma-init}]"), &[], "redirect"),
            (pod(YES, "containers: [{name: kuma-init}]"), &[], "it has no container kuma-sidecar"),
            (pod(YES, &format!("hostNetwork: true, {BOTH}")), &[], "it uses the network of the host"),
        ] {
            let said = decision(&text, excluded);
            assert!(said.starts_with(expected), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        for (text, path) in [
            ("kind: Deployment", "kind"),
            ("metdata: {annotations: {}}", "metdata"),
            ("a: true", "a"),
            ("metadata: {annotations: {a: true}}", "a"),
            ("{kind: Pod, spec: {hostNetwork: 1}}", "spec.hostNetwork"),
            ("{type: Dataplane, mesh: default, name: web}", "type"),
            ("{apiVersion: kuma.io/v1alpha1, kind: Dataplane, spec: {}}", "kind"),
            ("{apiVersion: v1, data: {}}", "pod"),
            ("{kind: Pod, metadata: {annotation: {a: b}}, spec: {}}", "metadata.annotation"),
            ("{kind: Pod, metdata: {annotations: {}}, spec: {}}", "metdata"),
            ("{kind: Pod, metadata: {}, spec: {initContainer: []}}", "spec.initContainer"),
            ("{kind: Pod, metadata: {}, spec: {annotations: {}}}", "spec.annotations"),
            ("[1]", "document"),
            ("", "document"),
            ("{", "document"),
            ("a: b: c", "document"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.problems()[0].path, path, "{text}: {error}");
        }
    }
}

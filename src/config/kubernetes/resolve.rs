//! From all sources to one configuration.

use serde_json::Value;

use super::annotations;
use super::candidates::{Candidate, Candidates, default_of};
use super::config_map::EMBEDDED;
use super::control_plane;
use super::precedence::{Rank, Situation, is_operators, order};
use super::read::Annotations;
use super::section::section;
use super::{Contribution, Origin, Pod, Resolved, SettingSource, Sources, pod};
use crate::config::wire::{Field, Node, ROWS, Reading, Row, ValueSource, visible};
use crate::config::{Config, Profile};
use crate::error::{Error, InvalidValue, Problem};
use crate::model::Note;
use crate::net::{Port, PortRange, PortSet, Uid};

const EXCLUDE_INBOUND_PORTS: &str = "redirect.inbound.excludePorts";
const INBOUND_ENABLED: &str = "redirect.inbound.enabled";

/// Why no pod is redirected by eBPF.
const NO_EBPF: &str = "pods are redirected by rules; the eBPF engine is for a host or a single network namespace, and an agent \
                       that installs it in the pods of a node is not part of this version";

/// A port that is 0, and whether something is redirected there.
type Zero = (Problem, fn(&Config) -> bool);

/// A configuration in the making.
struct Resolver {
    pod: Pod,
    candidates: Candidates,
    config: Config,
    origins: Vec<Origin>,
    problems: Vec<Problem>,
    notes: Vec<Note>,
}

impl Sources {
    /// The configuration, and where it came from.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem of every source, also of values that another source replaces. The path is the
    /// name of the annotation or variable, or the name of the ConfigMap with the path of the key.
    pub fn resolve(self) -> Result<Resolved, Error> {
        Resolver::new(self).finish()
    }
}

impl Resolver {
    fn new(sources: Sources) -> Self {
        let Sources { profile, mut pod, control_plane, config_map, custom, mut problems } = sources;
        let mut notes = std::mem::take(&mut pod.notes);
        let annotations = Annotations::read(&pod.annotations, profile, &mut problems);
        annotations::remarks(&pod.annotations, profile, &mut notes);

        let mut control_plane_reading = control_plane.reading();
        for (more_problems, more_notes) in [control_plane.remarks(), control_plane_reading.remarks()] {
            problems.extend(more_problems);
            notes.extend(more_notes);
        }
        let candidates = Candidates {
            profile,
            situation: Situation::default(),
            annotations,
            control_plane,
            control_plane_reading,
            system: config_map,
            custom,
            written: None,
        };
        let mut this = Self { pod, candidates, config: Config::default(), origins: Vec::new(), problems, notes };
        this.read_written();
        this.choose_custom();
        let Candidates { system, custom, .. } = &this.candidates;
        for map in [system, custom].into_iter().flatten() {
            this.problems.extend(map.problems.iter().cloned());
            this.notes.extend(map.notes.iter().cloned());
        }
        this.candidates.situation = Situation {
            written: this.candidates.written.is_some(),
            legacy: profile == Profile::Kuma29 && this.candidates.are_without_config_map(),
            injected: this.candidates.annotations.injected,
            inbound: true,
        };
        this
    }

    /// The annotation that holds the whole configuration, if there is one.
    fn read_written(&mut self) {
        let name = annotations::CONFIG;
        let Some(text) = self.pod.annotations.get(name) else { return };
        if text.trim().is_empty() {
            self.notes.push(Note::warning(name, "is empty, so the configuration is made from the other sources"));
            return;
        }
        let mut reading = Reading::document(name, text, EMBEDDED, &format!("{name}: "));
        let (problems, notes) = reading.remarks();
        self.problems.extend(problems);
        self.notes.extend(notes);
        if !self.candidates.annotations.injected {
            let text = format!(
                "is taken as the configuration, though the injector would replace it: {} is not true",
                annotations::INJECTED
            );
            self.notes.push(Note::info(name, text));
        }
        self.candidates.written = Some(reading);
    }

    /// Whether the ConfigMap of the pod's namespace counts.
    fn choose_custom(&mut self) {
        let annotation = annotations::CONFIG_MAP_NAME;
        let named = self.pod.annotations.get(annotation).filter(|name| !name.is_empty());
        match (named, &self.candidates.custom) {
            (None, Some(map)) => {
                let text = format!("has no effect, since the pod has no annotation {annotation}");
                self.notes.push(Note::warning(&map.label, text));
                self.candidates.custom = None;
            }
            (Some(name), None) => {
                let text = format!("the ConfigMap '{}' was not given, so its settings are missing", visible(name));
                self.notes.push(Note::warning(annotation, text));
            }
            (Some(name), Some(map)) => {
                if let Some(other) = map.name.as_ref().filter(|other| *other != name) {
                    let expected = format!("'{}', the name of the ConfigMap that was given", visible(other));
                    self.problems.push(InvalidValue::new(name, expected).at(annotation));
                }
            }
            (None, None) => {}
        }
    }

    fn finish(mut self) -> Result<Resolved, Error> {
        self.judge_annotations();
        if !self.candidates.situation.written {
            let inbound = ROWS.iter().find(|row| row.path == INBOUND_ENABLED);
            self.candidates.situation.inbound =
                inbound.is_none_or(|row| self.candidates.base(row).value == Value::Bool(true));
        }
        let rows = ROWS.iter().filter(|row| row.in_documents());
        let zeros: Vec<Zero> = rows.filter_map(|row| self.decide(row)).collect();
        for (zero, used) in zeros {
            if used(&self.config) {
                self.problems.push(zero);
            }
        }

        let sidecar_uid = self.config.kuma_dp_user.as_deref().and_then(|user| user.parse().ok());
        let sidecar_uid = sidecar_uid.unwrap_or_else(|| self.candidates.control_plane.uid());
        self.judge_users(sidecar_uid);
        let probe_proxy_port = Port::new(self.probe_proxy_port());
        self.judge_probes(probe_proxy_port);
        let Self { pod, candidates, config, problems, notes, .. } = &mut self;
        let transparent_proxying = section(pod, candidates.profile, Some(config), problems, notes);
        let sidecar_gid = self.candidates.control_plane.gid();
        match sidecar_gid {
            Some(sidecar_gid) if self.problems.is_empty() => Ok(Resolved {
                config: self.config,
                origins: self.origins,
                notes: self.notes,
                sidecar_uid,
                sidecar_gid,
                gateway: self.candidates.annotations.gateway,
                injected: self.candidates.annotations.injected,
                from_annotation: self.candidates.situation.written,
                probe_proxy_port,
                transparent_proxying,
                admin_port: Port::new(
                    self.candidates
                        .annotations
                        .admin_port
                        .unwrap_or_else(|| self.candidates.control_plane.port(control_plane::ADMIN_PORT)),
                ),
            }),
            _ => Err(Error::Config(self.problems)),
        }
    }

    fn judge_annotations(&mut self) {
        let Annotations { enabled, ebpf, gateway, probe_proxy_port, .. } = self.candidates.annotations;
        if enabled == Some(false) {
            let text = "has no effect: on Kubernetes the transparent proxy cannot be switched off for a pod";
            self.notes.push(Note::warning(annotations::TRANSPARENT_PROXYING, text));
        }
        if ebpf {
            let value = &self.pod.annotations[annotations::EBPF];
            let error = InvalidValue::new(value, format!("'disabled' or no annotation: {NO_EBPF}"));
            self.problems.push(error.at(annotations::EBPF));
        }
        if gateway && probe_proxy_port.is_some_and(|port| port > 0) {
            let value = &self.pod.annotations[annotations::PROBE_PROXY_PORT];
            let error = InvalidValue::new(value, "0 or no annotation, since a gateway cannot have its probes proxied");
            self.problems.push(error.at(annotations::PROBE_PROXY_PORT));
        }
    }

    /// Refuses to redirect a pod by eBPF; where that is off, its other settings have no effect.
    fn refuse_ebpf(&mut self, row: &'static Row) {
        if row.path != "ebpf.enabled" {
            return;
        }
        for candidate in self.candidates.all(row).into_iter().filter(|candidate| candidate.value == Value::Bool(true)) {
            self.problems.push(InvalidValue::new("true", format!("false: {NO_EBPF}")).at(candidate.path));
        }
    }

    /// No process of the application may be taken for the sidecar.
    fn judge_users(&mut self, sidecar: Uid) {
        let is_application = |container: &&pod::Container| {
            !pod::INJECTED.contains(&container.name.as_str()) && container.run_as_user == Some(sidecar)
        };
        for container in self.pod.containers.iter().filter(is_application) {
            let path = format!("spec.containers[{}].securityContext.runAsUser", visible(&container.name));
            let expected = "another uid than the sidecar's, whose connections are not redirected";
            self.problems.push(InvalidValue::new(sidecar.to_string(), expected).at(path));
        }
        for container in self.pod.init_containers.iter().filter(is_application) {
            let path = format!("spec.initContainers[{}].securityContext.runAsUser", visible(&container.name));
            let text = format!("{sidecar} is the sidecar's uid, so its connections are not redirected");
            self.notes.push(Note::warning(path, text));
        }
    }

    /// Where the sidecar serves the probes; 0 for nowhere.
    fn probe_proxy_port(&self) -> u16 {
        match self.candidates.annotations.probe_proxy_port {
            _ if self.candidates.annotations.gateway => 0,
            Some(port) => port,
            None => self.candidates.control_plane.port(control_plane::PROBE_PROXY_PORT),
        }
    }

    /// A custom list of excluded ports replaces the one with the port of the probe proxy.
    fn judge_probes(&mut self, port: Option<Port>) {
        let Some(port) = port else { return };
        let inbound = &self.config.redirect.inbound;
        let replaced = self.origins.iter().any(|origin| {
            origin.key == EXCLUDE_INBOUND_PORTS && matches!(origin.source, SettingSource::CustomConfigMap(_))
        });
        if inbound.enabled && replaced && !inbound.exclude_ports.contains(port) {
            let text = format!("lacks {port}, where the sidecar serves the probes, so they will fail");
            self.notes.push(Note::warning(EXCLUDE_INBOUND_PORTS, text));
        }
    }

    /// Sets a key of the configuration. A port that is 0 is returned, with when that matters.
    fn decide(&mut self, row: &'static Row) -> Option<Zero> {
        let (Field::Value(at) | Field::Port(at, _)) = row.field else { return None };
        if row.is_of_ebpf() {
            self.refuse_ebpf(row);
            return None;
        }
        self.problems.extend(self.candidates.beyond_the_tenant(row));
        let mut winner = self.candidates.base(row);
        let mut added = match row.path {
            EXCLUDE_INBOUND_PORTS => self.add_ports(&mut winner),
            _ => Vec::new(),
        };
        if let Some(custom) = self.candidates.over(row) {
            winner = custom;
            added.clear();
        }

        let others: Vec<Candidate> = self
            .candidates
            .all(row)
            .into_iter()
            .filter(|candidate| candidate.source != winner.source && candidate.source.is_set())
            .collect();
        // Not the default of someone who decides, if somebody else has set the same.
        if !winner.source.is_set() {
            if let Some(same) = others.iter().find(|candidate| candidate.value == winner.value && added.is_empty()) {
                winner = same.clone();
            }
        }
        self.remark(row, &winner, &others);
        if winner.zero.is_none() {
            // A value that was written can be read.
            let _ = at(&mut self.config).read(&Node::from_json(&winner.value), ValueSource::Document);
        }
        let overridden = others
            .into_iter()
            .filter(|candidate| candidate.source != winner.source)
            .map(|candidate| Contribution { source: candidate.source, value: candidate.value.to_string() })
            .collect();
        let value = at(&mut self.config).write().to_string();
        self.origins.push(Origin { key: row.path, value, source: winner.source, added, overridden });
        match (winner.zero, row.field) {
            (Some(zero), Field::Port(_, used)) => Some((zero, used)),
            _ => None,
        }
    }

    /// Adds the ports that must reach the pod as they are to those that are excluded.
    fn add_ports(&mut self, candidate: &mut Candidate) -> Vec<Contribution> {
        if self.candidates.situation.written || !self.candidates.situation.inbound {
            return Vec::new();
        }
        let control_plane =
            |variable| SettingSource::ControlPlane { variable, set: self.candidates.control_plane.is_set(variable) };
        let mut wanted: Vec<(SettingSource, Port)> = Vec::new();
        match Port::new(self.probe_proxy_port()) {
            Some(port) => {
                let source = match self.candidates.annotations.probe_proxy_port {
                    Some(_) => SettingSource::Annotation(annotations::PROBE_PROXY_PORT),
                    None => control_plane(control_plane::PROBE_PROXY_PORT),
                };
                wanted.push((source, port));
            }
            None => {
                let running = self.pod.init_containers.iter().filter(|container| container.restarts);
                for container in running.chain(&self.pod.containers).filter(|one| one.name != pod::SIDECAR) {
                    let source = SettingSource::Pod(format!("probes of container {}", visible(&container.name)));
                    wanted.extend(container.probe_ports.iter().map(|port| (source.clone(), *port)));
                }
            }
        }
        if self.candidates.control_plane.switch(control_plane::ADMIN_UNIX_SOCKET) {
            let readiness = Port::new(self.candidates.control_plane.port(control_plane::READINESS_PORT));
            wanted.extend(readiness.map(|port| (control_plane(control_plane::READINESS_PORT), port)));
        }

        let mut ports = ports(&candidate.value);
        let mut added = Vec::new();
        for (source, port) in wanted {
            if !ports.contains(port) {
                ports = ports.ranges().iter().copied().chain([PortRange::from(port)]).collect();
                added.push(Contribution { source, value: port.to_string() });
            }
        }
        let mut config = Config::default();
        config.redirect.inbound.exclude_ports = ports;
        if let Some(Field::Value(at)) = ROWS.iter().find(|row| row.path == EXCLUDE_INBOUND_PORTS).map(|row| row.field) {
            candidate.value = at(&mut config).write();
        }
        added
    }

    /// Says which settings have no effect, though somebody set them.
    fn remark(&mut self, row: &'static Row, winner: &Candidate, others: &[Candidate]) {
        if row.path == "redirect.dns.enabled" && !self.candidates.situation.written && !self.candidates.situation.legacy
        {
            self.remark_on_dns(row, winner);
        }
        let default = default_of(row);
        let alone = is_operators(row.path)
            || matches!(row.path, "redirect.inbound.port" | "redirect.outbound.port" | "redirect.dns.port");
        for candidate in others.iter().filter(|candidate| candidate.value != winner.value) {
            let counts = match &candidate.source {
                SettingSource::ControlPlane { .. } => match self.candidates.situation.written {
                    true => !alone,
                    // What is set for all pods need not fit each of them.
                    false => true,
                },
                // It is all in the annotation.
                SettingSource::Annotation(_) | SettingSource::ConfigMap(_) if self.candidates.situation.written => true,
                SettingSource::Annotation(_) => order(row.path, self.candidates.situation).contains(&Rank::Annotation),
                SettingSource::ConfigMap(_) => !alone || candidate.value == default,
                SettingSource::CustomConfigMap(_) if self.candidates.profile == Profile::Kuma29 => {
                    !alone || candidate.value == default
                }
                SettingSource::CustomConfigMap(_) => !is_operators(row.path) || candidate.value == default,
                _ => true,
            };
            if !counts {
                let text = format!(
                    "{} = {} has no effect; {} decides, with {}",
                    row.path, candidate.value, winner.source, winner.value
                );
                self.notes.push(Note::warning(visible(&candidate.path), text));
            }
        }
    }

    /// Kuma has the control plane say it, and then does not listen.
    fn remark_on_dns(&mut self, row: &'static Row, winner: &Candidate) {
        let Some(candidate) = self.candidates.control_plane(row).filter(|candidate| candidate.value != winner.value)
        else {
            return;
        };
        let text = format!(
            "{} has no effect on `redirect.dns.enabled`, which only a ConfigMap sets and which is {}",
            candidate.value, winner.value
        );
        self.notes.push(match candidate.source.is_set() {
            true => Note::warning(candidate.path, text),
            false => Note::info(candidate.path, text),
        });
    }
}

fn ports(value: &Value) -> PortSet {
    let text = |item: &Value| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
    value.as_array().into_iter().flatten().filter_map(|item| text(item).parse::<PortRange>().ok()).collect()
}

//! References against destinations.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::super::{BackendRef, Dataplane};
use super::choice::{Choice, Grade, Tally};
use super::conditions::Conditions;
use super::index::Index;
use super::notes::{self, Noted};
use super::{Backend, BackendPort, Destinations, MeshMode, Rule};
use crate::config::{Config, Profile};
use crate::error::visible;
use crate::model::Note;
use crate::net::Port;

/// A backend that can be reached, and its ports that can.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reached<'a> {
    /// The backend.
    pub backend: &'a Backend,
    /// The ports of it, in its own order.
    pub ports: Vec<&'a BackendPort>,
}

impl Serialize for Reached<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let backend = self.backend;
        let mut fields = serializer.serialize_struct("Reached", 5)?;
        fields.serialize_field("kind", &backend.kind)?;
        fields.serialize_field("mesh", &backend.mesh)?;
        fields.serialize_field("name", &backend.name)?;
        if let Some(namespace) = backend.namespace() {
            fields.serialize_field("namespace", namespace)?;
        }
        fields.serialize_field("ports", &self.ports)?;
        fields.end()
    }
}

/// What one workload reaches. See the [module](super) for the rules.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reachability<'a> {
    pub(super) dataplane: &'a Dataplane,
    pub(super) destinations: &'a Destinations,
    pub(super) profile: Profile,
    pub(super) backend_rule: Rule,
    pub(super) service_rule: Rule,
    /// The references that decide, if any do, and what each matches.
    pub(super) wanted: Vec<(Conditions<'a>, Tally)>,
    index: Index<'a>,
    /// For each backend, how sure each of its ports is; empty where a rule says it of all.
    reached: Vec<Vec<Grade>>,
    /// The addresses that the workload itself listens on.
    own: Vec<(IpAddr, Port)>,
    notes: Vec<Note>,
}

impl<'a> Reachability<'a> {
    /// Holds what a workload says against all that there is. The section `transparentProxying` of the `Dataplane` says
    /// whether there is a transparent proxy, as on Universal without flags of kuma-dp.
    ///
    /// The time is that of reading the references and the destinations once, and of writing down what matches: for
    /// each reference only the destinations are looked at that have the rarest of its labels.
    pub fn of(dataplane: &'a Dataplane, destinations: &'a Destinations, profile: Profile) -> Self {
        Self::told(dataplane, destinations, profile, None)
    }

    /// The same where kuma-dp says whether there is a transparent proxy, as on Kubernetes, and wherever it runs with
    /// `--transparent-proxy` or `--transparent-proxy-config`. `config` is the configuration that it is given: Kuma's
    /// [default](Config::default) for the first of these flags, and for `--bind-outbounds`. kuma-dp 2.9 has none of them.
    pub fn by_flag(
        dataplane: &'a Dataplane,
        destinations: &'a Destinations,
        profile: Profile,
        config: &Config,
    ) -> Self {
        Self::told(dataplane, destinations, profile, Some(config))
    }

    fn told(dataplane: &'a Dataplane, destinations: &'a Destinations, profile: Profile, flag: Option<&Config>) -> Self {
        let mut this = Self {
            dataplane,
            destinations,
            profile,
            backend_rule: Rule::NothingSaid,
            service_rule: Rule::NothingSaid,
            wanted: Vec::new(),
            index: Index::default(),
            reached: Vec::new(),
            own: dataplane.own_addresses().collect(),
            notes: Vec::new(),
        };
        if flag.is_some() && profile == Profile::Kuma29 {
            this.notes
                .push(Note::warning("transparentProxy", "has no effect in Kuma 2.9, whose kuma-dp has no such flag"));
        }
        let proxied = dataplane.proxied(flag.filter(|_| profile == Profile::Kuma3));
        this.notes.extend(notes::proxy(dataplane, proxied, profile));
        if let Some(rule) = Rule::without_proxy(proxied) {
            (this.backend_rule, this.service_rule) = (rule, rule);
            return this;
        }
        this.decide_services();
        this.decide_backends();
        this.note_own();
        this
    }

    fn decide_services(&mut self) {
        let services = self.listed_services().next().is_some();
        self.service_rule = match (services, self.profile) {
            (false, Profile::Kuma29) => Rule::NothingSaid,
            (true, Profile::Kuma29) => Rule::ReachableServices,
            (_, Profile::Kuma3) => Rule::NotInProfile,
        };
        if services && self.profile == Profile::Kuma3 {
            let text = "has no effect in Kuma 3, which knows reachableBackends only";
            self.notes.push(Note::warning("networking.transparentProxying.reachableServices", text));
        }
    }

    fn decide_backends(&mut self) {
        let (dataplane, profile) = (self.dataplane, self.profile);
        let Some(section) = &dataplane.transparent_proxying else {
            self.backend_rule = Rule::Unfiltered;
            return;
        };
        if profile == Profile::Kuma3
            && !dataplane.outbounds.is_empty()
            && self.resolve(&dataplane.outbounds, Rule::Outbounds)
        {
            return;
        }
        let mode = self.destinations.mode(&dataplane.mesh);
        let rule = match (&section.reachable_backends, profile) {
            (Some(backends), _) if backends.refs.is_empty() => Rule::Empty,
            (Some(backends), _) => {
                self.resolve(&backends.refs, Rule::ReachableBackends);
                return;
            }
            (None, Profile::Kuma29) if self.service_rule == Rule::ReachableServices => Rule::OnlyServices,
            (None, Profile::Kuma29) if mode == Some(MeshMode::ReachableBackends) => Rule::MeshMode,
            (None, _) => Rule::NothingSaid,
        };
        self.wanted.clear();
        self.reached.clear();
        self.backend_rule = rule;
    }

    /// Takes these references for what decides, and says whether they match anything.
    fn resolve(&mut self, references: &'a [BackendRef], rule: Rule) -> bool {
        let (dataplane, profile) = (self.dataplane, self.profile);
        let backends = self.destinations.backends();
        let wanted: Vec<_> = references.iter().map(|reference| Conditions::of(reference, dataplane, profile)).collect();
        let index = Index::of(&wanted, backends, &dataplane.mesh);
        let unknown_labels = notes::unknown_labels(backends);
        let mut reached: Vec<_> = backends.iter().map(|backend| vec![Grade::Never; backend.ports.len()]).collect();
        let mut tallies: Vec<Tally> = Vec::with_capacity(wanted.len());
        let mut done: HashMap<&Conditions<'_>, usize> = HashMap::new();
        let mut found = Vec::new();
        let mut notes = Vec::new();
        for (position, wanted) in wanted.iter().enumerate() {
            // Many of the same shall not cost more than one.
            let first = *done.entry(wanted).or_insert(position);
            if first < position {
                tallies.push(tallies[first]);
                continue;
            }
            found.clear();
            found.extend(index.matches(wanted, backends).map(|at| (at, wanted.ports(&backends[at], profile))));
            let mut tally = Tally::default();
            found.iter().for_each(|(at, ports)| tally.add(ports, !backends[*at].ports.is_empty()));
            for (at, ports) in &found {
                let grade = tally.grade(ports);
                for port in ports.positions(&backends[*at]) {
                    reached[*at][port] = reached[*at][port].max(grade);
                }
            }
            let first = found.first().map(|(at, ports)| (&backends[*at], ports.clone()));
            let (about, reference, unknown_labels) = (rule.path(position), &references[position], &*unknown_labels);
            notes.extend(Noted { about, reference, wanted, tally, first, unknown_labels, profile }.notes());
            tallies.push(tally);
        }
        let any = reached.iter().flatten().any(|grade| *grade > Grade::Never);
        if any || rule == Rule::ReachableBackends {
            self.notes.append(&mut notes);
        }
        self.backend_rule = rule;
        self.wanted = wanted.into_iter().zip(tallies).collect();
        (self.index, self.reached) = (index, reached);
        any
    }

    /// The profile whose rules were followed.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What decides which backends are reachable.
    pub fn backend_rule(&self) -> Rule {
        self.backend_rule
    }

    /// What decides which services are reachable.
    pub fn service_rule(&self) -> Rule {
        self.service_rule
    }

    /// The backends that are reachable on at least one port, in the order of the destinations, with the ports that
    /// are reachable whatever Kuma chooses.
    pub fn backends(&self) -> impl Iterator<Item = Reached<'a>> {
        self.graded(Grade::Always)
    }

    /// The backends that Kuma might choose, with the ports that are not reachable for certain, in the order of the
    /// destinations. [`choices`](Self::choices) says which exclude each other.
    pub fn by_chance(&self) -> impl Iterator<Item = Reached<'a>> {
        self.graded(Grade::ByChance)
    }

    fn graded(&self, grade: Grade) -> impl Iterator<Item = Reached<'a>> {
        let backends = self.destinations.backends().iter().enumerate();
        backends.filter_map(move |(index, backend)| {
            let ports = self.ports(index, backend, grade);
            (!ports.is_empty()).then_some(Reached { backend, ports })
        })
    }

    /// The references of which Kuma takes some matches by chance, in order; the same reference only once.
    pub fn choices(&self) -> impl Iterator<Item = Choice<'a>> {
        let mut done = HashSet::new();
        let wanted = self.wanted.iter().zip(self.references()).enumerate();
        wanted
            .filter(move |(_, ((wanted, tally), _))| tally.by_chance() && done.insert(wanted))
            .map(|(at, ((wanted, _), reference))| self.choice(self.backend_rule.path(at), wanted, reference))
    }

    fn choice(&self, path: String, wanted: &Conditions<'a>, reference: &'a BackendRef) -> Choice<'a> {
        let backends = self.destinations.backends();
        let mut choice = Choice { path, reference, one_of: Vec::new(), perhaps: Vec::new() };
        for index in self.index.matches(wanted, backends) {
            let backend = &backends[index];
            let meant = wanted.ports(backend, self.profile);
            let ports: Vec<_> = meant.positions(backend).map(|port| &backend.ports[port]).collect();
            let ports: Vec<_> = ports.into_iter().filter(|port| !self.is_own(backend, port)).collect();
            let list = if meant.ends() { &mut choice.one_of } else { &mut choice.perhaps };
            list.extend((!ports.is_empty()).then_some(Reached { backend, ports }));
        }
        choice
    }

    /// The references that decide.
    pub(super) fn references(&self) -> &'a [BackendRef] {
        match self.backend_rule {
            Rule::Outbounds => &self.dataplane.outbounds,
            Rule::ReachableBackends => {
                let section = self.dataplane.transparent_proxying.as_ref();
                section.and_then(|section| section.reachable_backends.as_ref()).map_or(&[], |backends| &backends.refs)
            }
            _ => &[],
        }
    }

    /// The ports of this grade that Kuma makes listeners for.
    pub(super) fn ports(&self, index: usize, backend: &'a Backend, grade: Grade) -> Vec<&'a BackendPort> {
        let ports = self.meant(index, backend, grade);
        ports.filter(|port| !self.is_own(backend, port)).collect()
    }

    /// The ports of this grade, those at addresses of the workload among them.
    fn meant(&self, index: usize, backend: &'a Backend, grade: Grade) -> impl Iterator<Item = &'a BackendPort> {
        let all = self.backend_rule.allows_all();
        let reached = self.reached.get(index);
        let ports = backend.ports.iter().enumerate().filter(|_| backend.mesh == self.dataplane.mesh);
        let of_grade = move |port: usize| match all {
            true => grade == Grade::Always,
            false => reached.is_some_and(|reached| reached[port] == grade),
        };
        ports.filter(move |(port, _)| of_grade(*port)).map(|(_, port)| port)
    }

    /// Whether the workload listens at all addresses of a port itself, so that Kuma makes no listener.
    pub(super) fn is_own(&self, backend: &Backend, port: &BackendPort) -> bool {
        let own = |vip: &IpAddr| {
            let overlap = |own: &IpAddr| own == vip || own.is_unspecified();
            self.own.iter().any(|(address, number)| *number == port.number && overlap(address))
        };
        !self.own.is_empty() && !backend.vips.is_empty() && backend.vips.iter().all(own)
    }

    /// The ports that would be reachable if they were not the workload's own.
    pub(super) fn own_ports(&self, index: usize, backend: &'a Backend) -> impl Iterator<Item = &'a BackendPort> {
        let meant =
            [Grade::Always, Grade::ByChance].into_iter().flat_map(move |grade| self.meant(index, backend, grade));
        meant.filter(|port| self.is_own(backend, port))
    }

    /// Says which ports are left out since they are the workload's own.
    fn note_own(&mut self) {
        let mut notes = Vec::new();
        for (index, backend) in self.destinations.backends().iter().enumerate().filter(|_| !self.own.is_empty()) {
            notes.extend(self.own_ports(index, backend).map(|port| {
                let about = format!("{} {}", backend.kind, visible(&backend.name));
                Note::info(
                    about,
                    format!("port {port} is an inbound of the workload itself, so Kuma makes no listener"),
                )
            }));
        }
        self.notes.append(&mut notes);
    }

    /// The values of `kuma.io/service` that are reachable, in order.
    pub fn services(&self) -> impl Iterator<Item = &'a str> {
        let listed: HashSet<&str> = self.listed_services().collect();
        let services = self.destinations.services().filter(|service| service.mesh == self.dataplane.mesh);
        services.map(|service| service.name.as_str()).filter(move |service| match self.service_rule {
            Rule::ReachableServices => listed.contains(service),
            rule => rule.allows_all(),
        })
    }

    pub(super) fn listed_services(&self) -> impl Iterator<Item = &'a str> {
        let section = self.dataplane.transparent_proxying.as_ref();
        section.and_then(|section| section.reachable_services.as_ref()).into_iter().flatten().map(String::as_str)
    }

    /// What there is to say: references that match nothing, ports that no destination has, and choices that Kuma
    /// leaves to chance.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// All of it as JSON: the rules, the reachable backends with their ports, the services, the notes.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and numbers can be written")
    }

    /// The same in YAML.
    #[cfg(feature = "yaml")]
    pub fn to_yaml(&self) -> String {
        yaml_serde::to_string(self).expect("texts and numbers can be written")
    }
}

impl Serialize for Reachability<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Reachability", 8)?;
        fields.serialize_field("profile", &self.profile.to_string())?;
        fields.serialize_field("backendRule", &self.backend_rule.to_string())?;
        fields.serialize_field("backends", &self.backends().collect::<Vec<_>>())?;
        fields.serialize_field("byChance", &self.by_chance().collect::<Vec<_>>())?;
        fields.serialize_field("choices", &Choices(self))?;
        fields.serialize_field("serviceRule", &self.service_rule.to_string())?;
        fields.serialize_field("services", &self.services().collect::<Vec<_>>())?;
        fields.serialize_field("notes", &self.notes)?;
        fields.end()
    }
}

/// The choices, one at a time: together they may be as many as there are pairs of references and backends.
struct Choices<'r, 'a>(&'r Reachability<'a>);

impl Serialize for Choices<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.choices())
    }
}

//! What each source says about a key, and which of them counts.

use serde_json::Value;

use super::annotations::{self, of_key};
use super::config_map::ConfigMap;
use super::control_plane::{self, ControlPlane};
use super::precedence::{Rank, Situation, is_operators, order};
use super::read::Annotations;
use super::{SettingSource, tenant_limits};
use crate::config::wire::{Field, Reading, Row};
use crate::config::{Config, Profile};
use crate::error::Problem;

/// What one source says about a key.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) source: SettingSource,
    pub(super) value: Value,
    /// What messages call the key there.
    pub(super) path: String,
    /// What is wrong if something is redirected to this port, which is 0.
    pub(super) zero: Option<Problem>,
}

/// All that a setting can come from, as it was read.
#[derive(Debug)]
pub(super) struct Candidates {
    pub(super) profile: Profile,
    pub(super) situation: Situation,
    pub(super) annotations: Annotations,
    pub(super) control_plane: ControlPlane,
    pub(super) control_plane_reading: Reading,
    /// The operator's ConfigMap.
    pub(super) system: Option<ConfigMap>,
    /// The tenant's, if it counts.
    pub(super) custom: Option<ConfigMap>,
    /// The annotation that holds the whole configuration, if there is one.
    pub(super) written: Option<Reading>,
}

impl Candidates {
    /// The first source in the order of the key, without the ConfigMap of the pod's namespace.
    pub(super) fn base(&mut self, row: &'static Row) -> Candidate {
        let default = default_of(row);
        for rank in order(row.path, self.situation) {
            let candidate = match rank {
                Rank::Annotation => self.annotation(row),
                Rank::Written => self.written(row),
                Rank::ConfigMap | Rank::ConfigMapChanged => self.config_map(row),
                Rank::ControlPlane | Rank::ControlPlaneChanged => self.control_plane(row),
            };
            let changed = matches!(rank, Rank::ConfigMapChanged | Rank::ControlPlaneChanged)
                // A configuration without a user leaves it to the host; a pod has one.
                || (row.path == "kumaDPUser" && *rank == Rank::Written);
            if let Some(candidate) = candidate.filter(|candidate| !changed || candidate.value != default) {
                return candidate;
            }
        }
        Candidate { source: SettingSource::Default, value: default, path: row.path.to_owned(), zero: None }
    }

    /// What comes over the rest.
    pub(super) fn over(&mut self, row: &'static Row) -> Option<Candidate> {
        if self.profile == Profile::Kuma29 || is_operators(row.path) {
            return None;
        }
        self.custom(row)
    }

    /// What every source says, whether it counts or not.
    pub(super) fn all(&mut self, row: &'static Row) -> Vec<Candidate> {
        let system = self.system(row);
        [self.custom(row), self.written(row), self.annotation(row), system, self.control_plane(row)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn written(&mut self, row: &'static Row) -> Option<Candidate> {
        candidate(self.written.as_mut()?, row.path, SettingSource::Annotation(annotations::CONFIG))
    }

    /// In the older way of delivery, one setting stands for two keys.
    fn spoken_for(&self, key: &'static str) -> &'static str {
        match key {
            "redirect.dns.captureAll" if self.situation.legacy => "redirect.dns.enabled",
            key => key,
        }
    }

    fn annotation(&mut self, row: &'static Row) -> Option<Candidate> {
        let key = self.spoken_for(row.path);
        candidate(&mut self.annotations.reading, key, SettingSource::Annotation(of_key(key)?.name()))
    }

    pub(super) fn control_plane(&mut self, row: &'static Row) -> Option<Candidate> {
        let key = self.spoken_for(row.path);
        let variable = control_plane::of_key(key)?.name();
        let source = SettingSource::ControlPlane { variable, set: self.control_plane.is_set(variable) };
        candidate(&mut self.control_plane_reading, key, source)
    }

    /// The ConfigMap that is used.
    fn config_map(&mut self, row: &'static Row) -> Option<Candidate> {
        match self.profile == Profile::Kuma29 && self.custom.is_some() {
            true => self.custom(row),
            false => self.system(row),
        }
    }

    fn system(&mut self, row: &'static Row) -> Option<Candidate> {
        let map = self.system.as_mut()?;
        candidate(&mut map.reading, row.path, SettingSource::ConfigMap(map.label.clone()))
    }

    fn custom(&mut self, row: &'static Row) -> Option<Candidate> {
        let map = self.custom.as_mut()?;
        candidate(&mut map.reading, row.path, SettingSource::CustomConfigMap(map.label.clone()))
    }

    /// Whether there is no ConfigMap, and the control plane names none.
    pub(super) fn are_without_config_map(&self) -> bool {
        let named = !self.control_plane.text(control_plane::CONFIG_MAP_NAME).is_empty()
            && self.control_plane.is_set(control_plane::CONFIG_MAP_NAME);
        self.system.is_none() && self.custom.is_none() && !named
    }

    /// What a tenant wrote and may not decide.
    pub(super) fn beyond_the_tenant(&mut self, row: &'static Row) -> Vec<Problem> {
        let operators = self.system(row).map_or_else(|| default_of(row), |candidate| candidate.value);
        let written = [self.written(row), self.custom(row)].into_iter().flatten();
        written.filter_map(|one| tenant_limits::check(row.path, &one.value, &operators, &one.path)).collect()
    }
}

fn candidate(reading: &mut Reading, key: &'static str, source: SettingSource) -> Option<Candidate> {
    let (value, zero) = reading.value(key)?;
    let path = reading.path(key).unwrap_or(key).to_owned();
    Some(Candidate { source, value, path, zero })
}

pub(super) fn default_of(row: &'static Row) -> Value {
    match row.field {
        Field::Value(at) | Field::Port(at, _) => at(&mut Config::default()).write(),
        _ => Value::Null,
    }
}

//! The backends by the labels that references ask for.

use std::collections::{HashMap, HashSet};

use super::super::BackendKind;
use super::Backend;
use super::conditions::Conditions;

/// The backends of one mesh by the labels that references ask for.
#[derive(Debug, Clone, Default)]
pub(super) struct Index<'a> {
    by_label: HashMap<(BackendKind, &'a str, &'a str), Vec<usize>>,
}

impl<'a> Index<'a> {
    pub(super) fn of(wanted: &[Conditions<'a>], backends: &'a [Backend], mesh: &str) -> Self {
        let keys: HashSet<&str> = wanted.iter().flat_map(|wanted| &wanted.labels).map(|(label, _)| *label).collect();
        let mut by_label: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, backend) in backends.iter().enumerate().filter(|(_, backend)| backend.mesh == mesh) {
            for label in &keys {
                if let Some(value) = backend.labels.get(*label) {
                    by_label.entry((backend.kind, *label, value.as_str())).or_default().push(index);
                }
            }
        }
        Self { by_label }
    }

    /// The backends that meet all conditions but the port, in order.
    pub(super) fn matches(&self, wanted: &Conditions<'a>, backends: &[Backend]) -> impl Iterator<Item = usize> {
        let lists = wanted.labels.iter().map(|(label, value)| {
            self.by_label.get(&(wanted.kind, *label, *value)).map(Vec::as_slice).unwrap_or_default()
        });
        let rarest = lists.min_by_key(|list| list.len()).unwrap_or_default();
        rarest.iter().copied().filter(|index| wanted.has_labels(&backends[*index]))
    }
}

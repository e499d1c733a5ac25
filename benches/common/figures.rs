//! The file of figures, `benches/figures.json`: what was measured, where and when. Benches write it, and the tables of
//! docs/pages/reference/performance.md are made of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What each bench has measured when it ran last, by the name of the bench.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Figures(pub(crate) BTreeMap<String, Section>);

/// What one bench has measured, in one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Section {
    /// What reproduces it.
    pub(crate) command: String,
    /// The day, as 2026-01-31.
    pub(crate) date: String,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The class of the machine.
    pub(crate) machine: String,
    pub(crate) parts: Vec<Part>,
}

/// What stands in one table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    pub(crate) title: String,
    pub(crate) figures: Vec<Figure>,
}

/// One figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What was done.
    pub(crate) name: String,
    /// By whom.
    pub(crate) of: String,
    /// Whom it is compared with; nobody if the figure stands for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) against: Option<String>,
    pub(crate) unit: Unit,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    /// How many times as much as what it is compared with.
    Ratio,
    Count,
    Bytes,
    Seconds,
}

/// How measuring ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Outcome {
    Measured {
        /// The median of the turns.
        value: f64,
        /// Where the middle half of the turns is: the spread.
        quartiles: [f64; 2],
        turns: usize,
    },
    /// It was not, for this reason.
    NotMeasured { why: String },
}

impl Figures {
    pub(crate) fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/figures.json")
    }

    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(Self::path()).unwrap_or_else(|_| "{}".into());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("benches/figures.json: {error}"))
    }

    /// The text of the file: a figure a line.
    pub(crate) fn to_text(&self) -> String {
        let mut sections = Vec::new();
        for (bench, section) in &self.0 {
            let Section { command, date, kernel, machine, parts } = section;
            let head = [("command", command), ("date", date), ("kernel", kernel), ("machine", machine)];
            let head: String = head.iter().map(|(key, value)| format!("    \"{key}\": {},\n", json(value))).collect();
            let parts: Vec<_> = parts
                .iter()
                .map(|Part { title, figures }| {
                    let figures: Vec<_> = figures.iter().map(|figure| format!("        {}", json(figure))).collect();
                    format!("      {{ \"title\": {}, \"figures\": [\n{}\n      ] }}", json(title), figures.join(",\n"))
                })
                .collect();
            let parts = parts.join(",\n");
            sections.push(format!("  {}: {{\n{head}    \"parts\": [\n{parts}\n    ]\n  }}", json(bench)));
        }
        format!("{{\n{}\n}}\n", sections.join(",\n"))
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names and numbers")
}

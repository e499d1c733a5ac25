//! Programs of the engine ebpf that are attached.

use std::path::PathBuf;

use crate::ebpf::FoundPrograms;

/// The programs of an installation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Programs {
    /// Where they are pinned.
    pub dir: PathBuf,
    /// The number of the generation in force, counted from 1; 0 if they are switched off.
    pub generation: u64,
    /// Those of the generation in force.
    pub attached: Vec<Attached>,
    /// What was counted since the first installation: a name and how often. As JSON an object.
    #[serde(serialize_with = "object")]
    pub counters: Vec<(String, u64)>,
}

/// A program that is attached.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Attached {
    /// What calls it, as the kernel's documentation says: `cgroup/connect4`.
    pub hook: String,
    /// The number of the program in the kernel.
    pub program: u32,
    /// The number of the link in the kernel.
    pub link: u32,
    /// What it is attached to: the number of the cgroup, which is the inode of its directory, or the inode of the network
    /// namespace; 0 if that is gone.
    pub target: u64,
}

fn object<S: serde::Serializer>(counters: &[(String, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counters.iter().map(|(name, count)| (name, count)))
}

impl From<FoundPrograms> for Programs {
    fn from(found: FoundPrograms) -> Self {
        let attached = found.programs.into_iter().map(|program| Attached {
            hook: program.hook.to_owned(),
            program: program.program,
            link: program.link,
            target: program.target,
        });
        Self {
            dir: found.dir,
            generation: found.generation,
            attached: attached.collect(),
            counters: found.counters.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        }
    }
}

//! Finding the programs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::program::Runner;
use crate::model::{FamilyExecutables, IptablesMode};
use crate::net::FamilyName;

/// The mode that a program's `--version` names; one that names none is legacy, as all were before there was another.
fn mode_of_version(text: &str) -> IptablesMode {
    match text.contains("(nf_tables)") {
        true => IptablesMode::Nft,
        false => IptablesMode::Legacy,
    }
}

/// The three programs of one family and mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Toolset {
    pub(super) family: FamilyName,
    pub(super) mode: IptablesMode,
    /// Changes single rules; asked for its version and extensions.
    pub(super) tables: PathBuf,
    /// Prints all rules.
    pub(super) save: PathBuf,
    /// Loads rules.
    pub(super) restore: PathBuf,
    /// Whether their names say that they are iptables' own. Others had to be asked for their mode, and may be anything.
    pub(super) familiar: bool,
}

impl Toolset {
    fn of(family: FamilyName, mode: IptablesMode, programs: [PathBuf; 3]) -> Self {
        let familiar = mode_by_name(&programs[0]).is_some();
        let [tables, save, restore] = programs;
        Self { family, mode, tables, save, restore, familiar }
    }
}

/// Where programs are looked for.
#[derive(Debug, Clone)]
pub(super) struct Search {
    dirs: Vec<PathBuf>,
}

/// How long a program may take to print its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

impl Search {
    /// The absolute directories of a `PATH`: what stands in the current directory is not to be run
    /// with privileges.
    pub(super) fn path(path: &OsStr) -> Self {
        let mut dirs = Vec::new();
        for dir in std::env::split_paths(path).filter(|dir| dir.is_absolute()) {
            if !dirs.contains(&dir) {
                dirs.push(dir);
            }
        }
        Self { dirs }
    }

    /// Looks in the usual directories of such programs as well, after all others.
    pub(super) fn and_usual(mut self) -> Self {
        for dir in ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from) {
            if !self.dirs.contains(&dir) {
                self.dirs.push(dir);
            }
        }
        self
    }

    /// The directories, joined as in `PATH`.
    pub(super) fn joined(&self) -> OsString {
        std::env::join_paths(&self.dirs).unwrap_or_default()
    }

    /// The programs of a family and mode: by their full names or, where such a name is not found,
    /// under the plain name if that program is of this mode.
    ///
    /// The error names what was not found.
    pub(super) fn toolset(
        &self,
        runner: &Runner,
        modes: &Modes,
        family: FamilyName,
        mode: IptablesMode,
    ) -> Result<Toolset, String> {
        let find = |suffix: &str| {
            let prefix = prefix(family);
            let full = format!("{prefix}-{mode}{suffix}");
            let plain = format!("{prefix}{suffix}");
            let of_this_mode = |path: &PathBuf| modes.of(runner, path) == Some(mode);
            self.find(&full).or_else(|| self.find_if(&plain, of_this_mode)).ok_or_else(|| {
                format!("no program {full}, and no {plain} of that mode, in {}", self.joined().to_string_lossy())
            })
        };
        Ok(Toolset::of(family, mode, [find("")?, find("-save")?, find("-restore")?]))
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        self.find_if(name, |_| true)
    }

    fn find_if(&self, name: &str, suits: impl Fn(&PathBuf) -> bool) -> Option<PathBuf> {
        self.dirs.iter().map(|dir| dir.join(name)).find(|path| is_program(path) && suits(path))
    }
}

/// The programs that were given for a family, if all three were. Their mode is what the first says, and no name may say another.
pub(super) fn given(
    runner: &Runner,
    modes: &Modes,
    family: FamilyName,
    executables: &FamilyExecutables,
) -> Option<Result<Toolset, String>> {
    let FamilyExecutables { tables: Some(tables), save: Some(save), restore: Some(restore) } = executables else {
        return None;
    };
    let [tables, save, restore] = [tables, save, restore].map(|path| std::path::absolute(path).unwrap_or(path.clone()));
    let missing = [&tables, &save, &restore].into_iter().find(|path| !is_program(path));
    Some(match missing {
        Some(path) => Err(format!("{} was given and is not a program", path.display())),
        None => match modes.of(runner, &tables) {
            // The rules of one would be looked for in the tables of the other.
            Some(mode)
                if [&save, &restore].into_iter().any(|path| mode_by_name(path).is_some_and(|other| other != mode)) =>
            {
                Err(format!(
                    "{}, {} and {} were given and are not all of iptables-{mode}",
                    tables.display(),
                    save.display(),
                    restore.display()
                ))
            }
            Some(mode) => Ok(Toolset::of(family, mode, [tables, save, restore])),
            None => Err(format!("{} was given and cannot be run", tables.display())),
        },
    })
}

pub(super) fn prefix(family: FamilyName) -> &'static str {
    match family {
        FamilyName::V4 => "iptables",
        FamilyName::V6 => "ip6tables",
    }
}

/// The modes of programs whose names do not say it, each of which is asked once.
#[derive(Debug, Default)]
pub(super) struct Modes {
    asked: RefCell<BTreeMap<PathBuf, Option<IptablesMode>>>,
}

impl Modes {
    /// The mode of a program by its name or by what it says of itself; `None` if it cannot be run.
    fn of(&self, runner: &Runner, path: &Path) -> Option<IptablesMode> {
        if let Some(mode) = mode_by_name(path) {
            return Some(mode);
        }
        let ask =
            || runner.run(path, &["--version"], "", VERSION_LIMIT).ok().map(|output| mode_of_version(&output.stdout));
        *self.asked.borrow_mut().entry(path.to_owned()).or_insert_with(ask)
    }
}

/// The mode that the name of a program says, or of what it is a link to: distributions have all programs of a mode in one file.
fn mode_by_name(path: &Path) -> Option<IptablesMode> {
    /// More links in a row than the kernel follows.
    const LINKS: usize = 40;

    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let name = path.file_name()?.to_string_lossy();
        let name = ["-save", "-restore"].into_iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        match name {
            "iptables-nft" | "ip6tables-nft" | "xtables-nft-multi" => return Some(IptablesMode::Nft),
            "iptables-legacy" | "ip6tables-legacy" | "xtables-legacy-multi" => return Some(IptablesMode::Legacy),
            _ => {}
        }
        // A link that is not absolute is seen from where it is.
        path = path.parent()?.join(std::fs::read_link(&path).ok()?);
    }
    None
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_what_the_version_says() {
        assert_eq!(mode_of_version("iptables v1.8.9 (nf_tables)\n"), IptablesMode::Nft);
        assert_eq!(mode_of_version("iptables v1.8.9 (legacy)\n"), IptablesMode::Legacy);
        assert_eq!(mode_of_version("iptables v1.6.1\n"), IptablesMode::Legacy);
        assert_eq!(mode_of_version("what?"), IptablesMode::Legacy);
    }

    #[test]
    fn a_name_says_the_mode_wherever_it_is_a_link_to() {
        let dir = std::env::temp_dir().join(format!("kumatp-locate-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let link = |name: &str, to: &str| std::os::unix::fs::symlink(to, dir.join(name)).unwrap();
        link("iptables", "iptables-alternative");
        link("iptables-alternative", "xtables-legacy-multi");
        link("ip6tables-save", dir.join("ip6tables-nft-save").to_str().unwrap());
        link("round", "round");
        for (name, mode) in [
            ("iptables", Some(IptablesMode::Legacy)),
            ("ip6tables-save", Some(IptablesMode::Nft)),
            ("iptables-nft", Some(IptablesMode::Nft)),
            ("wrapper-of-iptables-nft", None),
            ("round", None),
            ("nothing", None),
        ] {
            assert_eq!(mode_by_name(&dir.join(name)), mode, "{name}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn relative_directories_are_never_looked_in() {
        let search = Search::path(OsStr::new("bin::./x:/usr/sbin:.:/usr/sbin")).and_usual();
        assert_eq!(search.joined(), "/usr/sbin:/sbin:/usr/bin:/bin");
    }

    #[test]
    fn what_is_missing_is_named() {
        let runner = Runner::new(OsString::new(), Duration::from_secs(20));
        let error = Search::path(OsStr::new("/nonexistent"))
            .toolset(&runner, &Modes::default(), FamilyName::V6, IptablesMode::Legacy)
            .unwrap_err();
        assert!(error.contains("ip6tables-legacy") && error.contains("/nonexistent"), "{error}");
    }

    #[test]
    fn two_of_three_given_programs_do_not_count() {
        let runner = Runner::new(OsString::new(), Duration::from_secs(20));
        let mut some = FamilyExecutables::default();
        some.tables = Some("/bin/true".into());
        some.save = Some("/bin/true".into());
        assert_eq!(given(&runner, &Modes::default(), FamilyName::V4, &some), None);
        some.restore = Some("/nonexistent/restore".into());
        assert!(
            given(&runner, &Modes::default(), FamilyName::V4, &some)
                .unwrap()
                .unwrap_err()
                .contains("/nonexistent/restore")
        );
        some.restore = Some("/bin/true".into());
        assert_eq!(
            given(&runner, &Modes::default(), FamilyName::V4, &some).unwrap().unwrap().mode,
            IptablesMode::Legacy
        );
    }
}

//! Which file of the library uses which other one.
//!
//! Read from `use` declarations, with their groups, and from paths in code. A name that a file only hands on counts as a use of
//! the file where it is defined, so that a parent's re-exports hide nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// How often a name is followed to where it is handed on from. Declarations of generic names may lead around.
const LONGEST: usize = 16;

/// A path in segments, from the root of the crate.
type Names = Vec<String>;

/// The files of the library by their modules, and what each uses.
pub(crate) struct Imports {
    files: BTreeMap<String, File>,
}

#[derive(Default)]
struct File {
    /// The names that `use` declarations make, and where they lead.
    names: BTreeMap<String, Names>,
    /// All that is used, by declarations and in code.
    used: Vec<Names>,
}

impl Imports {
    /// Of all files in the folder `src`.
    pub(crate) fn read(source: &Path) -> Self {
        let mut texts = BTreeMap::new();
        super::visit(source, &mut |path| {
            let relative = path.strip_prefix(source).unwrap().with_extension("");
            let mut module: Vec<_> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if module.last().is_some_and(|last| last == "mod") {
                module.pop();
            }
            // The command is a crate of its own, and unit tests may use anything.
            if module[0] != "bin" && !module.iter().any(|part| part == "tests") {
                texts.insert(module.join("::"), without_comments_and_tests(&fs::read_to_string(path).unwrap()));
            }
        });
        Self::of(&texts)
    }

    /// Of these texts, by module.
    pub(crate) fn of(texts: &BTreeMap<String, String>) -> Self {
        let is_module = |module: &str| texts.contains_key(module);
        let files = texts.iter().map(|(module, text)| (module.clone(), File::read(module, text, &is_module)));
        Self { files: files.collect() }
    }

    /// The modules whose files are in this module, itself included.
    pub(crate) fn inside<'a>(&'a self, module: &'a str) -> impl Iterator<Item = &'a str> {
        let inside = move |other: &&str| {
            other.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        self.files.keys().map(String::as_str).filter(inside)
    }

    /// The other files that one uses.
    pub(crate) fn of_file(&self, module: &str) -> BTreeSet<&str> {
        let used = self.files[module].used.iter().filter_map(|path| self.defined_in(path, 0));
        used.filter(|other| *other != module).collect()
    }

    /// The file that defines what a path leads to.
    fn defined_in(&self, path: &[String], handed_on: usize) -> Option<&str> {
        let ends = (1..=path.len()).rev();
        let (module, end) =
            ends.filter_map(|end| Some((self.files.get_key_value(&path[..end].join("::"))?.0, end))).next()?;
        let Some(name) = path.get(end) else { return Some(module) };
        match self.files[module].names.get(name) {
            Some(target) if handed_on < LONGEST => {
                let onward = [target.as_slice(), &path[end + 1..]].concat();
                self.defined_in(&onward, handed_on + 1).or(Some(module))
            }
            _ => Some(module),
        }
    }

    /// The files of a module that use each other in a ring: each uses another that, by whatever way, uses it.
    pub(crate) fn rings<'a>(&'a self, module: &'a str) -> Vec<BTreeSet<&'a str>> {
        let files: BTreeMap<_, _> = self.inside(module).map(|file| (file, self.of_file(file))).collect();
        let reach: BTreeMap<_, _> = files.keys().map(|file| (*file, reached(&files, file))).collect();
        let mut rings = BTreeSet::new();
        for (file, reached) in &reach {
            let ring: BTreeSet<_> = reached.iter().copied().filter(|other| reach[other].contains(file)).collect();
            rings.extend((!ring.is_empty()).then_some(ring));
        }
        rings.into_iter().collect()
    }
}

/// The files that one uses, by whatever way.
fn reached<'a>(files: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut reached, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(file) = left.pop() {
        let more = files.get(file).into_iter().flatten().filter(|file| files.contains_key(*file));
        left.extend(more.copied().filter(|file| reached.insert(*file)));
    }
    reached
}

impl File {
    fn read(module: &str, text: &str, is_module: &impl Fn(&str) -> bool) -> Self {
        let mut file = Self::default();
        let mut code = String::new();
        for part in text.split_inclusive(';') {
            let declaration = part.rsplit_once("use ").filter(|(before, _)| is_start(before));
            let Some((before, paths)) = declaration else {
                code.push_str(part);
                continue;
            };
            code.push_str(before);
            for path in expanded(paths.trim_end_matches(';')) {
                let (path, alias) = match path.split_once(" as ") {
                    Some((path, alias)) => (path.to_owned(), Some(alias.trim().to_owned())),
                    None => (path, None),
                };
                let Some(mut target) = absolute(module, &path, is_module) else { continue };
                if target.last().is_some_and(|last| last == "self") {
                    target.pop();
                }
                let name = alias.or_else(|| target.last().cloned()).unwrap_or_default();
                file.names.insert(name, target.clone());
                file.used.push(target);
            }
        }
        // Not `pub(in crate::…)`.
        let code = code.replace("(in crate::", "(in ");
        let is_part_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for word in code.split(|c| !is_part_of_path(c)) {
            let Some((first, rest)) = word.trim_end_matches(':').split_once("::") else { continue };
            let target = match (first, file.names.get(first)) {
                ("crate" | "super" | "self", _) => absolute(module, &format!("{first}::{rest}"), is_module),
                // By a module that was declared to be used.
                (_, Some(known)) => Some(known.iter().cloned().chain(rest.split("::").map(str::to_owned)).collect()),
                _ => None,
            };
            file.used.extend(target);
        }
        file
    }
}

/// Whether a declaration can begin here: at the beginning of a line, or behind `pub`.
fn is_start(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default().trim();
    line.is_empty() || line == "pub" || (line.starts_with("pub(") && line.ends_with(')'))
}

/// Each path of a declaration: `a::{b, c::{d}}` has two.
fn expanded(paths: &str) -> Vec<String> {
    let flat = paths.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((before, rest)) = flat.split_once('{') else { return vec![flat.trim().to_owned()] };
    let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in inside.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            c => parts.last_mut().unwrap().push(c),
        }
    }
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(expanded).map(|part| format!("{}{part}", before.trim())).collect()
}

/// Where a path leads from a module; none if that is another crate.
fn absolute(module: &str, path: &str, is_module: &impl Fn(&str) -> bool) -> Option<Names> {
    let mut here: Names = module.split("::").map(str::to_owned).collect();
    let mut parts = path.split("::").map(str::trim).peekable();
    match *parts.peek()? {
        "crate" => {
            parts.next();
            here.clear();
        }
        "self" | "super" => {
            while let Some(part) = parts.next_if(|part| matches!(*part, "self" | "super")) {
                if part == "super" {
                    here.pop();
                }
            }
        }
        child if is_module(&format!("{module}::{child}")) => {}
        _ => return None,
    }
    here.extend(parts.map(str::to_owned));
    Some(here)
}

fn without_comments_and_tests(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| format!("{line}\n")).collect()
}

//! The modules of a crate, and what names mean in them.

use std::path::{Path, PathBuf};

use syn::{Item, UseTree, Visibility};

use crate::{cfg, macros};

/// A module, by its place in [`Crate::modules`].
pub(crate) type ModuleId = usize;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Meaning {
    Module(ModuleId),
    /// An item of a module.
    Item(ModuleId, usize),
}

pub(crate) struct Module {
    parent: Option<ModuleId>,
    pub(crate) items: Vec<Item>,
    /// The modules in it, each with its name.
    children: Vec<(String, ModuleId)>,
    pub(crate) imports: Vec<Import>,
}

/// One name that a `use` brings in.
pub(crate) struct Import {
    pub(crate) public: bool,
    /// The name here; none for a glob.
    pub(crate) name: Option<String>,
    pub(crate) path: Vec<String>,
}

pub(crate) struct Crate {
    pub(crate) modules: Vec<Module>,
}

pub(crate) const ROOT: ModuleId = 0;

impl Crate {
    /// Reads a crate from its files.
    pub(crate) fn read(root: &Path) -> Self {
        let mut all = Self { modules: Vec::new() };
        all.add(None, items_of(root), Some(root.parent().unwrap()));
        all
    }

    /// A crate in one text.
    pub(crate) fn parse(text: &str) -> Self {
        let mut all = Self { modules: Vec::new() };
        all.add(None, syn::parse_file(text).unwrap().items, None);
        all
    }

    /// Adds a module whose children are in a directory.
    fn add(&mut self, parent: Option<ModuleId>, items: Vec<Item>, directory: Option<&Path>) -> ModuleId {
        let id = self.modules.len();
        let items: Vec<Item> = items.into_iter().filter(|item| cfg::holds(attributes(item))).collect();
        let items = macros::expanded(items);
        self.modules.push(Module { parent, items: Vec::new(), children: Vec::new(), imports: Vec::new() });
        for item in &items {
            match item {
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    let (items, below) = match &module.content {
                        Some((_, items)) => (items.clone(), directory.map(|directory| directory.join(&name))),
                        None => {
                            assert!(!module.attrs.iter().any(|one| one.path().is_ident("path")), "{name} has a path");
                            let directory = directory.expect("modules of a text are in it");
                            (items_of(&file_of(directory, &name)), Some(directory.join(&name)))
                        }
                    };
                    let child = self.add(Some(id), items, below.as_deref());
                    self.modules[id].children.push((name, child));
                }
                Item::Use(import) => {
                    let public = matches!(import.vis, Visibility::Public(_));
                    imports(&import.tree, &mut Vec::new(), public, &mut self.modules[id].imports);
                }
                _ => {}
            }
        }
        self.modules[id].items = items;
        id
    }

    pub(crate) fn child(&self, module: ModuleId, name: &str) -> Option<ModuleId> {
        self.modules[module].children.iter().find(|(child, _)| child == name).map(|(_, id)| *id)
    }

    /// What a path means in a module; none for what is of another crate.
    pub(crate) fn resolve(&self, module: ModuleId, path: &[String]) -> Option<Meaning> {
        self.follow(module, path, 0)
    }

    fn follow(&self, module: ModuleId, path: &[String], depth: usize) -> Option<Meaning> {
        // Imports may lead to each other.
        if depth > 16 {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let mut meaning = match first.as_str() {
            "crate" => Meaning::Module(ROOT),
            "self" => Meaning::Module(module),
            "super" => Meaning::Module(self.modules[module].parent?),
            name => self.named(module, name, depth + 1)?,
        };
        for name in rest {
            let Meaning::Module(inside) = meaning else { return None };
            meaning = match name.as_str() {
                "super" => Meaning::Module(self.modules[inside].parent?),
                name => self.named(inside, name, depth + 1)?,
            };
        }
        Some(meaning)
    }

    fn named(&self, module: ModuleId, name: &str, depth: usize) -> Option<Meaning> {
        let here = &self.modules[module];
        if let Some(child) = self.child(module, name) {
            return Some(Meaning::Module(child));
        }
        if let Some(index) = here.items.iter().position(|item| ident(item).is_some_and(|ident| ident == name)) {
            return Some(Meaning::Item(module, index));
        }
        let by_name = here.imports.iter().filter(|import| import.name.as_deref() == Some(name));
        // `use name;` of another crate would lead to itself.
        let by_name = by_name
            .filter(|import| import.path != [name])
            .find_map(|import| self.follow(module, &import.path, depth + 1));
        by_name.or_else(|| {
            let globs = here.imports.iter().filter(|import| import.name.is_none());
            globs.filter_map(|glob| self.follow(module, &glob.path, depth + 1)).find_map(|meaning| match meaning {
                Meaning::Module(inside) if inside != module => self.named(inside, name, depth + 1),
                _ => None,
            })
        })
    }
}

fn items_of(file: &Path) -> Vec<Item> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())).items
}

fn file_of(directory: &Path, name: &str) -> PathBuf {
    let alone = directory.join(format!("{name}.rs"));
    if alone.exists() { alone } else { directory.join(name).join("mod.rs") }
}

fn imports(tree: &UseTree, path: &mut Vec<String>, public: bool, all: &mut Vec<Import>) {
    let mut add = |name: Option<String>, path: Vec<String>| all.push(Import { public, name, path });
    let with = |path: &[String], last: &syn::Ident| [path, &[last.to_string()]].concat();
    match tree {
        UseTree::Path(part) => {
            path.push(part.ident.to_string());
            imports(&part.tree, path, public, all);
            path.pop();
        }
        // `use a::{self}` is the module.
        UseTree::Name(name) if name.ident == "self" => add(path.last().cloned(), path.clone()),
        UseTree::Name(name) => add(Some(name.ident.to_string()), with(path, &name.ident)),
        UseTree::Rename(name) if name.ident == "self" => add(Some(name.rename.to_string()), path.clone()),
        UseTree::Rename(name) => add(Some(name.rename.to_string()), with(path, &name.ident)),
        UseTree::Glob(_) => add(None, path.clone()),
        UseTree::Group(group) => group.items.iter().for_each(|tree| imports(tree, path, public, all)),
    }
}

/// The name of an item that has one.
pub(crate) fn ident(item: &Item) -> Option<&syn::Ident> {
    Some(match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    })
}

pub(crate) fn visibility(item: &Item) -> Option<&Visibility> {
    Some(match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Mod(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::Type(item) => &item.vis,
        Item::Union(item) => &item.vis,
        _ => return None,
    })
}

pub(crate) fn attributes(item: &Item) -> &[syn::Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        _ => &[],
    }
}

//! Everything that can be named from outside.

use std::collections::{BTreeMap, BTreeSet};

use quote::ToTokens as _;
use syn::{ImplItem, Item, TraitItem, Type, Visibility};

use crate::cfg;
use crate::names::{Crate, Meaning, ModuleId, ROOT, attributes, ident, visibility};
use crate::print;

/// The lines of the list.
pub(crate) fn public(sources: &Crate) -> BTreeSet<String> {
    let mut list = List { sources, lines: BTreeSet::new(), exported: BTreeMap::new() };
    list.module(ROOT, "kumatp");
    list.implementations();
    list.lines
}

/// The paths of items that have several, those at the root not counted.
pub(crate) fn exported_twice(sources: &Crate) -> Vec<Vec<String>> {
    let mut list = List { sources, lines: BTreeSet::new(), exported: BTreeMap::new() };
    list.module(ROOT, "kumatp");
    let below = |paths: BTreeSet<String>| paths.into_iter().filter(|path| path.matches("::").count() > 1).collect();
    list.exported.into_values().map(below).filter(|paths: &Vec<String>| paths.len() > 1).collect()
}

struct List<'a> {
    sources: &'a Crate,
    lines: BTreeSet<String>,
    /// Under which paths items are exported.
    exported: BTreeMap<Meaning, BTreeSet<String>>,
}

impl List<'_> {
    fn module(&mut self, module: ModuleId, path: &str) {
        let sources = self.sources;
        if !self.exported.entry(Meaning::Module(module)).or_default().insert(path.to_owned()) {
            return;
        }
        if module != ROOT {
            self.lines.insert(format!("mod {path}"));
        }
        for (index, item) in sources.modules[module].items.iter().enumerate() {
            if let Item::Macro(made) = item {
                self.made_by_macro(made, path);
            }
            if !visibility(item).is_some_and(is_public) || is_hidden(attributes(item)) {
                continue;
            }
            match item {
                Item::Mod(inside) => {
                    let name = inside.ident.to_string();
                    let child = sources.child(module, &name).expect("it was read");
                    self.export(Meaning::Module(child), &format!("{path}::{name}"));
                }
                _ => {
                    let name = ident(item).expect("what has a visibility has a name");
                    self.export(Meaning::Item(module, index), &format!("{path}::{name}"));
                }
            }
        }
        for import in sources.modules[module].imports.iter().filter(|import| import.public) {
            let meaning = sources.resolve(module, &import.path);
            match (meaning, &import.name) {
                (Some(meaning), Some(name)) => self.export(meaning, &format!("{path}::{name}")),
                (Some(Meaning::Module(inside)), None) => self.all_of(inside, path),
                (_, name) => {
                    let name = name.as_deref().unwrap_or("*");
                    self.lines.insert(format!("use {path}::{name} = {}", import.path.join("::")));
                    self.made_elsewhere(module, &import.path, &format!("{path}::{name}"));
                }
            }
        }
    }

    /// What a glob exports.
    fn all_of(&mut self, module: ModuleId, path: &str) {
        let lines = std::mem::take(&mut self.lines);
        self.module(module, path);
        // The module itself is not named by it.
        self.lines.remove(&format!("mod {path}"));
        self.lines.extend(lines);
    }

    fn export(&mut self, meaning: Meaning, path: &str) {
        if path == "kumatp::ffi" {
            return;
        }
        match meaning {
            Meaning::Module(module) => self.module(module, path),
            Meaning::Item(module, index) => {
                if self.exported.entry(meaning).or_default().insert(path.to_owned()) {
                    self.item(&self.sources.modules[module].items[index], path);
                }
            }
        }
    }

    fn item(&mut self, item: &Item, path: &str) {
        let mut lines = vec![print::item(item, path)];
        let mut member = |text: String| lines.push(format!("{path}: {text}"));
        match item {
            Item::Struct(one) => {
                let fields = one.fields.iter().filter(|field| is_public(&field.vis) && cfg::holds(&field.attrs));
                fields.for_each(|field| member(print::field(field)));
            }
            Item::Enum(one) => one.variants.iter().for_each(|variant| member(print::variant(variant))),
            Item::Trait(one) => one.items.iter().filter_map(print::of_trait).for_each(member),
            _ => {}
        }
        for name in print::derived(attributes(item)) {
            lines.push(format!("{path}: impl {name} (derived)"));
        }
        self.lines.extend(lines);
    }

    /// What a macro of another crate makes is named by calls in the module where it should be.
    fn made_elsewhere(&mut self, module: ModuleId, import: &[String], path: &str) {
        let Some((name, above)) = import.split_last() else { return };
        let Some(Meaning::Module(inside)) = self.sources.resolve(module, above) else { return };
        for item in &self.sources.modules[inside].items {
            let Item::Macro(made) = item else { continue };
            if made.mac.tokens.to_string().split_whitespace().any(|word| word == name) {
                self.made_by_macro(made, path);
            }
        }
    }

    /// Items that such a macro makes are not seen; that it is called, and with what, is.
    fn made_by_macro(&mut self, made: &syn::ItemMacro, path: &str) {
        if made.ident.is_none() {
            let name = print::text(&made.mac.path);
            self.lines.insert(format!(
                "{path}: {name}! {{ {} }}",
                print::clean(&print::without_documentation(&made.mac.tokens.to_string()))
            ));
        }
    }

    /// The methods and traits of what is exported, wherever they are written.
    fn implementations(&mut self) {
        for (module, inside) in self.sources.modules.iter().enumerate() {
            for item in &inside.items {
                let Item::Impl(one) = item else { continue };
                let Some(path) = path_of(&one.self_ty) else { continue };
                let Some(meaning) = self.sources.resolve(module, &path) else { continue };
                let Some(paths) = self.exported.get(&meaning) else { continue };
                // A trait of the crate that nobody can name promises nothing.
                let of = one
                    .trait_
                    .as_ref()
                    .map(|(_, of, _)| of.segments.iter().map(|part| part.ident.to_string()).collect());
                let of = of.and_then(|of: Vec<_>| self.sources.resolve(module, &of));
                if of.is_some_and(|of| !self.exported.contains_key(&of)) {
                    continue;
                }
                // Once for each type.
                let path = paths.first().expect("it is exported by a path");
                self.lines.extend(members(one).into_iter().map(|text| format!("{path}: {text}")));
            }
        }
    }
}

fn members(one: &syn::ItemImpl) -> Vec<String> {
    if is_hidden(&one.attrs) {
        return Vec::new();
    }
    if one.trait_.is_some() {
        return vec![print::header(one)];
    }
    let generics = print::generics(one);
    let member = |item: &ImplItem| match item {
        ImplItem::Fn(method) if is_public(&method.vis) && cfg::holds(&method.attrs) && !is_hidden(&method.attrs) => {
            Some(format!("{generics}pub {}", print::text(&method.sig)))
        }
        ImplItem::Const(constant) if is_public(&constant.vis) && cfg::holds(&constant.attrs) => {
            Some(format!("{generics}pub const {}: {}", constant.ident, print::text(&constant.ty)))
        }
        _ => None,
    };
    one.items.iter().filter_map(member).collect()
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Whether it is marked as not for others.
fn is_hidden(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|one| one.path().is_ident("doc") && one.meta.to_token_stream().to_string().contains("hidden"))
}

/// The path of a type, without what it is generic over.
fn path_of(ty: &Type) -> Option<Vec<String>> {
    match ty {
        Type::Path(path) if path.qself.is_none() => {
            Some(path.path.segments.iter().map(|segment| segment.ident.to_string()).collect())
        }
        Type::Reference(reference) => path_of(&reference.elem),
        _ => None,
    }
}

/// So that a trait's items are named in one place.
pub(crate) fn is_shown(item: &TraitItem) -> bool {
    match item {
        TraitItem::Fn(method) => cfg::holds(&method.attrs) && !is_hidden(&method.attrs),
        TraitItem::Type(ty) => cfg::holds(&ty.attrs),
        TraitItem::Const(constant) => cfg::holds(&constant.attrs),
        _ => true,
    }
}

//! Items in one line each.

use quote::ToTokens;
use syn::{Attribute, Item, TraitItem};

use crate::walk::is_shown;

/// Tokens as people write them.
pub(crate) fn text(tokens: &impl ToTokens) -> String {
    clean(&tokens.to_token_stream().to_string())
}

/// The text of tokens without `# [doc = "…"]`.
pub(crate) fn without_documentation(text: &str) -> String {
    let mut parts = text.split("# [doc = ");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    // What is documented follows the end of the attribute.
    parts.for_each(|part| kept.push_str(part.split_once("\"]").map_or("", |(_, rest)| rest)));
    kept
}

pub(crate) fn clean(text: &str) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (from, to) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" ::", "::"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" :", ":"),
        ("& ", "&"),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        (" ;", ";"),
        ("[ ", "["),
        (" ]", "]"),
        (" !", "!"),
        ("->(", "-> ("),
        ("& '", "&'"),
        (",)", ")"),
        (",>", ">"),
        ("&dyn(", "&dyn ("),
        ("impl(", "impl ("),
        (",(", ", ("),
        ("=(", "= ("),
    ] {
        text = text.replace(from, to);
    }
    text
}

/// An item under a path, without its members.
pub(crate) fn item(item: &Item, path: &str) -> String {
    let line = match item {
        Item::Const(one) => format!("const {path}: {}", text(&one.ty)),
        Item::Static(one) => format!("static {path}: {}", text(&one.ty)),
        Item::Type(one) => format!("type {path}{} = {}", text(&one.generics), text(&one.ty)),
        Item::Enum(one) => format!("enum {path}{}{}", text(&one.generics), bounds(&one.generics)),
        Item::Union(one) => format!("union {path}{}", text(&one.generics)),
        Item::Struct(one) => {
            let private = one.fields.iter().any(|field| !matches!(field.vis, syn::Visibility::Public(_)));
            let rest = if private { " { private fields }" } else { "" };
            format!("struct {path}{}{}{rest}", text(&one.generics), bounds(&one.generics))
        }
        Item::Trait(one) => {
            let unsafety = if one.unsafety.is_some() { "unsafe " } else { "" };
            let above =
                if one.supertraits.is_empty() { String::new() } else { format!(": {}", text(&one.supertraits)) };
            format!("{unsafety}trait {path}{}{above}", text(&one.generics))
        }
        // The name stands between the keywords and the parameters.
        Item::Fn(one) => {
            let signature = text(&one.sig);
            signature.replacen(&format!("fn {}", one.sig.ident), &format!("fn {path}"), 1)
        }
        _ => unreachable!("it has no name"),
    };
    let is_open = crate::names::attributes(item).iter().any(|one| one.path().is_ident("non_exhaustive"));
    if is_open { format!("non_exhaustive {line}") } else { line }
}

fn bounds(generics: &syn::Generics) -> String {
    generics.where_clause.as_ref().map_or(String::new(), |clause| format!(" {}", text(clause)))
}

pub(crate) fn field(field: &syn::Field) -> String {
    let name = field.ident.as_ref().map_or(String::new(), |name| format!("{name}: "));
    format!("pub {name}{}", text(&field.ty))
}

pub(crate) fn variant(variant: &syn::Variant) -> String {
    let mut variant = variant.clone();
    let is_open = variant.attrs.iter().any(|one| one.path().is_ident("non_exhaustive"));
    variant.attrs.clear();
    variant.fields.iter_mut().for_each(|field| field.attrs.clear());
    // What follows the last field is a matter of how it is written.
    let text = text(&variant).replace(", }", " }").replace(",)", ")");
    if is_open { format!("non_exhaustive {text}") } else { text }
}

/// A member of a trait, and whether it has a default.
pub(crate) fn of_trait(item: &TraitItem) -> Option<String> {
    if !is_shown(item) {
        return None;
    }
    Some(match item {
        TraitItem::Fn(method) => {
            let default = if method.default.is_some() { " { default }" } else { "" };
            format!("{}{default}", text(&method.sig))
        }
        TraitItem::Type(ty) => {
            let bounds = if ty.bounds.is_empty() { String::new() } else { format!(": {}", text(&ty.bounds)) };
            format!("type {}{bounds}", ty.ident)
        }
        TraitItem::Const(constant) => format!("const {}: {}", constant.ident, text(&constant.ty)),
        other => text(other),
    })
}

/// The traits that are derived.
pub(crate) fn derived(attributes: &[Attribute]) -> Vec<String> {
    let mut names = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        attribute
            .parse_nested_meta(|meta| {
                names.push(text(&meta.path));
                Ok(())
            })
            .unwrap();
    }
    names
}

/// `impl<…> Trait for Type where …`.
pub(crate) fn header(one: &syn::ItemImpl) -> String {
    let (_, of, _) = one.trait_.as_ref().expect("it is of a trait");
    let generics = text(&one.generics);
    let space = if generics.is_empty() { "" } else { " " };
    format!("impl{generics}{space} {} for {}{}", text(of), text(&one.self_ty), bounds(&one.generics)).replace("  ", " ")
}

/// What methods of a type with parameters are for: `impl<…> Type: `, or nothing.
pub(crate) fn generics(one: &syn::ItemImpl) -> String {
    match one.generics.params.is_empty() && !text(&one.self_ty).contains('<') {
        true => String::new(),
        false => format!("impl{} {}{}: ", text(&one.generics), text(&one.self_ty), bounds(&one.generics)),
    }
}

//! Items that the crate's own macros make.

use syn::Item;

/// The items of a module, and those that its macros make of calls in it: macros with one rule, whose parameters are separated by commas.
pub(crate) fn expanded(items: Vec<Item>) -> Vec<Item> {
    let made: Vec<Item> = items.iter().flat_map(|item| made_by(item, &items)).collect();
    items.into_iter().chain(made).collect()
}

fn made_by(item: &Item, items: &[Item]) -> Vec<Item> {
    let Item::Macro(call) = item else { return Vec::new() };
    if call.mac.path.is_ident("named") {
        return named(call.mac.tokens.to_string());
    }
    let is_definition = |item: &&syn::ItemMacro| item.ident.as_ref().is_some_and(|name| call.mac.path.is_ident(name));
    let mut macros = items.iter().filter_map(|item| match item {
        Item::Macro(one) => Some(one),
        _ => None,
    });
    let definition = macros.find(is_definition);
    definition.and_then(|definition| expand(definition, &call.mac)).unwrap_or_default()
}

/// What a call makes; none for a macro of another kind.
fn expand(definition: &syn::ItemMacro, call: &syn::Macro) -> Option<Vec<Item>> {
    let text = definition.mac.tokens.to_string();
    if text.contains("$ (") || text.contains("$(") {
        return None;
    }
    let (parameters, body) = text.split_once("=>")?;
    let names =
        parameters.split(',').map(|part| part.split(':').next().unwrap_or_default().trim_matches(['(', ' ', '$', ')']));
    let values = call.tokens.to_string();
    let mut pairs: Vec<(&str, &str)> = names.zip(values.split(',').map(str::trim)).collect();
    // A name may begin with another.
    pairs.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let mut body = body[body.find('{')? + 1..body.rfind('}')?].replace("$ ", "$");
    for (name, value) in pairs {
        body = body.replace(&format!("${name}"), value);
    }
    Some(syn::parse_file(&body).ok()?.items)
}

/// What `named!` of the crate makes of `/// … Type { Variant = "name", … } else "what would be right"`.
fn named(call: String) -> Vec<Item> {
    let (head, rest) = call.rsplit_once(" {").unwrap_or_else(|| panic!("named! without a list: {call}"));
    let name = head.split_ascii_whitespace().last().unwrap_or_default();
    let (list, expected) = rest.split_once('}').unwrap_or_default();
    let count = list.matches('=').count();
    let read =
        if expected.trim().starts_with("else") { format!("impl FromStr for {name} {{}}") } else { String::new() };
    let text = format!(
        "impl {name} {{ pub const ALL: [Self; {count}] = []; pub const fn as_str(self) -> &'static str {{ todo!() }} }}
         impl fmt::Display for {name} {{}} {read}"
    );
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{text}: {error}")).items
}

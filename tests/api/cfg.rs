//! What is compiled for Linux with all features.

use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, Token};

/// Whether all `cfg` attributes hold.
pub(crate) fn holds(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).all(|attribute| {
        attribute.parse_args::<Meta>().map_or_else(|error| panic!("{error}"), |condition| of(&condition))
    })
}

fn of(condition: &Meta) -> bool {
    let list = |list: &syn::MetaList| {
        list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).unwrap_or_else(|error| panic!("{error}"))
    };
    match condition {
        Meta::List(of_all) if of_all.path.is_ident("all") => list(of_all).iter().all(of),
        Meta::List(of_any) if of_any.path.is_ident("any") => list(of_any).iter().any(of),
        Meta::List(of_not) if of_not.path.is_ident("not") => !list(of_not).iter().any(of),
        Meta::NameValue(pair) if pair.path.is_ident("feature") => true,
        Meta::NameValue(pair) if pair.path.is_ident("target_os") => is(&pair.value, "linux"),
        Meta::Path(path) => path.is_ident("unix"),
        _ => false,
    }
}

fn is(value: &syn::Expr, expected: &str) -> bool {
    matches!(value, syn::Expr::Lit(literal) if matches!(&literal.lit, syn::Lit::Str(text) if text.value() == expected))
}

//! The placeholders in a `Dataplane`, such as `{{ address }}`.

use std::collections::BTreeMap;

use crate::config::wire::{nearest, visible};
use crate::error::{Error, InvalidValue, Problem};

/// Fills the placeholders of a template, as `kuma-dp run --dataplane-var` does before it reads a resource.
///
/// A placeholder is a name between double braces, with or without blanks: `{{ address }}`. A name may have dots. A
/// comment, `{{! … }}`, is left out, and the lines that are comments of YAML are left as they are.
///
/// The text is filled before it is read as YAML or JSON, so a value could otherwise change its structure. Only values
/// that cannot are accepted: letters, digits, `. _ - : / + = @` and single blanks, with neither a blank nor a colon
/// before a blank or at an end, and no lone `-`. That is enough for addresses, ports, names and zones. Values are put
/// in as they are; those that kuma-dp would escape as HTML are not accepted.
///
/// kuma-dp leaves out a placeholder that has no variable, which ends in an address that is missing or a service
/// without a name; here it is an error. Sections, partials and other delimiters, of which a resource for one
/// workload needs none, are errors too.
///
/// ```
/// use kumatp::config::dataplane::fill;
///
/// let variables = [("address".to_owned(), "192.0.2.7".to_owned())].into();
/// assert_eq!(fill("address: {{ address }}\n", &variables)?, "address: 192.0.2.7\n");
///
/// let error = fill("address: {{ adress }}\nname: {{ name }}\n", &variables).unwrap_err();
/// let paths: Vec<_> = error.problems().iter().map(|problem| problem.path.as_str()).collect();
/// assert_eq!(paths, ["line 1", "line 2"]);
/// assert!(error.to_string().contains("did you mean 'address'?"));
/// # Ok::<(), kumatp::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`] with every placeholder that has no variable or is none that can be filled, and every value that
/// is not accepted.
pub fn fill(template: &str, variables: &BTreeMap<String, String>) -> Result<String, Error> {
    let mut problems: Vec<Problem> = variables
        .iter()
        .filter(|(_, value)| !is_plain(value))
        .map(|(name, value)| {
            let expected = "a value of letters, digits, '. _ - : / + = @' and single blanks inside, which cannot \
                            change the structure of the resource";
            InvalidValue::new(value, expected).at(format!("variable {}", visible(name)))
        })
        .collect();
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    let mut line = 1;
    while let Some(start) = rest.find("{{") {
        let (before, tag) = rest.split_at(start);
        filled.push_str(before);
        line += before.matches('\n').count();
        let current = &template[..template.len() - tag.len()];
        if current.rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with('#')) {
            let end = tag.find('\n').unwrap_or(tag.len());
            filled.push_str(&tag[..end]);
            rest = &tag[end..];
            continue;
        }
        let Some((inner, length)) = placeholder(tag) else {
            let open = tag.lines().next().unwrap_or(tag);
            problems.push(InvalidValue::new(open, "a placeholder that ends with '}}'").at(format!("line {line}")));
            rest = "";
            break;
        };
        let whole = &tag[..length];
        rest = &tag[length..];
        match value(inner, variables) {
            Ok(value) => filled.push_str(value),
            Err(expected) => problems.push(InvalidValue::new(whole, expected).at(format!("line {line}"))),
        }
        line += whole.matches('\n').count();
    }
    filled.push_str(rest);
    if problems.is_empty() { Ok(filled) } else { Err(Error::Config(problems)) }
}

/// What is between the braces at the beginning of the text, and the length with them.
fn placeholder(tag: &str) -> Option<(&str, usize)> {
    let (open, close) = if tag.starts_with("{{{") { ("{{{", "}}}") } else { ("{{", "}}") };
    let end = tag.find(close)?;
    Some((tag.get(open.len()..end)?.trim(), end + close.len()))
}

fn value<'v>(inner: &str, variables: &'v BTreeMap<String, String>) -> Result<&'v str, String> {
    // Unescaped or not makes no difference to the values that are accepted.
    let name = inner.strip_prefix('&').unwrap_or(inner).trim();
    match name.chars().next() {
        None => Err("the name of a variable between the braces".to_owned()),
        Some('!') => Ok(""),
        Some('#' | '^' | '/' | '>' | '=') => {
            Err("the name of a variable between the braces; sections, partials and other delimiters are not filled"
                .to_owned())
        }
        Some(_) => variables.get(name).map(String::as_str).ok_or_else(|| {
            let near = nearest(name, variables.keys().map(String::as_str));
            let hint = near.map(|near| format!("; did you mean '{}'?", visible(near))).unwrap_or_default();
            format!("the name of a variable that is set{hint}")
        }),
    }
}

/// Whether the text stays one scalar wherever in a YAML or JSON scalar it is put.
fn is_plain(value: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "._-:/+=@ ".contains(c);
    value.chars().all(plain)
        && !value.starts_with([' ', ':', '@', '='])
        && !value.ends_with([' ', ':'])
        && !value.contains(": ")
        && !value.contains("  ")
        && !value.starts_with("- ")
        && !value.starts_with("---")
        && value != "-"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn placeholders_in_every_form() {
        let set = variables(&[("a", "1"), ("b.c", "x y"), ("é", "ü")]);
        for (template, expected) in [
            ("{{a}}", "1"),
            ("{{ a }}{{{a}}}{{& a}}{{a }}", "1111"),
            ("\"{{ b.c }}\"", "\"x y\""),
            ("{{! a comment }}x", "x"),
            ("{{ é }}", "ü"),
            ("# {{ unset }}\nb: {{ a }}", "# {{ unset }}\nb: 1"),
            ("a: 1 # {{ a }}", "a: 1 # 1"),
            ("{\"a\": {\"b\": {}}}", "{\"a\": {\"b\": {}}}"),
            ("", ""),
        ] {
            assert_eq!(fill(template, &set).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_cannot_be_filled_is_named() {
        let set = variables(&[("a", "1")]);
        for (template, path, value) in [
            ("\n{{ unset }}", "line 2", "{{ unset }}"),
            ("{{#a}}x", "line 1", "{{#a}}"),
            ("{{> a }}", "line 1", "{{> a }}"),
            ("{{=<% %>=}}", "line 1", "{{=<% %>=}}"),
            ("{{ }}", "line 1", "{{ }}"),
            ("{{{ a }}", "line 1", "{{{ a }}"),
            ("x\n{{\n\n}}\n{{b}}", "line 2", "{{\n\n}}"),
            ("{{a", "line 1", "{{a"),
            ("{{{}}", "line 1", "{{{}}"),
        ] {
            let error = fill(template, &set).unwrap_err();
            assert_eq!((error.problems()[0].path.as_str(), error.problems()[0].value.as_str()), (path, value));
        }
        assert_eq!(fill("x\n{{\n\n}}\n{{b}}", &set).unwrap_err().problems()[1].path, "line 5");
    }

    #[test]
    fn values_cannot_break_out() {
        for bad in [
            "a\nb: c", "a: b", "a #b", "{", "[1]", "'", "\"", "*a", "&a", "!a", "|", ">", "a,b", "\\", "`", "%", "x:",
            "- a", "-", "--- x", " a", "a ", "a<b", "\u{7f}", "\u{2028}", "? a",
        ] {
            let error = fill("{{ a }}", &variables(&[("a", bad)])).unwrap_err();
            assert_eq!(error.problems()[0].path, "variable a", "{bad}");
        }
        for good in ["192.0.2.1", "2001:db8::1", "web-1", "-1", "a/b", "https://x:80/y", "", "demo client", "A_b"] {
            assert_eq!(fill("{{ a }}", &variables(&[("a", good)])).as_deref(), Ok(good));
        }
    }
}

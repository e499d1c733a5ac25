//! Pictures of any plan are of their languages' syntax, whatever the rules' words say.

#[path = "common/generate.rs"]
mod generate;
#[path = "common/skip.rs"]
mod skip;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use arbitrary::Unstructured;
use arbtest::arbtest;
use kumatp::model::{Comment, Plan};
use kumatp::policy;
use kumatp::render::{dot, mermaid};

/// Any plan, sometimes with words that nobody would choose.
fn plan(u: &mut Unstructured<'_>) -> arbitrary::Result<Plan> {
    let mut plan = policy::plan(&generate::config(u)?, &generate::facts(u)?).unwrap();
    if u.arbitrary()? {
        const BAD: &[&str] = &[
            "\u{2764}]}}#quot;",
            "%%{init: {}}%%",
            "1. end;",
            "<br/>",
            "-- x",
            "&lt;`*a*`",
            " ",
            "style x:#y;",
            "'|\u{1d11e}",
        ];
        for rule in plan.v4.tables.iter_mut().flat_map(|table| &mut table.chains).flat_map(|chain| &mut chain.rules) {
            let words: String = match u.arbitrary()? {
                true => u.arbitrary()?,
                false => (*u.choose(BAD)?).into(),
            };
            rule.comment = Some(if u.arbitrary()? { Comment::ours(&words) } else { Comment::lossy(&words) });
        }
    }
    Ok(plan)
}

/// The names of the nodes, and the ends of the arrows.
type Read = (BTreeSet<String>, Vec<(String, String)>);

/// What is in a text, if it is of the part of Mermaid that is used (<https://mermaid.js.org/syntax/flowchart.html>).
fn read_mermaid(text: &str) -> Option<Read> {
    let (mut nodes, mut edges, mut open) = (BTreeSet::new(), Vec::new(), false);
    let mut lines = text.strip_prefix("flowchart TD\n")?.lines().map(str::trim_start);
    for line in &mut lines {
        if line == "end" {
            open = std::mem::take(&mut open).then_some(false)?;
        } else if let Some(rest) = line.strip_prefix("subgraph g") {
            let (number, title) = rest.strip_suffix("\"]")?.split_once("[\"")?;
            open = (!open && is_number(number) && is_mermaid_label(title)).then_some(true)?;
        } else if let Some(rest) = line.strip_prefix("classDef ") {
            let (class, look) = rest.split_once(" fill:#")?;
            (class.bytes().all(|b| b.is_ascii_lowercase()) && look.ends_with(",color:#000")).then_some(())?;
        } else if let Some(rest) = line.strip_prefix("class ") {
            let (members, _) = rest.split_once(' ')?;
            members.split(',').all(|member| nodes.contains(member)).then_some(())?;
        } else if let Some((from, to)) = line.split_once(" -->") {
            let to = to.strip_prefix("|yes|").or(to.strip_prefix("|no|")).unwrap_or(to);
            edges.push((from.to_owned(), to.strip_prefix(' ')?.to_owned()));
        } else {
            let (name, rest) = line.split_at(line.find(['[', '{', '('])?);
            let label = [("([\"", "\"])"), ("{{\"", "\"}}"), ("[\"", "\"]")]
                .iter()
                .find_map(|(open, close)| rest.strip_prefix(open)?.strip_suffix(close))?;
            (is_number(name.strip_prefix('n')?) && is_mermaid_label(label)).then_some(())?;
            nodes.insert(name.to_owned()).then_some(())?;
        }
    }
    (!open).then_some((nodes, edges))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Letters, harmless signs, `#N;` and `<br/>`, and no line that is a list to Markdown.
fn is_mermaid_label(label: &str) -> bool {
    label.split("<br/>").all(|line| {
        let mut rest = line;
        while let Some((before, entity)) = rest.split_once('#') {
            let Some((number, after)) = entity.split_once(';') else { return false };
            let known = number.parse().ok().and_then(char::from_u32).is_some();
            if !known || !before.chars().all(is_plain) {
                return false;
            }
            rest = after;
        }
        rest.chars().all(is_plain) && !line.starts_with(|c: char| c.is_ascii_digit() || "-+*> ".contains(c))
    })
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || " .,;/-_()?".contains(c)
}

/// The same of the part of DOT that is used (<https://graphviz.org/doc/info/lang.html>).
fn read_dot(text: &str) -> Option<Read> {
    let (mut nodes, mut edges, mut depth) = (BTreeSet::new(), Vec::new(), 1);
    for line in text.strip_prefix("digraph kumatp {\n")?.lines().map(str::trim_start) {
        is_quoted_right(line).then_some(())?;
        if line == "}" {
            depth -= 1;
        } else if let Some(rest) = line.strip_prefix("subgraph cluster_") {
            is_number(rest.strip_suffix(" {")?).then_some(())?;
            depth += 1;
        } else if let Some((from, to)) = line.split_once(" -> ") {
            let to = to.strip_suffix(" [label=\"yes\"]").or(to.strip_suffix(" [label=\"no\"]")).unwrap_or(to);
            edges.push((from.to_owned(), to.to_owned()));
        } else if let Some((name, rest)) = line.split_once(" [label=\"") {
            (is_number(name.strip_prefix('n')?) && rest.ends_with(']')).then_some(())?;
            nodes.insert(name.to_owned()).then_some(())?;
        } else {
            ["graph [", "node [", "edge [", "label=\""].iter().any(|start| line.starts_with(start)).then_some(())?;
        }
    }
    (depth == 0).then_some((nodes, edges))
}

/// ASCII with an even number of quotes and no backslash but in `\n`.
fn is_quoted_right(line: &str) -> bool {
    let rest = line.replace("\\n", "");
    line.bytes().all(|b| (b' '..=b'~').contains(&b)) && !rest.contains('\\') && rest.matches('"').count() % 2 == 0
}

#[test]
fn pictures_are_of_their_syntax() {
    arbtest(|u| {
        let plan = plan(u)?;
        let (mermaid, dot) = (mermaid::plan(&plan), dot::plan(&plan));
        let (nodes, edges) = read_mermaid(&mermaid).unwrap_or_else(|| panic!("{mermaid}"));
        assert!(edges.iter().all(|(from, to)| nodes.contains(from) && nodes.contains(to)), "{mermaid}");
        assert_eq!(read_dot(&dot).unwrap_or_else(|| panic!("{dot}")), (nodes, edges), "{dot}");
        assert_eq!((mermaid::plan(&plan), dot::plan(&plan)), (mermaid, dot));
        assert!(read_mermaid(&mermaid::ruleset(&plan.v4)).is_some());
        assert!(read_dot(&dot::ruleset(&plan.v4)).is_some());
        Ok(())
    })
    .budget_ms(600);
}

#[test]
fn the_readers_of_this_test_refuse_what_is_wrong() {
    let with = |label: &str| format!("flowchart TD\n    n0[\"{label}\"]\n");
    assert!(read_mermaid(&with("a #34; b<br/>c")).is_some());
    for label in ["a\"b", "#quot;", "a<br/>1. b", "%%", "#34", "<b>", "- x"] {
        assert!(read_mermaid(&with(label)).is_none(), "{label}");
    }
    assert!(read_dot("digraph kumatp {\n    n0 [label=\"a\"]\n}\n").is_some());
    assert!(read_dot("digraph kumatp {\n    n0 [label=\"a\\\"]\n}\n").is_none());
    assert!(read_dot("digraph kumatp {\n    n0 [label=\"a\"b\"]\n}\n").is_none());
}

/// Graphviz reads in the pictures what they should say, and draws that of the default plan. It is not asked to draw any: of some
/// graphs with frames, its layout fails by itself ("trouble in init_rank").
#[test]
fn graphviz_reads_any_picture() {
    if Command::new("dot").arg("-V").stderr(Stdio::null()).status().is_err() {
        return skip::skipped("dot of Graphviz is not there");
    }
    let facts = kumatp::Facts::capable_host(kumatp::net::Uid::SIDECAR);
    let default = dot::plan(&kumatp::policy::plan(&kumatp::Config::default(), &facts).unwrap());
    let (nodes, edges) = read_dot(&default).unwrap();
    let drawn = graphviz("dot", &["-Tplain"], &default);
    let count = |what: &str| drawn.lines().filter(|line| line.starts_with(what)).count();
    assert_eq!((count("node "), count("edge ")), (nodes.len(), edges.len()), "{default}");
    arbtest(|u| {
        let picture = dot::plan(&plan(u)?);
        let (nodes, edges) = read_dot(&picture).unwrap();
        let counted = graphviz("gc", &["-n", "-e"], &picture);
        let counted: Vec<usize> = counted.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(counted, [nodes.len(), edges.len()], "{picture}");
        Ok(())
    })
    .budget_ms(1000);
}

/// What a program of Graphviz makes of a picture, without complaint.
fn graphviz(program: &str, args: &[&str], picture: &str) -> String {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(picture.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{program}: {complaints}\n{picture}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

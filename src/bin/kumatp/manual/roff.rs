//! A page as roff, with the macros of man(7).

use std::fmt::Write as _;

use super::page::{Block, Item, Page};

/// The page.
pub(super) fn write(page: &Page) -> String {
    let mut roff = format!(
        ".\\\" Written by `KUMATP_BLESS=1 cargo test --all-features --bin kumatp manual`.\n\
         .TH \"{}\" \"{}\" \"\" \"kumatp {}\" \"kumatp\"\n.nh\n.ad l\n.SH NAME\n{} \\- {}\n",
        escaped(&page.name.to_uppercase()),
        page.section,
        env!("CARGO_PKG_VERSION"),
        escaped(&page.name),
        inline(&page.about),
    );
    for section in &page.sections {
        let _ = writeln!(roff, ".SH {}", escaped(section.title));
        section.blocks.iter().for_each(|part| block(&mut roff, part));
    }
    roff
}

fn block(roff: &mut String, block: &Block) {
    let _ = match block {
        Block::Text(text) => writeln!(roff, ".PP\n{}", line(&inline(text))),
        Block::Heading(text) => writeln!(roff, ".SS {}", line(&inline(text))),
        Block::Code(text) => {
            let lines: Vec<String> = text.lines().map(|one| line(&escaped(one))).collect();
            writeln!(roff, ".PP\n.RS 4\n.nf\n{}\n.fi\n.RE", lines.join("\n"))
        }
        Block::Items(items) => {
            items.iter().for_each(|one| item(roff, one));
            Ok(())
        }
    };
}

fn item(roff: &mut String, item: &Item) {
    let value = if item.value.is_empty() { String::new() } else { format!("\\fI{}\\fP", escaped(&item.value)) };
    let _ = writeln!(roff, ".TP\n\\fB{}\\fP{value}\n{}", escaped(&item.term), line(&inline(&item.text)));
}

/// A line of text: what begins as a request does is none.
fn line(text: &str) -> String {
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text.to_owned() }
}

/// Text with its words between backquotes in bold.
fn inline(text: &str) -> String {
    let part = |(index, part): (usize, &str)| match index % 2 {
        0 => escaped(part),
        _ => format!("\\fB{}\\fP", escaped(part)),
    };
    text.split('`').enumerate().map(part).collect()
}

/// Words that are longer may be broken behind some signs.
const LONG: usize = 30;

/// Text in which no letter means anything to roff.
fn escaped(text: &str) -> String {
    text.split_inclusive(' ').map(word).collect()
}

fn word(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\(rs"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '"' => escaped.push_str("\\(dq"),
            '`' => escaped.push_str("\\(ga"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            '\n' => escaped.push(' '),
            c if c.is_ascii() => escaped.push(c),
            c => {
                let _ = write!(escaped, "\\[u{:04X}]", u32::from(c));
            }
        }
        if text.len() > LONG && matches!(c, '_' | '.' | ',' | '/') {
            escaped.push_str("\\:");
        }
    }
    escaped
}

#[test]
fn nothing_is_a_request_of_roff() {
    assert_eq!(escaped("a-b\\fB 'x' \"…\""), "a\\-b\\(rsfB \\(aqx\\(aq \\(dq\\[u2026]\\(dq");
    assert_eq!(line(".SH"), "\\&.SH");
    assert_eq!(inline("run `x -y` now"), "run \\fBx \\-y\\fP now");
}

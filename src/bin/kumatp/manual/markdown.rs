//! Pages as the book has them.

use std::fmt::Write as _;

use super::page::{Block, Item, Page, Section};

/// All commands on one page.
pub(super) fn commands(pages: &[Page]) -> String {
    let mut text = String::from(
        "# Commands and exit status\n\nThis page has the help of every command. The man pages in `docs/man` have the same text: \
         `man -l docs/man/kumatp.1`.\n",
    );
    for page in pages {
        let _ = write!(text, "\n## {}\n\n{}.\n", page.title, page.about.trim_end_matches('.'));
        for section in page.sections.iter().filter(|section| is_shown(page, section)) {
            // Usage needs no heading.
            if section.title != "SYNOPSIS" && section.title != "DESCRIPTION" {
                let _ = write!(text, "\n### {}\n", sentence(section.title));
            }
            section.blocks.iter().for_each(|part| block(&mut text, part));
        }
    }
    text
}

/// The page of the program has all exit statuses, and links are the book's.
fn is_shown(page: &Page, section: &Section) -> bool {
    section.title != "SEE ALSO" && (section.title != "EXIT STATUS" || page.name == "kumatp")
}

fn sentence(capitals: &str) -> String {
    let lower = capitals.to_lowercase();
    let mut letters = lower.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn block(text: &mut String, block: &Block) {
    let _ = match block {
        Block::Text(paragraph) => writeln!(text, "\n{paragraph}"),
        Block::Heading(heading) => writeln!(text, "\n#### {heading}"),
        Block::Code(code) => writeln!(text, "\n```text\n{}\n```", code.trim_end()),
        Block::Items(items) => {
            text.push_str("\n| | |\n|---|---|\n");
            items.iter().for_each(|one| item(text, one));
            Ok(())
        }
    };
}

fn item(text: &mut String, item: &Item) {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let _ = writeln!(text, "| `{}` | {} |", cell(&format!("{}{}", item.term, item.value)), cell(&item.text));
}

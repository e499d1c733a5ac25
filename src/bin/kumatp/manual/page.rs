//! A page of the manual, before it is written as roff or Markdown.

/// A page.
pub(super) struct Page {
    /// Such as `kumatp-install`.
    pub(super) name: String,
    /// How it is called, such as `kumatp install`.
    pub(super) title: String,
    /// The section of the manual: 1 commands, 5 files, 8 what administrators run.
    pub(super) section: u8,
    /// What it is, in one line.
    pub(super) about: String,
    pub(super) sections: Vec<Section>,
}

/// A part of a page with a heading in capitals.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) blocks: Vec<Block>,
}

/// What stands in a section. In texts, words between backquotes are to be typed as they are.
pub(super) enum Block {
    Text(String),
    /// A heading below that of the section.
    Heading(String),
    /// Terms, and what each means.
    Items(Vec<Item>),
    /// Lines to be typed, or of a file.
    Code(String),
}

pub(super) struct Item {
    /// To be typed as it is.
    pub(super) term: String,
    /// What stands for a value behind it.
    pub(super) value: String,
    pub(super) text: String,
}

impl Page {
    /// The name of its file.
    pub(super) fn file(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }

    /// All that a reader has to see, without marks.
    pub(super) fn words(&self) -> Vec<String> {
        let plain = |text: &str| text.replace('`', "");
        let mut words = vec![self.name.clone(), plain(&self.about)];
        for block in self.sections.iter().flat_map(|section| &section.blocks) {
            match block {
                Block::Text(text) | Block::Heading(text) => words.push(plain(text)),
                Block::Code(text) => words.extend(text.lines().map(str::to_owned)),
                Block::Items(items) => words
                    .extend(items.iter().flat_map(|item| [format!("{}{}", item.term, item.value), plain(&item.text)])),
            }
        }
        words
    }
}

impl Section {
    pub(super) fn new(title: &'static str, blocks: Vec<Block>) -> Self {
        Self { title, blocks }
    }

    pub(super) fn text(title: &'static str, text: impl Into<String>) -> Self {
        Self::new(title, vec![Block::Text(text.into())])
    }
}

/// Items of terms without values.
pub(super) fn items(rows: &[(&str, &str)]) -> Block {
    let item = |(term, text): &(&str, &str)| Item { term: (*term).into(), value: String::new(), text: (*text).into() };
    Block::Items(rows.iter().map(item).collect())
}

//! Answers, how they are written down, and what is different between two of them.

use std::collections::BTreeMap;
use std::fmt;

/// An answer to a question, as it is written down.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    /// The question, on one line.
    pub(crate) question: String,
    /// What was answered; each line ends with a newline.
    pub(crate) text: String,
}

/// Whether long answers are written in full.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Length {
    /// By a digest, as they are recorded.
    Short,
    /// In full, to be compared with those of another command.
    Whole,
}

/// What stands before each question.
const MARK: &str = "=====> ";

pub(crate) fn text(answers: &[Answer]) -> String {
    answers.iter().map(|answer| format!("{MARK}{}\n{}", answer.question, answer.text)).collect()
}

pub(crate) fn parse(text: &str) -> Vec<Answer> {
    let mut answers: Vec<Answer> = Vec::new();
    for line in text.split_inclusive('\n') {
        match (line.strip_prefix(MARK), answers.last_mut()) {
            (Some(question), _) => {
                answers.push(Answer { question: question.trim_end().to_owned(), text: String::new() });
            }
            (None, Some(answer)) => answer.text.push_str(line),
            (None, None) => panic!("no question before {line:?}"),
        }
    }
    answers
}

/// A digest of texts: FNV-1a of 64 bits.
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn add(&mut self, text: &str) {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How many lines a text has, and its digest.
pub(crate) fn digest(text: &str) -> String {
    let mut digest = Digest::new();
    digest.add(text);
    format!("{} lines {digest}", text.lines().count())
}

/// The answers that differ, with the lines that do.
pub(crate) fn difference(recorded: &[Answer], now: &[Answer]) -> Option<String> {
    let by_question = |answers: &[Answer]| -> BTreeMap<String, String> {
        let pairs = answers.iter().map(|answer| (answer.question.clone(), answer.text.clone()));
        pairs.collect()
    };
    let (before, after) = (by_question(recorded), by_question(now));
    assert!(before.len() == recorded.len() && after.len() == now.len(), "a question is asked twice");
    let mut differences = String::new();
    for answer in now {
        match before.get(&answer.question) {
            None => differences.push_str(&format!("  {}\n    has no recorded answer\n", answer.question)),
            Some(before) if *before != answer.text => {
                differences.push_str(&format!("  {}\n{}", answer.question, lines(before, &answer.text)));
            }
            Some(_) => {}
        }
    }
    for gone in recorded.iter().filter(|answer| !after.contains_key(&answer.question)) {
        differences.push_str(&format!("  {}\n    is no longer asked\n", gone.question));
    }
    (!differences.is_empty()).then_some(differences)
}

/// How many lines are shown of one difference.
const SHOWN: usize = 40;

/// The lines that only one of two texts has, each with its number in the text.
fn lines(before: &str, after: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    // How long the longest common rest of both is, behind each pair of lines.
    let width = after.len() + 1;
    let mut common = vec![0_u32; (before.len() + 1) * width];
    for (i, old) in before.iter().enumerate().rev() {
        for (j, new) in after.iter().enumerate().rev() {
            common[i * width + j] = match old == new {
                true => common[(i + 1) * width + j + 1] + 1,
                false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut changed = Vec::new();
    while i < before.len() || j < after.len() {
        if i < before.len() && j < after.len() && before[i] == after[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == after.len() || i < before.len() && common[(i + 1) * width + j] >= common[i * width + j + 1] {
            changed.push(format!("    {:>4} - {}\n", i + 1, before[i]));
            i += 1;
        } else {
            changed.push(format!("    {:>4} + {}\n", j + 1, after[j]));
            j += 1;
        }
    }
    let more = changed.len().saturating_sub(SHOWN);
    changed.truncate(SHOWN);
    if more > 0 {
        changed.push(format!("         … {more} more lines\n"));
    }
    changed.concat()
}

#[test]
fn differences_are_shown() {
    let answer = |question: &str, text: &str| Answer { question: question.into(), text: text.into() };
    let recorded = vec![answer("a", "1\n2\n3\n"), answer("b", "1\n\n"), answer("gone", "")];
    assert_eq!(parse(&text(&recorded)), recorded);
    assert_eq!(difference(&recorded, &recorded), None);
    let now = vec![answer("a", "1\nx\n3\n"), answer("b", "1\n\n"), answer("new", "")];
    let difference = difference(&recorded, &now).unwrap();
    for part in ["  a\n       2 - 2\n       2 + x\n", "  new\n    has no recorded", "  gone\n    is no longer"] {
        assert!(difference.contains(part), "{difference}");
    }
    assert!(!difference.contains("  b\n"), "{difference}");
    assert_ne!(digest("a\n"), digest("b\n"));
}

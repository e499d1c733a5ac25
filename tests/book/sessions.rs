//! Sessions: blocks of commands behind `$`, and what they print.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use crate::isolated::run;
use crate::{blocks, root};

/// A command, and what is shown behind it.
struct Step {
    command: String,
    shown: String,
}

fn steps(block: &str) -> Vec<Step> {
    let commands = block.strip_prefix("$ ").unwrap_or_else(|| panic!("no command: {block}")).split("\n$ ");
    let step = |text: &str| {
        let mut lines = text.lines();
        let mut command = lines.next().unwrap().to_owned();
        while command.ends_with('\\') {
            command.pop();
            command.push_str(lines.next().unwrap().trim_start());
        }
        let rest: Vec<&str> = lines.collect();
        Step { command, shown: rest.join("\n") }
    };
    commands.map(step).collect()
}

/// Runs the sessions of a page one after the other, in a network namespace of its own, in a directory with the files that the page
/// names by `<!-- files: PATH -->`. Says how many commands of kumatp there were.
pub(crate) fn follow(page: &Path) -> usize {
    let text = std::fs::read_to_string(page).unwrap();
    let sessions = blocks(&text, "console");
    if sessions.is_empty() {
        return 0;
    }
    let directory = directory(page, &text);
    let done = thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
                run("ip", &["link", "set", "lo", "up"], "");
                sessions.iter().map(|(_, block)| session(page, block, &directory)).collect::<Vec<_>>()
            })
            .join()
            .unwrap()
    });
    let count = done.iter().map(|(count, _)| count).sum();
    if std::env::var_os("KUMATP_BLESS").is_some() {
        let mut blessed = text.clone();
        for ((at, block), (_, printed)) in sessions.iter().zip(&done).rev() {
            blessed.replace_range(*at..*at + block.len(), printed);
        }
        std::fs::write(page, blessed).unwrap();
    }
    count
}

fn directory(page: &Path, text: &str) -> PathBuf {
    let name = page.file_stem().unwrap();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("book").join(name);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    for from in text.split("<!-- files: ").skip(1).filter_map(|rest| rest.split(" -->").next()) {
        let copied = Command::new("cp").arg("-r").arg(root().join(from).join(".")).arg(&directory).status().unwrap();
        assert!(copied.success(), "{from}");
    }
    directory
}

/// Runs one session, and says how many commands of kumatp it has, and how it reads with what is printed.
fn session(page: &Path, block: &str, directory: &Path) -> (usize, String) {
    let mut count = 0;
    let mut blessed = String::new();
    for Step { command, shown } in steps(block) {
        // A file that is shown before it is there is made by the reader.
        let file = command.strip_prefix("cat ").map(|name| directory.join(name));
        if let Some(file) = file.filter(|file| !file.exists()) {
            std::fs::write(file, format!("{shown}\n")).unwrap();
            blessed.push_str(&format!("$ {command}\n{}\n", shown.trim_end()));
            continue;
        }
        let (stdout, both) = shell(&command, directory);
        let is_shown = fits(&shown, &stdout) || fits(&shown, &both);
        assert!(is_shown || std::env::var_os("KUMATP_BLESS").is_some(), "{}: {command}\n{both}", page.display());
        let kept = if is_shown { shown } else { folded(&both) };
        blessed.push_str(&format!("$ {command}\n{}", kept.trim_end()));
        if !kept.trim().is_empty() {
            blessed.push('\n');
        }
        count += usize::from(command.contains("kumatp "));
    }
    if !blessed.ends_with('\n') {
        blessed.push('\n');
    }
    (count, blessed)
}

/// What a command prints on standard output, and with standard error before it.
fn shell(command: &str, directory: &Path) -> (String, String) {
    let programs = Path::new(env!("CARGO_BIN_EXE_kumatp")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut sh = Command::new("sh");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KUMA")) {
        sh.env_remove(name);
    }
    let output = sh.args(["-c", command]).current_dir(directory).env("PATH", path).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    // Readers are root. In the user namespace of a test's ordinary user, the kernel does not tell of eBPF programs.
    let is_of_the_test =
        |line: &&str| line.starts_with("note: ebpf: no eBPF programs are pinned here; others may be active");
    let stderr: String = stderr.split_inclusive('\n').filter(|line| !is_of_the_test(line)).collect();
    let both = format!("{stderr}{stdout}");
    (stdout, both)
}

/// Whether the words are the same, where `…` stands for any. Where lines are broken does not matter.
fn fits(shown: &str, printed: &str) -> bool {
    let printed: Vec<&str> = printed.split_whitespace().collect();
    let parts: Vec<Vec<&str>> = shown.split('…').map(|part| part.split_whitespace().collect()).collect();
    let [first, middle @ .., last] = &parts[..] else { return printed == parts[0] };
    if !printed.starts_with(first) || !printed.ends_with(last) || printed.len() < first.len() + last.len() {
        return false;
    }
    let mut rest = &printed[first.len()..printed.len() - last.len()];
    middle.iter().all(|part| {
        let at = (0..=rest.len().saturating_sub(part.len())).find(|at| rest[*at..].starts_with(part));
        at.map(|at| rest = &rest[at + part.len()..]).is_some()
    })
}

/// Text with its long lines broken between words.
fn folded(text: &str) -> String {
    const WIDTH: usize = 118;
    let mut folded = String::new();
    for line in text.lines() {
        let mut length = 0;
        for word in line.split_inclusive(' ') {
            if length > 0 && length + word.trim_end().chars().count() > WIDTH {
                folded.truncate(folded.trim_end().len());
                folded.push('\n');
                length = 0;
            }
            folded.push_str(word);
            length += word.chars().count();
        }
        folded.push('\n');
    }
    folded
}

#[test]
fn an_ellipsis_stands_for_anything() {
    for (shown, printed, expected) in [
        ("a b", "a\nb", true),
        ("a …", "a b c", true),
        ("a … c", "a b d", false),
        ("a … c … e", "a b c d e", true),
        ("a … c … e", "a b d e", false),
        ("", "a", false),
    ] {
        assert_eq!(fits(shown, printed), expected, "{shown}: {printed}");
    }
    assert_eq!(folded(&"word ".repeat(30)).lines().count(), 2);
}

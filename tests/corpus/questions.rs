//! What is asked.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::HERE;
use crate::answers::{Answer, Length, digest};

const ENGINES: [&str; 3] = ["netlink", "iptables", "ebpf"];

/// How much of an answer is recorded.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    /// All of it.
    Whole,
    /// Of what goes to standard output, a digest.
    Digest,
    /// Of a JSON explanation, the verdict and a digest.
    Verdict,
}

/// One question: the command's arguments, once for each engine or once.
pub(crate) struct Question {
    title: String,
    /// The arguments of each command, each with a name for its answer.
    commands: Vec<(&'static str, Vec<String>)>,
    stdin: String,
    kept: Kept,
}

impl Question {
    fn new(title: &str, args: Vec<String>, kept: Kept) -> Self {
        Self { title: title.to_owned(), commands: vec![("", args)], stdin: String::new(), kept }
    }

    /// The arguments in one line.
    fn of_line(line: &str, stdin: &str) -> Self {
        let mut question = Self::new(&format!("kumatp {line}"), words(line), Kept::Whole);
        stdin.clone_into(&mut question.stdin);
        question
    }

    pub(crate) fn ask(&self, command: &str, length: Length) -> Answer {
        let said = |(name, args): &(&str, Vec<String>)| {
            let (status, stdout, stderr) = run(command, args, &self.stdin);
            let stderr: String = stderr.lines().map(|line| format!("! {line}\n")).collect();
            let (stderr, printed) = match (length, self.kept) {
                (Length::Short, Kept::Digest) => (stderr, format!("{}\n", digest(&stdout))),
                // The notes are the same for all packets.
                (Length::Short, Kept::Verdict) => {
                    (String::new(), format!("{name}: {}, {}\n", verdict(&stdout), digest(&(stderr + &stdout))))
                }
                _ => (stderr, stdout),
            };
            // Most answers succeed.
            let status = if status == 0 { String::new() } else { format!("exit status {status}\n") };
            let mut text = format!("{stderr}{status}{printed}");
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text
        };
        Answer { question: self.title.clone(), text: self.commands.iter().map(said).collect() }
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// The names of the files of a directory, without their extensions.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// The names of the configurations.
pub(crate) fn configurations() -> Vec<String> {
    let mut all = names(&Path::new(HERE).join("configurations"));
    all.sort();
    all
}

/// The questions about a configuration and the facts that its first line names. They look at no host.
pub(crate) fn about_configuration(name: &str) -> Vec<Question> {
    let path = format!("tests/corpus/configurations/{name}.yaml");
    let text = std::fs::read_to_string(Path::new(HERE).join(format!("configurations/{name}.yaml"))).unwrap();
    let about = ["--config".to_owned(), path, "--facts".to_owned(), facts_of(&text)];
    let question =
        |line: &str, kept| Question::new(&format!("kumatp {line}"), [words(line), about.to_vec()].concat(), kept);
    let mut questions = vec![question("config print", Kept::Whole)];
    // It takes no facts.
    questions[0].commands[0].1.truncate(4);
    for engine in ["iptables", "netlink", "ebpf"] {
        questions.push(question(&format!("install --dry-run --engine {engine}"), Kept::Whole));
    }
    questions.push(question("install --dry-run", Kept::Digest));
    questions.push(question("install --dry-run --engine iptables --verbose", Kept::Digest));
    for format in ["iptables", "nft", "json", "firewalld", "mermaid", "dot", "ebpf"] {
        questions.push(question(&format!("render --format {format}"), Kept::Digest));
    }
    for format in ["iptables", "mermaid", "dot"] {
        for family in ["ipv4", "ipv6"] {
            questions.push(question(&format!("render --format {format} --family {family}"), Kept::Digest));
        }
    }
    for packet in packets(name) {
        let explained = |engine: &'static str| {
            let args = [words(&format!("explain --json --engine {engine} {packet}")), about.to_vec()].concat();
            (engine, args)
        };
        questions.push(Question {
            title: format!("kumatp explain --json {packet}"),
            commands: ENGINES.map(explained).into(),
            stdin: String::new(),
            kept: Kept::Verdict,
        });
    }
    questions
}

/// The file with the facts that the first line of a configuration names.
pub(crate) fn facts_of(text: &str) -> String {
    let facts = text.lines().next().and_then(|line| line.strip_prefix("# facts: "));
    format!("tests/corpus/facts/{}.json", facts.expect("the first line names facts"))
}

/// The packets that are asked about; they were chosen among those from the edges of the rules.
fn packets(name: &str) -> Vec<String> {
    let path = Path::new(HERE).join("packets").join(name).with_extension("txt");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Questions that are about no configuration of these, or about two; wrong ones too.
pub(crate) fn beside_configurations() -> Vec<Question> {
    let text = std::fs::read_to_string(Path::new(HERE).join("others.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut questions = Vec::new();
    for line in lines {
        // What the command reads is behind `<<`, with \n for the end of a line.
        let (line, stdin) = line.split_once(" << ").unwrap_or((line, ""));
        let mut question = Question::of_line(line, &stdin.replace("\\n", "\n"));
        if !stdin.is_empty() {
            question.title = format!("{} << {stdin}", question.title);
        }
        questions.push(question);
    }
    assert!(questions.len() > 50, "{}", questions.len());
    questions
}

/// Runs a command where paths are those of the repository: its exit status, and what it prints.
fn run(command: &str, args: &[String], stdin: &str) -> (i32, String, String) {
    let mut command = Command::new(command);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KUMA") || name == "COLUMNS" {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let status = output.status.code().expect("it ends by itself");
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    match args.iter().any(|arg| arg == "--dry-run") {
        true => without_the_host(status, stdout, &stderr),
        false => (status, stdout, stderr),
    }
}

/// A dry run ends by asking this kernel, and after the rules it says what that thinks of them.
fn without_the_host(status: i32, stdout: String, stderr: &str) -> (i32, String, String) {
    let is_of_the_kernel = |line: &&str| line.starts_with("checked: ") || line.starts_with("not checked: ");
    let asked = stderr.lines().any(|line| is_of_the_kernel(&line));
    let refused = !stdout.is_empty() && status == 1;
    let kept = stderr.lines().filter(|line| !(is_of_the_kernel(line) || refused && line.starts_with("error: ")));
    let kept = kept.map(|line| format!("{line}\n")).collect();
    (if asked || refused { 0 } else { status }, stdout, kept)
}

/// The verdict of an explanation, and the rule that decides; with the verdict on the reply.
fn verdict(json: &str) -> String {
    let Ok(json) = serde_json::from_str::<serde_json::Value>(json) else { return "none".to_owned() };
    let end = |verdict: &serde_json::Value| {
        let end = verdict["end"].as_str().unwrap_or_default();
        verdict["port"].as_u64().map_or(end.to_owned(), |port| format!("{end}:{port}"))
    };
    let request = &json["request"];
    let rule = request["decidedBy"].as_u64().and_then(|index| request["trace"].get(usize::try_from(index).ok()?));
    let rule = rule.map_or(String::new(), |step| {
        let text = |name: &str| step[name].as_str().unwrap_or_default().to_owned();
        let number = step["number"].as_u64().map_or(String::new(), |number| format!(" {number}"));
        format!(" by {} {}{number}", text("table"), text("chain"))
    });
    let reply = &json["reply"];
    let arrival = match reply.is_null() {
        true => String::new(),
        false => {
            format!(", reply {} {}", end(&reply["outcome"]["verdict"]), reply["arrival"].as_str().unwrap_or("lost"))
        }
    };
    format!("{}{rule}{arrival}", end(&request["verdict"]))
}

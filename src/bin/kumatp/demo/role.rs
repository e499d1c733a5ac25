//! This program started once more, in a role of its own, to talk to by lines.

use std::fmt::Display;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::{Again, Result};

/// A process in a role. It is told to end by the end of its input, which is when this is dropped.
pub(crate) struct Role {
    name: String,
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Role {
    /// Starts this program with the role's arguments, behind those that lead to the demonstration.
    pub(crate) fn start(again: Again, arguments: &[&str]) -> Result<Self> {
        // Not by its path: another user may be barred from a directory on the way.
        let mut process = Command::new("/proc/self/exe")
            .args(again)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start this program once more: {error}"))?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().ok_or("the role has no output")?);
        Ok(Self { name: arguments.join(" "), process, input, output })
    }

    /// Says a line to the role and waits for the line that it answers with.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String> {
        if let Some(input) = &mut self.input {
            writeln!(input, "{line}")?;
        }
        self.hear()
    }

    /// Waits for the next line that the role says.
    pub(crate) fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err(format!("the process '{}' has ended", self.name).into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.process.wait();
    }
}

/// In a role: a line for the one who started it.
pub(crate) fn say(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// In a role: what the one who started it says, line by line, until the end.
pub(crate) fn told() -> impl Iterator<Item = String> {
    io::stdin().lines().map_while(io::Result::ok)
}

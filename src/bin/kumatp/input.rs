//! Reading what the user gives: files, standard input, the environment, stray words.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ArgMatches;
use kumatp::Error;

use crate::{Failure, files};

/// Environment variables whose names are text; the values' other bytes are replaced, so that a
/// bad value is refused with its name instead of being passed over.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
}

/// Whether standard input has been read.
static STDIN_IS_READ: AtomicBool = AtomicBool::new(false);

/// The text of a file, or of standard input for `-`.
pub(crate) fn read(path: &str) -> Result<String, Failure> {
    let wrong = |problem: &dyn std::fmt::Display| {
        Failure::Usage(format!("{problem}; give a readable text file, or - for standard input"))
    };
    let action = format!("read '{path}'");
    if path == "-" && STDIN_IS_READ.swap(true, Ordering::Relaxed) {
        return Err(Failure::Usage("'-' is given twice, and standard input can be read once: give a file".into()));
    }
    let bytes = match path {
        "-" => files::bounded(std::io::stdin().lock()),
        _ => files::read(Path::new(path)),
    }
    .map_err(|error| wrong(&Error::io(&action, &error)))?;
    String::from_utf8(bytes).map_err(|error| wrong(&format!("cannot {action}: {error}")))
}

/// The words that are no flags. `transparent-proxy`, which kumactl's commands have before all others, is left out.
pub(crate) fn words(matches: &ArgMatches) -> impl Iterator<Item = &str> {
    let mut words = matches.get_many::<String>("words").into_iter().flatten().map(String::as_str).peekable();
    words.next_if(|word| *word == "transparent-proxy");
    words
}

/// Whether the command stands in for kumactl: by the name that it was started under, or by the word that follows kumactl's
/// commands. Scripts then look for kumactl's last line.
pub(crate) fn stands_in_for_kumactl(matches: &ArgMatches) -> bool {
    let program = std::env::args_os().next();
    let by_name = program.as_deref().and_then(|path| Path::new(path).file_name()).is_some_and(|name| name == "kumactl");
    let mut words = matches.get_many::<String>("words").into_iter().flatten();
    by_name || words.any(|word| word == "transparent-proxy")
}

/// Refuses every word that is no flag but `transparent-proxy`.
pub(crate) fn no_other_words(matches: &ArgMatches) -> Result<(), Failure> {
    match words(matches).next() {
        None => Ok(()),
        Some(word) if matches!(word, "true" | "false" | "yes" | "no" | "0" | "1") => Err(Failure::Usage(format!(
            "unexpected argument '{word}': the value of a switch follows an equals sign, as in --redirect-inbound={word}"
        ))),
        Some(word) => Err(Failure::Usage(format!(
            "unexpected argument '{word}': the only positional argument is 'transparent-proxy'"
        ))),
    }
}

//! `kumatp demo`.

use std::io::{self, ErrorKind, LineWriter, Write};
use std::process::ExitCode;

use clap::ArgMatches;

use crate::demo::Errand;
use crate::{FAILURE, Failure, output};

pub(crate) fn demo(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let words: Vec<_> = matches.get_many::<String>("errand").into_iter().flatten().map(String::as_str).collect();
    let errand = Errand::of(&words)
        .ok_or_else(|| Failure::Usage(format!("unexpected argument '{}': demo takes none", words.join(" "))))?;
    let mut out = LineWriter::new(Out { failure: None });
    let done = errand.run(&["demo"], &mut out).and_then(|well| Ok(out.flush().map(|()| well)?));
    if let Some(failure) = out.get_mut().failure.take() {
        return Err(failure);
    }
    match done.map_err(|error| Failure::Other(error.to_string()))? {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(FAILURE.into()),
    }
}

/// Standard output, and why something could not be written there.
struct Out {
    failure: Option<Failure>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(failure) = output::print(&String::from_utf8_lossy(bytes)) {
            self.failure = Some(failure);
            return Err(ErrorKind::Other.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use super::{Answer, Client};

/// A connection that stays open.
pub(crate) struct Session {
    stream: BufReader<TcpStream>,
    /// Who is at the other end.
    pub(crate) answer: Answer,
}

impl Session {
    /// Connects, and hears who answers.
    pub(crate) fn open(client: Client) -> io::Result<Self> {
        let mut stream = BufReader::new(client.connect()?);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let answer = line.parse().map_err(|()| io::Error::other(format!("an answer that makes no sense: {line:?}")))?;
        Ok(Self { stream, answer })
    }

    /// Whether the other end still says back what it hears.
    ///
    /// # Errors
    /// If the connection was reset, or nothing came back in time.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        const WORDS: &[u8] = b"still there?";
        self.stream.get_mut().write_all(WORDS)?;
        let mut heard = [0; WORDS.len()];
        self.stream.read_exact(&mut heard)?;
        match heard == WORDS {
            true => Ok(()),
            false => Err(io::Error::other("other words came back")),
        }
    }
}

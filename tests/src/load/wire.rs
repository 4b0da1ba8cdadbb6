//! A request and its answer as bytes, in pieces. A connection that breaks off is an error and no panic.

use crate::{machine::connect_here, wait_max};
use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
};

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The header `version` that some plugins send.
    pub(super) version: Option<u64>,
    pub(super) body: Vec<u8>,
    /// The connection may be used again.
    pub(super) stays: bool,
    chunked: bool,
    /// The number of bytes of the body, or of its chunk, that are still to come.
    left: usize,
    over: bool,
}

pub(super) struct Wire(BufReader<TcpStream>);

impl Wire {
    pub(super) fn connect() -> io::Result<Self> {
        let stream = connect_here()?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(wait_max()))?;
        stream.set_write_timeout(Some(wait_max()))?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Reads an answer as far as its body.
    pub(super) fn head(&mut self) -> io::Result<Answer> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut answer = Answer {
            status: status.unwrap_or(0),
            version: None,
            body: Vec::new(),
            stays: true,
            chunked: false,
            left: 0,
            over: false,
        };
        loop {
            let field = self.line()?.to_ascii_lowercase();
            match field.split_once(": ") {
                None => break,
                Some(("content-length", value)) => answer.left = value.parse().unwrap_or(0),
                Some(("transfer-encoding", _)) => answer.chunked = true,
                Some(("connection", "close")) => answer.stays = false,
                Some(("version", value)) => answer.version = value.parse().ok(),
                Some(_) => (),
            }
        }
        answer.over = !answer.chunked && answer.left == 0;
        Ok(answer)
    }

    /// Reads a piece of the body, which is no longer than that, and says whether there is more of it.
    pub(super) fn piece(&mut self, answer: &mut Answer, longest: usize) -> io::Result<bool> {
        if answer.over {
            return Ok(false);
        }
        if answer.chunked && answer.left == 0 {
            let length = self.line()?;
            let length = usize::from_str_radix(&length, 16).map_err(|_| ErrorKind::InvalidData)?;
            answer.left = length;
            if length == 0 {
                self.line()?;
                answer.over = true;
                return Ok(false);
            }
        }
        let begin = answer.body.len();
        let length = answer.left.min(longest);
        answer.body.resize(begin + length, 0);
        self.0.read_exact(&mut answer.body[begin..])?;
        answer.left -= length;
        if answer.left == 0 {
            if answer.chunked {
                self.line()?;
            } else {
                answer.over = true;
            }
        }
        Ok(!answer.over)
    }

    /// A line without its end; that the other side has closed is an error.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

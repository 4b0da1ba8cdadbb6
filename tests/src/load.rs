//! Clients that ask without end and never twice: what goes wrong for one of them would go wrong for anybody.

use crate::{Machine, PATIENCE, machine::connect_here};
use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, Scope, ScopedJoinHandle},
};

/// What one of the clients does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// What it asks for.
    pub path: &'static str,
    /// The body of a POST request, or none for GET.
    pub body: Option<&'static str>,
    /// It keeps its connection until it is told that this one is to be closed.
    pub keeps: bool,
    /// What is right as an answer.
    pub right: &'static str,
}

/// What came of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// So many were answered rightly.
    pub answered: usize,
    /// So many could not connect.
    pub refused: usize,
    /// So many connections broke off before there was a whole answer.
    pub reset: usize,
    /// So many got no answer in time.
    pub late: usize,
    /// Answers that are not right.
    pub wrong: Vec<String>,
    /// What was said of the failures.
    pub told: Vec<String>,
}

/// Clients at work.
pub struct Load<'scope> {
    enough: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<ScopedJoinHandle<'scope, Tally>>,
}

impl<'scope> Load<'scope> {
    /// Sets clients to work, each in a thread of its own, until [`Load::end`].
    pub fn begin<'env>(
        scope: &'scope Scope<'scope, 'env>,
        machine: &'env Machine,
        clients: &[Client],
    ) -> Self {
        let (enough, answered) = (Arc::default(), Arc::default());
        let clients = clients.iter().map(|client| {
            let (client, enough, answered) = (*client, Arc::clone(&enough), Arc::clone(&answered));
            scope.spawn(move || {
                machine.enter();
                client.work(&enough, &answered)
            })
        });
        Self { clients: clients.collect(), enough, answered }
    }

    /// Waits until so many more requests have been answered.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn wait_for(&self, more: usize) {
        let before = self.answered.load(Relaxed);
        crate::eventually("more answers", || {
            (self.answered.load(Relaxed) >= before + more).then_some(())
        });
    }

    /// Lets each client finish the request that it has in hand, and adds up what came of all.
    ///
    /// # Panics
    /// When a client does.
    #[must_use]
    pub fn end(mut self) -> Tally {
        self.enough.store(true, Relaxed);
        let tallies = self.clients.drain(..).map(|client| client.join().expect("clients count"));
        tallies.fold(Tally::default(), Tally::and)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        // The scope waits for its threads, also when a test panics in it.
        self.enough.store(true, Relaxed);
    }
}

impl Tally {
    /// What did not go well, and nothing if all did.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let counts = [("refused", self.refused), ("reset", self.reset), ("late", self.late)];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        let counts = counts.map(|(what, count)| format!("{count} {what}"));
        counts.chain(self.told.iter().cloned()).chain(self.wrong.iter().cloned()).collect()
    }

    fn and(mut self, mut other: Self) -> Self {
        self.answered += other.answered;
        self.refused += other.refused;
        self.reset += other.reset;
        self.late += other.late;
        self.wrong.append(&mut other.wrong);
        self.told.append(&mut other.told);
        self
    }
}

impl Client {
    fn work(self, enough: &AtomicBool, answered: &AtomicUsize) -> Tally {
        let mut tally = Tally::default();
        let mut kept = None;
        while !enough.load(Relaxed) {
            let connection = kept.take().map_or_else(connect, Ok);
            let mut connection = match connection {
                Ok(connection) => connection,
                Err(error) => {
                    tally.refused += 1;
                    tally.told.push(format!("{self:?}: {error}"));
                    continue;
                }
            };
            match self.ask(&mut connection) {
                Ok((status, body, stays)) => {
                    if status == 200 && body == self.right {
                        tally.answered += 1;
                        answered.fetch_add(1, Relaxed);
                    } else {
                        tally.wrong.push(format!("{self:?}: {status} {body:?}"));
                        // What is wrong now is wrong a moment later, too, and need not be told so often.
                        thread::yield_now();
                    }
                    kept = (self.keeps && stays).then_some(connection);
                }
                Err(error) => {
                    match error.kind() {
                        ErrorKind::WouldBlock => tally.late += 1,
                        _ => tally.reset += 1,
                    }
                    tally.told.push(format!("{self:?}: {error}"));
                }
            }
        }
        tally
    }

    /// Asks once: the status, the body, and whether the connection may be used again.
    fn ask(self, connection: &mut BufReader<TcpStream>) -> io::Result<(u16, String, bool)> {
        let method = if self.body.is_some() { "POST" } else { "GET" };
        let body = self.body.unwrap_or_default();
        let close = if self.keeps { "" } else { "Connection: close\r\n" };
        let request = format!(
            "{method} {} HTTP/1.1\r\nHost: localhost\r\n{close}Content-Length: {}\r\n\r\n",
            self.path,
            body.len()
        );
        // As many clients do, apart: the answer may come before the body has gone.
        connection.get_mut().write_all(request.as_bytes())?;
        connection.get_mut().write_all(body.as_bytes())?;
        let status = line(connection)?;
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let (mut length, mut chunked, mut stays) = (0, false, true);
        loop {
            let field = line(connection)?.to_ascii_lowercase();
            match field.split_once(": ") {
                None => break,
                Some(("content-length", value)) => length = value.parse().unwrap_or(0),
                Some(("transfer-encoding", _)) => chunked = true,
                Some(("connection", "close")) => stays = false,
                Some(_) => (),
            }
        }
        let mut body = Vec::new();
        loop {
            if chunked {
                length = usize::from_str_radix(&line(connection)?, 16).unwrap_or(0);
            }
            let begin = body.len();
            body.resize(begin + length, 0);
            connection.read_exact(&mut body[begin..])?;
            if !chunked {
                break;
            }
            line(connection)?;
            if length == 0 {
                break;
            }
        }
        Ok((status.unwrap_or(0), String::from_utf8_lossy(&body).into_owned(), stays))
    }
}

fn connect() -> io::Result<BufReader<TcpStream>> {
    let stream = connect_here()?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

/// A line without its end; that the other side has closed is an error.
fn line(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}

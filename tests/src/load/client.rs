//! One client, and the ways in which it asks.

use super::{
    right::{Checker, Right},
    tally::Tally,
    turns::Turns,
    wire::{Answer, Wire},
};
use std::{
    fmt, io,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::Instant,
};

/// The requests that one of the clients makes again and again.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    /// The path that it requests.
    pub path: &'static str,
    /// The way in which it asks.
    pub way: Way,
    /// It keeps its connection until the server announces that it closes this one.
    pub keeps: bool,
    /// The correct answers.
    pub right: Right<'a>,
}

/// The way in which a client asks and reads the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// GET.
    Get,
    /// POST of this body.
    Post(&'static str),
    /// POST of this body, of which the second half is sent after the next [`Load::turn`](super::Load::turn).
    PostHalves(&'static str),
    /// GET of a response that is read in pieces of this many bytes, as it comes.
    GetPieces(usize),
    /// GET of a response that is read up to this many bytes, and the rest after the next turn.
    GetHeld(usize),
}

impl fmt::Display for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            Way::Get => "GET",
            Way::Post(_) => "POST",
            Way::PostHalves(_) => "POST in halves",
            Way::GetPieces(_) => "GET in pieces",
            Way::GetHeld(_) => "GET held up",
        };
        let connection = if self.keeps { "kept" } else { "new" };
        write!(f, "{way} {}, {connection}", self.path)
    }
}

impl Client<'_> {
    pub(super) fn work(self, turns: &Turns, answered: &AtomicUsize) -> Tally {
        let mut tally = Tally::default();
        let mut checker = Checker::default();
        let mut kept = None;
        while !turns.is_enough() {
            let begun = Instant::now();
            let mut wire = match kept.take().map_or_else(Wire::connect, Ok) {
                Ok(wire) => wire,
                Err(error) => {
                    tally.refused += 1;
                    tally.reported.push(format!("{self}: {error}"));
                    continue;
                }
            };
            self.right.ask(&mut checker);
            let answer = match self.ask(&mut wire, turns) {
                Ok(answer) => answer,
                Err(error) => {
                    tally.broke_off(&self, &error);
                    continue;
                }
            };
            if answer.status != 200 {
                tally.failed += 1;
                let body = String::from_utf8_lossy(&answer.body);
                tally.reported.push(format!("{self}: {} {body:.100?}", answer.status));
                // An error repeats immediately, and need not be reported as often.
                thread::yield_now();
            } else if let Err(why) = self.right.check(&mut checker, &answer) {
                tally.wrong.push(format!("{self}: {why:.200}"));
                thread::yield_now();
            } else {
                tally.answered += 1;
                answered.fetch_add(1, Relaxed);
            }
            tally.longest = tally.longest.max(begun.elapsed());
            tally.closed += usize::from(self.keeps && !answer.stays);
            kept = (self.keeps && answer.stays).then_some(wire);
        }
        tally
    }

    /// Asks once.
    fn ask(self, wire: &mut Wire, turns: &Turns) -> io::Result<Answer> {
        let (method, body) = match self.way {
            Way::Get | Way::GetPieces(_) | Way::GetHeld(_) => ("GET", ""),
            Way::Post(body) | Way::PostHalves(body) => ("POST", body),
        };
        let close = if self.keeps { "" } else { "Connection: close\r\n" };
        let request = format!(
            "{method} {} HTTP/1.1\r\nHost: localhost\r\n{close}Content-Length: {}\r\n\r\n",
            self.path,
            body.len()
        );
        let now = turns.now();
        // Head and body are written separately, as many clients do: the answer may come before the body was sent.
        wire.write(request.as_bytes())?;
        let (first, second) = match self.way {
            Way::PostHalves(_) => body.as_bytes().split_at(body.len() / 2),
            _ => (body.as_bytes(), &[][..]),
        };
        wire.write(first)?;
        if !second.is_empty() {
            turns.wait_for_more_than(now);
            wire.write(second)?;
        }
        let mut answer = wire.head()?;
        let longest = match self.way {
            Way::GetPieces(longest) => longest,
            _ => usize::MAX,
        };
        if let Way::GetHeld(until) = self.way {
            while answer.body.len() < until && wire.piece(&mut answer, until)? {}
            turns.wait_for_more_than(now);
        }
        while wire.piece(&mut answer, longest)? {}
        Ok(answer)
    }
}

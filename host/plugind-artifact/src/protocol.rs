//! The protocol to get a compiled file: one message each way over a `SOCK_SEQPACKET` socket.
//!
//! The request brings the component's digest and a descriptor to read it from. The answer brings a read-only descriptor
//! of the sealed compiled file, or a sentence that says why there is none and whether the component is at fault, or
//! says that the cache has none and none was to be compiled. A file that cannot be kept in the cache has no name, and
//! comes with a sentence that says why it is not kept. Further requests follow, each
//! after the answer to the one before, until the asking side closes. A message that does not fit this form is an error,
//! never a panic: neither side trusts the other's text.

use crate::{
    hex::{hex, parse_digest},
    kind::EngineKind,
};
use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

/// The longest message; a longer text is cut.
const MESSAGE_MAX: usize = 4096;
/// Begins every message, so that two ends of different versions find out.
const VERSION: &str = "plugind-compile/2";

/// The use of the cache for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Use it; compile nothing. A compiler of an earlier build does not know this one, and ends.
    Find,
    /// Use it; without it, compile.
    Compile,
    /// It is of no use: compile, and replace it.
    Recompile,
}

impl Effort {
    const ALL: [(Self, &str); 3] =
        [(Self::Find, "find"), (Self::Compile, "compile"), (Self::Recompile, "recompile")];
}

/// The factor by which elapsed time may exceed the processor time that a compilation may use: a busy machine compiles
/// slowly, and a compiler that does nothing must still end.
const WALL_CLOCK_FACTOR: u32 = 5;

/// The order to compile something, and its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileRequest {
    /// The SHA-256 digest of the component: what is read must have it.
    pub component: [u8; 32],
    /// The way in which the code will be run.
    pub kind: EngineKind,
    /// Whether the cache is used, and whether anything is compiled.
    pub effort: Effort,
    /// The processor time that it may use, to the millisecond.
    pub cpu_max: Duration,
    /// The address space that it may use, in bytes.
    pub memory_max: u64,
}

impl CompileRequest {
    /// The wall-clock time that it may take.
    #[must_use]
    pub fn wall_clock_max(&self) -> Duration {
        match self.effort {
            Effort::Find => self.cpu_max,
            Effort::Compile | Effort::Recompile => self.cpu_max.saturating_mul(WALL_CLOCK_FACTOR),
        }
    }
}

/// A request from the daemon.
#[derive(Debug)]
pub struct Request {
    /// The action to take.
    pub order: CompileRequest,
    /// The component, to be read from its beginning.
    pub descriptor: OwnedFd,
}

/// The answer of a compiler.
#[derive(Debug)]
pub enum CompileReply {
    /// The sealed compiled file in the cache, open for reading.
    Compiled(OwnedFd),
    /// The sealed compiled file without a name, and why it is not in the cache, as a sentence for a person.
    Unkept(OwnedFd, String),
    /// The cache has none, and none was to be compiled.
    Absent,
    /// There can be none for this component: why, as a sentence for a person.
    Refused(String),
    /// There is none, and the component is not at fault: why, as a sentence for a person.
    Failed(String),
}

/// A failure of the exchange between the two.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The message could not be sent.
    #[error("cannot send the message")]
    Send(#[source] Errno),
    /// No message could be received.
    #[error("cannot receive a message")]
    Receive(#[source] Errno),
    /// The other side disconnected without an answer.
    #[error("the connection was closed without an answer")]
    Ended,
    /// The message is not of this protocol.
    #[error("the other side sent a malformed message: {0:?}")]
    Malformed(String),
}

/// Asks for what `order` says, to be read from `descriptor`.
///
/// # Errors
/// When the message cannot be sent.
pub fn ask(
    socket: impl AsFd,
    order: &CompileRequest,
    descriptor: BorrowedFd<'_>,
) -> Result<(), ProtocolError> {
    let CompileRequest { component, kind, effort, cpu_max, memory_max } = order;
    let verb = Effort::ALL.iter().find(|(known, _)| known == effort).map_or("", |(_, verb)| verb);
    let (digest, milliseconds) = (hex(component), cpu_max.as_millis());
    let text = format!("{VERSION} {verb} {digest} {kind} {milliseconds} {memory_max}");
    send(socket, &text, Some(descriptor))
}

/// Receives one request.
///
/// # Errors
/// When the other side is gone or the message is not a request.
pub fn receive_request(socket: impl AsFd) -> Result<Request, ProtocolError> {
    let (text, descriptor) = receive(socket)?;
    match (parse_order(&text), descriptor) {
        (Some(order), Some(descriptor)) => Ok(Request { order, descriptor }),
        _ => Err(ProtocolError::Malformed(text)),
    }
}

/// Answers a request.
///
/// # Errors
/// When the message cannot be sent.
pub fn answer(socket: impl AsFd, answer: &CompileReply) -> Result<(), ProtocolError> {
    match answer {
        CompileReply::Compiled(file) => {
            send(socket, &format!("{VERSION} compiled"), Some(file.as_fd()))
        }
        CompileReply::Unkept(file, why) => {
            send(socket, &format!("{VERSION} unkept {why}"), Some(file.as_fd()))
        }
        CompileReply::Absent => send(socket, &format!("{VERSION} absent"), None),
        CompileReply::Refused(why) => send(socket, &format!("{VERSION} refused {why}"), None),
        CompileReply::Failed(why) => send(socket, &format!("{VERSION} failed {why}"), None),
    }
}

/// Receives the answer to a request.
///
/// # Errors
/// When the other side is gone or the message is not an answer.
pub fn receive_answer(socket: impl AsFd) -> Result<CompileReply, ProtocolError> {
    let (text, descriptor) = receive(socket)?;
    let rest = text.strip_prefix(VERSION).and_then(|rest| rest.strip_prefix(' '));
    let (verb, why) = rest.map_or(("", ""), |rest| rest.split_once(' ').unwrap_or((rest, "")));
    match (verb, why, descriptor) {
        ("compiled", "", Some(file)) => Ok(CompileReply::Compiled(file)),
        ("unkept", why, Some(file)) if !why.is_empty() => {
            Ok(CompileReply::Unkept(file, why.to_owned()))
        }
        ("absent", "", None) => Ok(CompileReply::Absent),
        ("refused", why, None) if !why.is_empty() => Ok(CompileReply::Refused(why.to_owned())),
        ("failed", why, None) if !why.is_empty() => Ok(CompileReply::Failed(why.to_owned())),
        _ => Err(ProtocolError::Malformed(text)),
    }
}

fn send(
    socket: impl AsFd,
    text: &str,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(), ProtocolError> {
    let text = &text[..text.floor_char_boundary(MESSAGE_MAX)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if let Some(descriptor) = &descriptor {
        let fits =
            ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)));
        debug_assert!(fits, "there is space for one descriptor");
    }
    // NOSIGNAL: a compiler that has ended must cause an error, and not a SIGPIPE that ends this process.
    sendmsg(socket, &[IoSlice::new(text.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)
        .map_err(ProtocolError::Send)?;
    Ok(())
}

fn receive(socket: impl AsFd) -> Result<(String, Option<OwnedFd>), ProtocolError> {
    let mut bytes = [0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Err(Errno::INTR) => (),
            // It went away without having read everything.
            Err(Errno::CONNRESET) => return Err(ProtocolError::Ended),
            Err(errno) => return Err(ProtocolError::Receive(errno)),
            Ok(received) => break received,
        }
    };
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    if received.bytes == 0 && descriptor.is_none() {
        return Err(ProtocolError::Ended);
    }
    Ok((String::from_utf8_lossy(&bytes[..received.bytes]).into_owned(), descriptor))
}

fn parse_order(text: &str) -> Option<CompileRequest> {
    let mut words = text.strip_prefix(VERSION)?.strip_prefix(' ')?.split(' ');
    let mut next = || words.next();
    let verb = next()?;
    let (effort, _) = Effort::ALL.into_iter().find(|(_, known)| *known == verb)?;
    let component = parse_digest(next()?)?;
    let kind = next()?.parse().ok()?;
    let cpu_max = Duration::from_millis(next()?.parse().ok()?);
    let memory_max = next()?.parse().ok()?;
    next().is_none().then_some(CompileRequest { component, kind, effort, cpu_max, memory_max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn some_file() -> OwnedFd {
        tempfile::tempfile().unwrap().into()
    }

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let (daemon, compiler) = pair();
        let component = std::array::from_fn(|place| u8::try_from(place * 7).unwrap());
        let cpu_max = Duration::from_millis(1500);
        let first = CompileRequest {
            component,
            kind: EngineKind::Native,
            effort: Effort::Compile,
            cpu_max,
            memory_max: 1 << 33,
        };
        let again = CompileRequest { kind: EngineKind::Pulley, effort: Effort::Recompile, ..first };
        for order in [first, again, CompileRequest { effort: Effort::Find, ..first }] {
            ask(&daemon, &order, some_file().as_fd()).unwrap();
            assert_eq!(receive_request(&compiler).unwrap().order, order);
        }
    }

    #[test]
    fn a_malformed_request_is_an_error() {
        let digest = "ab".repeat(32);
        let good = format!("{VERSION} compile {digest} native 1 2");
        assert!(parse_order(&good).is_some());
        for text in [
            String::new(),
            good.replace("/2", "/1"),
            good.replace(" compile ", " remove "),
            good.replace("native", "wasm"),
            good.replace("ab ", "a "),
            good.replace("ab ", "aß "),
            good.replace("native 1 2", "native -1 2"),
            good.replace("native 1 2", "native 1"),
            format!("{good} 3"),
            format!("{good}\n"),
            good.replace(' ', "  "),
        ] {
            assert_eq!(parse_order(&text), None, "{text:?}");
        }
    }

    #[test]
    fn each_kind_of_answer_arrives() {
        let (daemon, compiler) = pair();
        answer(&compiler, &CompileReply::Compiled(some_file())).unwrap();
        answer(&compiler, &CompileReply::Unkept(some_file(), "disk full".to_owned())).unwrap();
        answer(&compiler, &CompileReply::Refused("too large".to_owned())).unwrap();
        answer(&compiler, &CompileReply::Failed("no room".to_owned())).unwrap();
        answer(&compiler, &CompileReply::Absent).unwrap();
        assert!(matches!(receive_answer(&daemon), Ok(CompileReply::Compiled(_))));
        assert!(
            matches!(receive_answer(&daemon), Ok(CompileReply::Unkept(_, why)) if why == "disk full")
        );
        assert!(
            matches!(receive_answer(&daemon), Ok(CompileReply::Refused(why)) if why == "too large")
        );
        assert!(
            matches!(receive_answer(&daemon), Ok(CompileReply::Failed(why)) if why == "no room")
        );
        assert!(matches!(receive_answer(&daemon), Ok(CompileReply::Absent)));
        drop(compiler);
        assert!(matches!(receive_answer(&daemon), Err(ProtocolError::Ended)));
    }

    #[test]
    fn a_malformed_answer_is_an_error() {
        for (text, with_file) in [
            ("", true),
            ("hello", false),
            ("plugind-compile/1 compiled", true),
            ("plugind-compile/2 compiled", false),
            ("plugind-compile/2 compiled well", true),
            ("plugind-compile/2 unkept disk full", false),
            ("plugind-compile/2 unkept", true),
            ("plugind-compile/2 unknown", true),
            ("plugind-compile/2 unknown reply", false),
            ("plugind-compile/2 refused no", true),
            ("plugind-compile/2 refused", false),
            ("plugind-compile/2compiled", true),
            ("plugind-compile/2 compile 00", true),
        ] {
            let (daemon, compiler) = pair();
            let file = with_file.then(some_file);
            send(&compiler, text, file.as_ref().map(AsFd::as_fd)).unwrap();
            assert!(
                matches!(receive_answer(&daemon), Err(ProtocolError::Malformed(_))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_long_explanation_is_cut_and_still_arrives() {
        let (daemon, compiler) = pair();
        answer(&compiler, &CompileReply::Refused("ö".repeat(10_000))).unwrap();
        assert!(
            matches!(receive_answer(&daemon), Ok(CompileReply::Refused(why)) if why.len() > 4000)
        );
    }
}

//! The socket on which systemd takes files.

use crate::systemd::notify;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::{
    ffi::OsString,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{fd::BorrowedFd, unix::net::UnixDatagram},
};

/// The connection to systemd, which may be slow. The function of sd-notify reads the environment for each message,
/// and finds no socket with an abstract name.
pub(super) struct StoreSocket {
    path: OsString,
    socket: Option<UnixDatagram>,
}

impl StoreSocket {
    /// One that is connected when the first message is sent.
    pub(super) fn new(path: OsString) -> Self {
        Self { path, socket: None }
    }

    /// Sends a message, with a file or without.
    pub(super) fn send(&mut self, message: &str, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        if let Some(socket) = &self.socket
            && send(socket, message, file).is_ok()
        {
            return Ok(());
        }
        // It is the first time, or systemd itself has been replaced.
        let socket = self.socket.insert(notify::connect(&self.path)?);
        send(socket, message, file)
    }
}

fn send(socket: &UnixDatagram, message: &str, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = file.as_slice();
    if !files.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(files));
    }
    sendmsg(socket, &[IoSlice::new(message.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

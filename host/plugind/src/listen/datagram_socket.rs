//! A socket that receives datagrams, each with its sender.

use crate::{
    base::name::SocketName,
    systemd::sockets::Socket,
    world::client_address::{ClientAddress, Process},
};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendFlags, SocketAddrAny, recvfrom, recvmsg, sendto,
};
use std::{
    io::{self, IoSliceMut},
    mem::{self, MaybeUninit},
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};
use tokio::{
    io::Interest,
    net::{UdpSocket, UnixDatagram},
};

/// The kernel's number for a user or a group that has none here.
const NOBODY: u32 = 65534;
/// The length of the credentials of a process, and of the header before them.
const CONTROL_MAX: usize = 32;

/// A socket that receives datagrams.
pub struct DatagramSocket {
    name: SocketName,
    inner: Inner,
}

/// The socket, by its kind.
enum Inner {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

/// A datagram whose bytes are in a buffer.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The number of bytes that fitted into the buffer.
    pub(super) read: usize,
    /// The length of the datagram.
    pub(super) length: usize,
    /// The address that an answer goes to.
    pub(super) sender: Option<SocketAddrAny>,
    /// The process that sent it to a unix socket.
    process: Option<Process>,
}

impl Incoming {
    /// The sender, as a guest sees it.
    pub(super) fn client(&self) -> ClientAddress {
        let ip = self.sender.as_ref().and_then(|sender| SocketAddr::try_from(sender.clone()).ok());
        ip.map_or(ClientAddress::Unix(self.process), ClientAddress::Ip)
    }
}

impl DatagramSocket {
    /// Receives from a socket, which stays open when this is dropped. None for sockets of connections. To be called
    /// within the runtime.
    ///
    /// # Errors
    /// When the socket cannot be used for that.
    pub fn of(socket: &Socket, name: SocketName) -> io::Result<Option<Self>> {
        let inner = match socket {
            Socket::Udp(socket) => {
                let socket = socket.try_clone()?;
                socket.set_nonblocking(true)?;
                Inner::Udp(UdpSocket::from_std(socket)?)
            }
            Socket::UnixDatagram(socket) => {
                let socket = socket.try_clone()?;
                socket.set_nonblocking(true)?;
                Inner::Unix(UnixDatagram::from_std(socket)?)
            }
            Socket::Tcp(_) | Socket::UnixStream(_) => return Ok(None),
        };
        Ok(Some(Self { name, inner }))
    }

    /// Its name.
    pub(super) fn name(&self) -> &SocketName {
        &self.name
    }

    /// Waits until there is a datagram.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match &self.inner {
            Inner::Udp(socket) => socket.readable().await,
            Inner::Unix(socket) => socket.readable().await,
        }
    }

    /// Receives a datagram that is there.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Incoming> {
        match &self.inner {
            Inner::Udp(socket) => socket.try_io(Interest::READABLE, || {
                let (read, length, sender) = recvfrom(socket, buffer, RecvFlags::TRUNC)?;
                Ok(Incoming { read, length, sender, process: None })
            }),
            Inner::Unix(socket) => {
                socket.try_io(Interest::READABLE, || receive_with_process(socket.as_fd(), buffer))
            }
        }
    }

    /// Sends an answer. False if the receiver has no room for it, or is gone.
    pub(super) fn send(&self, bytes: &[u8], to: &SocketAddrAny) -> bool {
        let fd = match &self.inner {
            Inner::Udp(socket) => socket.as_fd(),
            Inner::Unix(socket) => socket.as_fd(),
        };
        sendto(fd, bytes, SendFlags::NOSIGNAL, to).is_ok()
    }
}

/// Receives a datagram from a unix socket, with the process that sent it.
fn receive_with_process(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Incoming> {
    let (mut control, max) = (Control::EMPTY, buffer.len());
    let mut ancillary = RecvAncillaryBuffer::new(&mut control.0);
    let flags = RecvFlags::TRUNC | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags);
    // Dropping it would read the ID of the process as a number that cannot be 0, but the ID may be 0.
    mem::forget(ancillary);
    let received = received?;
    let process = control.process();
    Ok(Incoming {
        read: received.bytes.min(max),
        length: received.bytes,
        sender: received.address,
        process,
    })
}

/// What the kernel adds to a datagram: one message with a header, aligned as the kernel wants it.
#[repr(align(8))]
struct Control([MaybeUninit<u8>; CONTROL_MAX]);

impl Control {
    const EMPTY: Self = Self([MaybeUninit::new(0); CONTROL_MAX]);

    /// The process in the message, if the kernel knows it.
    fn process(self) -> Option<Process> {
        // SAFETY: all bytes were 0 at first, and the kernel writes none that are not initialized.
        #[expect(unsafe_code, reason = "the crate offers no other way to read what it received")]
        let bytes = self.0.map(|byte| unsafe { byte.assume_init() });
        let (length, rest) = bytes.split_at(size_of::<usize>());
        let length = usize::from_ne_bytes(length.try_into().ok()?);
        let (words, _) = rest.as_chunks::<4>();
        let &[level, kind, first, second, third, ..] = words else { return None };
        if i32::from_ne_bytes(level) != libc::SOL_SOCKET {
            return None;
        }
        match i32::from_ne_bytes(kind) {
            libc::SCM_CREDENTIALS => process([first, second, third].map(u32::from_ne_bytes)),
            // Without the option that asks for credentials, there is room for descriptors that came with the datagram.
            libc::SCM_RIGHTS => {
                let count = length.saturating_sub(size_of::<libc::cmsghdr>()) / size_of::<RawFd>();
                words.iter().skip(2).take(count).for_each(|number| {
                    // SAFETY: the kernel has opened this descriptor for this process, and nobody else knows it.
                    #[expect(unsafe_code, reason = "the descriptor is known by its number only")]
                    drop(unsafe { OwnedFd::from_raw_fd(RawFd::from_ne_bytes(*number)) });
                });
                None
            }
            _ => None,
        }
    }
}

/// The process of these credentials. None for a datagram that was sent before the kernel was asked to note its sender.
fn process([pid, uid, gid]: [u32; 3]) -> Option<Process> {
    let is_known = [pid, uid, gid] != [0, NOBODY, NOBODY];
    is_known.then_some(Process { pid, uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::{
        cmsg_space,
        io::Errno,
        net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg, sockopt::set_socket_passcred},
        process::{getegid, geteuid},
    };
    use std::{
        io::{IoSlice, PipeReader, Read as _},
        os::unix::net,
    };

    fn receive(socket: &net::UnixDatagram) -> Incoming {
        let mut buffer = [0; 4];
        let incoming = receive_with_process(socket.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..incoming.read], &b"hello"[..incoming.read]);
        incoming
    }

    fn this_process() -> Option<Process> {
        let (pid, uid, gid) = (std::process::id(), geteuid().as_raw(), getegid().as_raw());
        Some(Process { pid, uid, gid })
    }

    /// Sends a datagram with the write end of a pipe. The returned read end reaches its end once that is closed.
    fn send_with_a_descriptor(socket: &net::UnixDatagram) -> PipeReader {
        let (reader, writer) = io::pipe().unwrap();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [writer.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(socket, &[IoSlice::new(b"he")], &mut ancillary, SendFlags::empty()).unwrap();
        reader
    }

    #[test]
    fn a_datagram_at_a_path_has_its_process_once_the_kernel_was_asked_for_it() {
        let (socket, client) = net::UnixDatagram::pair().unwrap();
        client.send(b"he").unwrap();
        set_socket_passcred(&socket, true).unwrap();
        client.send(b"hello").unwrap();
        client.send(b"").unwrap();
        let [early, long, short] = [(); 3].map(|()| receive(&socket));
        assert_eq!((early.read, early.length, early.process), (2, 2, None));
        assert_eq!((long.read, long.length, long.process), (4, 5, this_process()));
        assert_eq!((short.read, short.length, short.process), (0, 0, this_process()));
        socket.set_nonblocking(true).unwrap();
        let none = receive_with_process(socket.as_fd(), &mut []).unwrap_err();
        assert_eq!(none.raw_os_error(), Some(Errno::AGAIN.raw_os_error()));
    }

    #[test]
    fn descriptors_that_come_with_a_datagram_are_closed() {
        for credentials in [true, false] {
            let (socket, client) = net::UnixDatagram::pair().unwrap();
            set_socket_passcred(&socket, credentials).unwrap();
            let mut reader = send_with_a_descriptor(&client);
            let incoming = receive(&socket);
            assert_eq!(incoming.process, this_process().filter(|_| credentials));
            assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the other end is open");
        }
    }

    #[test]
    fn a_process_without_a_number_here_is_known_by_its_user_or_its_group() {
        assert_eq!(process([0, NOBODY, NOBODY]), None);
        assert_eq!(process([0, 7, NOBODY]), Some(Process { pid: 0, uid: 7, gid: NOBODY }));
        assert_eq!(process([0, NOBODY, 7]), Some(Process { pid: 0, uid: NOBODY, gid: 7 }));
        assert_eq!(
            process([7, NOBODY, NOBODY]),
            Some(Process { pid: 7, uid: NOBODY, gid: NOBODY })
        );
    }
}

//! Memory pressure, as the service manager reports it by `$MEMORY_PRESSURE_WATCH` and `$MEMORY_PRESSURE_WRITE`
//! (systemd.io/MEMORY_PRESSURE). Waiting for it costs nothing: the kernel, or the manager, wakes the daemon.

use crate::systemd::environment::PressureVariables;
use data_encoding::BASE64;
use rustix::{
    fs::{FileType, Mode, OFlags, fstat, open},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};
use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};
use tokio::io::{Interest, unix::AsyncFd};

/// The path that says that the manager does not want pressure to be watched.
const NONE: &str = "/dev/null";
/// A file of the kernel reports pressure as an exceptional condition. Without a trigger, as after the removal of its
/// cgroup, it has an error as well.
const KERNEL_REPORTS: Interest = Interest::PRIORITY.add(Interest::ERROR);

/// Why memory pressure is not watched.
#[derive(Debug, thiserror::Error)]
pub enum PressureError {
    /// The path is relative.
    #[error("MEMORY_PRESSURE_WATCH must be an absolute path, not {}", .0.display())]
    Relative(PathBuf),
    /// The text cannot be decoded.
    #[error("MEMORY_PRESSURE_WRITE must be Base64")]
    Encoding,
    /// The file is of another kind.
    #[error("{} must be a file of the kernel, a FIFO or a socket", .0.display())]
    Kind(PathBuf),
    /// The kernel reports nothing unless it is asked to.
    #[error("MEMORY_PRESSURE_WRITE must be set if MEMORY_PRESSURE_WATCH is {}", .0.display())]
    Request(PathBuf),
    /// The file cannot be used.
    #[error("cannot watch {}", path.display())]
    Watch {
        /// Its path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Nothing will be reported any more.
    #[error("{} reports nothing any more", .0.display())]
    Ended(PathBuf),
}

/// What to watch, and the data that says when to report.
#[derive(Debug, PartialEq, Eq)]
struct PressureSource {
    path: PathBuf,
    request: Vec<u8>,
}

/// A watch on memory pressure.
pub struct PressureWatch {
    path: PathBuf,
    /// Reports of the kernel are exceptional conditions of its file; others are data, which is discarded.
    interest: Interest,
    file: AsyncFd<OwnedFd>,
}

impl PressureSource {
    /// Reads the variables. None, if nothing is to be watched.
    fn read(variables: &PressureVariables) -> Result<Option<Self>, PressureError> {
        let PressureVariables { watch, write } = variables;
        let Some(path) = watch.as_ref().map(PathBuf::from).filter(|path| *path != Path::new(NONE))
        else {
            return Ok(None);
        };
        if !path.is_absolute() {
            return Err(PressureError::Relative(path));
        }
        let text = write.as_deref().unwrap_or_default();
        let request = BASE64.decode(text.as_encoded_bytes()).or(Err(PressureError::Encoding))?;
        Ok(Some(Self { path, request }))
    }

    fn open(&self) -> Result<(OwnedFd, Interest), PressureError> {
        let cannot = |errno: Errno| self.cannot_watch(errno.into());
        let status = rustix::fs::stat(&self.path).map_err(cannot)?;
        if FileType::from_raw_mode(status.st_mode) == FileType::Socket {
            let socket = self.connect().map_err(cannot)?;
            self.send_request(&socket).map_err(cannot)?;
            return Ok((socket, Interest::READABLE));
        }
        // A FIFO that is open for writing here as well has no end when another writer closes it.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = open(&self.path, flags, Mode::empty()).map_err(cannot)?;
        match FileType::from_raw_mode(fstat(&file).map_err(cannot)?.st_mode) {
            FileType::RegularFile if self.request.is_empty() => {
                Err(PressureError::Request(self.path.clone()))
            }
            FileType::RegularFile => {
                self.send_request(&file).map_err(cannot)?;
                Ok((file, KERNEL_REPORTS))
            }
            // The request would come back as the first report.
            FileType::Fifo => Ok((file, Interest::READABLE)),
            _ => Err(PressureError::Kind(self.path.clone())),
        }
    }

    fn connect(&self) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(&self.path)?)?;
        Ok(socket)
    }

    /// Sends the request by a single write: the kernel accepts no part of one.
    fn send_request(&self, file: &OwnedFd) -> Result<(), Errno> {
        if !self.request.is_empty() {
            rustix::io::write(file, &self.request)?;
        }
        Ok(())
    }

    fn cannot_watch(&self, source: io::Error) -> PressureError {
        PressureError::Watch { path: self.path.clone(), source }
    }
}

impl PressureWatch {
    /// Begins to watch; none, if the manager does not want that. Without the variables nothing is watched, since a cgroup
    /// that the daemon may share with other processes says nothing about its own memory.
    ///
    /// # Errors
    /// When the variables are invalid, or the file cannot be watched.
    pub fn open(variables: &PressureVariables) -> Result<Option<Self>, PressureError> {
        let Some(source) = PressureSource::read(variables)? else { return Ok(None) };
        let (file, interest) = source.open()?;
        #[expect(
            deprecated,
            reason = "an OwnedFd never changes its descriptor; the function in its place is unsafe"
        )]
        let file = AsyncFd::with_interest(file, interest);
        let file = file.map_err(|error| source.cannot_watch(error))?;
        Ok(Some(Self { path: source.path, interest, file }))
    }

    /// Waits until pressure is reported.
    ///
    /// # Errors
    /// When no more will be reported.
    pub async fn reported(&mut self) -> Result<(), PressureError> {
        let ended = || PressureError::Ended(self.path.clone());
        loop {
            let mut guard = self.file.ready(self.interest).await.or(Err(ended()))?;
            let ready = guard.ready();
            let is_reported = match self.interest {
                Interest::READABLE => discard(self.file.get_ref()).or(Err(ended()))?,
                _ if ready.is_error() => return Err(ended()),
                _ => ready.is_priority(),
            };
            guard.clear_ready();
            if is_reported {
                return Ok(());
            }
            if ready.is_read_closed() {
                return Err(ended());
            }
        }
    }
}

/// Reads all that is there. True if there was something.
fn discard(file: &OwnedFd) -> Result<bool, Errno> {
    let (mut buffer, mut was_some) = ([0; 4096], false);
    loop {
        match rustix::io::read(file.as_fd(), &mut buffer) {
            Ok(0) if !was_some => return Err(Errno::PIPE),
            Ok(0) | Err(Errno::AGAIN) => return Ok(was_some),
            Ok(_) => was_some = true,
            Err(Errno::INTR) => (),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use std::{
        fs::File,
        io::{Read as _, Write as _},
        os::unix::net::UnixListener,
    };

    fn variables(watch: &str, write: &str) -> PressureVariables {
        PressureVariables { watch: Some(watch.into()), write: Some(write.into()) }
    }

    #[test]
    fn the_variables_name_a_file_and_the_data_to_write_to_it() {
        let read = |watch, write| PressureSource::read(&variables(watch, write));
        let source = read("/a/memory.pressure", "c29tZSAyMDAwMDAgMjAwMDAwMAA=").unwrap().unwrap();
        assert_eq!(source.path, Path::new("/a/memory.pressure"));
        assert_eq!(source.request, b"some 200000 2000000\0");
        assert_eq!(read("/a", "").unwrap().unwrap().request, b"");
        assert_eq!(read("/dev/null", "").unwrap(), None);
        let unset = PressureVariables::default();
        assert_eq!(PressureSource::read(&unset).unwrap(), None);
        assert!(matches!(read("a", ""), Err(PressureError::Relative(_))));
        assert!(matches!(read("/a", "no!"), Err(PressureError::Encoding)));
    }

    #[tokio::test]
    async fn a_fifo_reports_pressure_by_data_until_it_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RWXU).unwrap();
        let mut watch =
            PressureWatch::open(&variables(path.to_str().unwrap(), "AA==")).unwrap().unwrap();
        assert!(watch.reported().now_or_never().is_none(), "its own request is none");
        for _ in 0..2 {
            File::options().write(true).open(&path).unwrap().write_all(&[1; 5000]).unwrap();
            watch.reported().await.unwrap();
            assert!(watch.reported().now_or_never().is_none(), "all of it is one report");
        }
    }

    #[tokio::test]
    async fn a_socket_gets_the_request_and_reports_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut watch =
            PressureWatch::open(&variables(path.to_str().unwrap(), "aGk=")).unwrap().unwrap();
        let mut manager = listener.accept().unwrap().0;
        let mut request = [0; 2];
        manager.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"hi");
        manager.write_all(b"x").unwrap();
        watch.reported().await.unwrap();
        drop(manager);
        assert!(matches!(watch.reported().await, Err(PressureError::Ended(_))));
    }

    #[tokio::test]
    async fn a_file_of_the_kernel_whose_trigger_was_removed_has_ended() {
        // The end of a pipe that nobody reads has the same condition.
        let (reader, writer) = std::io::pipe().unwrap();
        let (path, interest) = (PathBuf::from("/a/memory.pressure"), KERNEL_REPORTS);
        #[expect(deprecated, reason = "as in the code")]
        let file = AsyncFd::with_interest(OwnedFd::from(writer), interest).unwrap();
        let mut watch = PressureWatch { path, interest, file };
        assert!(watch.reported().now_or_never().is_none());
        drop(reader);
        assert!(matches!(watch.reported().await, Err(PressureError::Ended(_))));
    }

    #[tokio::test]
    async fn what_cannot_report_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        for path in [plain.as_path(), Path::new("/nowhere")] {
            let watch = PressureWatch::open(&variables(path.to_str().unwrap(), "AA=="));
            assert!(matches!(watch.err(), Some(PressureError::Watch { .. })), "{}", path.display());
        }
        let unasked = PressureWatch::open(&variables(plain.to_str().unwrap(), ""));
        assert!(matches!(unasked.err(), Some(PressureError::Request(_))));
        let zero = PressureWatch::open(&variables("/dev/zero", ""));
        assert!(matches!(zero.err(), Some(PressureError::Kind(_))));
    }
}

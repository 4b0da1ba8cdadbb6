//! A stream of WASI 0.2 to a file in a state with a limit.

use crate::world::{limited_files::LimitedFile, state_limit::ReservedRoom};
use bytes::Bytes;
use std::{io, mem};
use tokio::task::{JoinHandle, spawn_blocking};
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

/// The stream of the library, to which only those bytes are written for which there is room.
pub(super) struct LimitedStream {
    stream: DynOutputStream,
    limited: LimitedFile,
    /// Where it writes next; none: at the end of the file.
    position: Option<u64>,
    step: WriteStep,
}

enum WriteStep {
    /// The library's stream has written everything.
    Idle,
    /// It may be writing.
    Writing {
        _room: ReservedRoom,
    },
    /// It waits until it is known whether there is room.
    Measuring {
        measured: JoinHandle<io::Result<ReservedRoom>>,
        bytes: Bytes,
    },
    /// The last write failed, which the guest does not know yet.
    Failed(StreamError),
    Closed,
}

impl LimitedStream {
    pub(super) fn new(
        stream: DynOutputStream,
        limited: LimitedFile,
        position: Option<u64>,
    ) -> Self {
        Self { stream, limited, position, step: WriteStep::Idle }
    }

    fn write_into(&mut self, room: ReservedRoom, bytes: Bytes) -> StreamResult<()> {
        self.advance(bytes.len());
        self.step = WriteStep::Writing { _room: room };
        self.stream.write(bytes)
    }

    fn advance(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.position = self.position.map(|position| position.saturating_add(bytes));
    }

    /// What prevents a further write, if anything does. A failure is reported once.
    fn check_failure(&mut self) -> StreamResult<()> {
        match &self.step {
            WriteStep::Failed(_) => match mem::replace(&mut self.step, WriteStep::Closed) {
                WriteStep::Failed(error) => Err(error),
                _ => Err(StreamError::Closed),
            },
            WriteStep::Closed => Err(StreamError::Closed),
            WriteStep::Idle | WriteStep::Writing { .. } | WriteStep::Measuring { .. } => Ok(()),
        }
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for LimitedStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.check_failure()?;
        if matches!(self.step, WriteStep::Measuring { .. }) {
            return Err(StreamError::trap("write is not permitted before check-write"));
        }
        if let Some(room) = self.limited.reserve(bytes.len()) {
            return self.write_into(room, bytes);
        }
        let (limited, position, length) = (self.limited.clone(), self.position, bytes.len());
        let measured = spawn_blocking(move || limited.make_room(length, position));
        self.step = WriteStep::Measuring { measured, bytes };
        Ok(())
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.check_failure()?;
        let length = bytes.len();
        let _room = match self.limited.room(length, self.position).await {
            Ok(room) => room,
            Err(error) => {
                self.step = WriteStep::Closed;
                return Err(StreamError::LastOperationFailed(error.into()));
            }
        };
        self.advance(length);
        self.stream.blocking_write_and_flush(bytes).await
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.check_failure()?;
        match self.step {
            WriteStep::Measuring { .. } => Ok(()),
            _ => self.stream.flush(),
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.check_failure()?;
        if matches!(self.step, WriteStep::Measuring { .. }) {
            return Ok(0);
        }
        let permitted = self.stream.check_write();
        if !matches!(permitted, Ok(0)) {
            self.step = WriteStep::Idle;
        }
        permitted
    }

    async fn cancel(&mut self) {
        self.step = WriteStep::Closed;
        self.stream.cancel().await;
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LimitedStream {
    async fn ready(&mut self) {
        // Cancel safe: the wait may be dropped at any time, and begins again.
        if let WriteStep::Measuring { measured, .. } = &mut self.step {
            let room = measured.await.unwrap_or_else(|error| Err(io::Error::other(error)));
            if let WriteStep::Measuring { bytes, .. } =
                mem::replace(&mut self.step, WriteStep::Idle)
            {
                let written = match room {
                    Ok(room) => self.write_into(room, bytes),
                    Err(error) => Err(StreamError::LastOperationFailed(error.into())),
                };
                if let Err(error) = written {
                    self.step = WriteStep::Failed(error);
                }
            }
        }
        self.stream.ready().await;
    }
}

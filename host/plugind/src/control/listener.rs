//! Accepts clients of the control socket, and serves each by itself: none waits for another.

use crate::control::{
    service::{ControlContext, Method},
    wire::{CallReader, ReplyWriter, Wire},
};
use std::{
    future::pending, io, os::unix::net::UnixListener as Bound, pin::pin, sync::Arc, time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, warn};
use zlink::{Call, Connection, connection::ReadConnection};

/// The most clients at a time of those who may change things, and of those who may look.
const CLIENTS: usize = 64;
/// How long a client may be connected without a call.
const IDLE: Duration = Duration::from_secs(60);
/// How long accepting pauses after an error, for what it lacks to be given back.
const PAUSE: Duration = Duration::from_millis(100);

/// The open control socket. It is closed, with all of its connections, when this is dropped.
pub struct Control(JoinSet<()>);

impl Control {
    /// Nobody listens yet.
    #[must_use]
    pub fn closed() -> Self {
        Self(JoinSet::new())
    }

    /// Begins to answer on a socket that is bound and listening.
    ///
    /// # Errors
    /// When the socket cannot be used for that.
    pub fn open(&mut self, socket: Bound, house: ControlContext) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let socket = UnixListener::from_std(socket)?;
        self.0.spawn(accept(socket, house));
        Ok(())
    }
}

async fn accept(socket: UnixListener, house: ControlContext) {
    let mut clients = JoinSet::new();
    // Whoever may only look cannot take the place of one who has something to do.
    let [changers, lookers] = [(); 2].map(|()| Arc::new(Semaphore::new(CLIENTS)));
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "client of the control socket not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Those who are done.
        while clients.try_join_next().is_some() {}
        let may_change = may_change(&stream);
        let places = if may_change { &changers } else { &lookers };
        // One too many is let go at once, instead of being kept waiting.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let house = house.clone();
        clients.spawn(async move {
            if let Err(error) = serve(stream, may_change, &house).await {
                debug!(%error, "client of the control socket gone");
            }
            drop(place);
        });
    }
}

/// Whether this is root or the daemon's own user, who may change things; everybody else may look.
fn may_change(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn serve(stream: UnixStream, may_change: bool, house: &ControlContext) -> zlink::Result<()> {
    let (mut calls, replies) = Connection::new(Wire(stream)).split();
    let mut replies = replies.into_write_half();
    let mut next = None;
    loop {
        let call = match next.take() {
            Some(call) => call,
            None => match timeout(IDLE, receive(&mut calls)).await {
                Ok(call) => call?,
                // Its place may be somebody else's, who has something to ask.
                Err(_) => return Ok(()),
            },
        };
        next = answer(&call, may_change, house, &mut calls, &mut replies).await?;
    }
}

async fn receive(calls: &mut ReadConnection<CallReader>) -> zlink::Result<Call<Method>> {
    Ok(calls.receive_call().await?.0)
}

/// Answers one call, and notices meanwhile if the client goes away or calls again: that call is returned.
async fn answer(
    call: &Call<Method>,
    may_change: bool,
    house: &ControlContext,
    calls: &mut ReadConnection<CallReader>,
    replies: &mut ReplyWriter,
) -> zlink::Result<Option<Call<Method>>> {
    let mut answered = pin!(house.answer(call, may_change, replies));
    let mut next = None;
    loop {
        let waits = next.is_none();
        let received = async {
            match waits {
                true => receive(calls).await,
                false => pending().await,
            }
        };
        tokio::select! {
            outcome = &mut answered => return outcome.map(|()| next),
            call = received => next = Some(call?),
        }
    }
}

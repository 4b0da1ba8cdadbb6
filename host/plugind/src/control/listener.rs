//! Serves each client of the control socket by itself: none waits for another.

use crate::control::{
    service::{ControlContext, Method},
    wire::{CallReader, ReplyWriter, Wire},
};
use crate::listen::{
    socket_service::{Accepted, Server},
    stream::{Peer, Stream},
};
use futures::FutureExt as _;
use std::{future::pending, mem::replace, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tracing::debug;
use zlink::{Call, Connection, connection::ReadConnection};

/// The most clients at a time of those who may change things, and of those who may look.
const CLIENTS: usize = 64;
/// The same limits for clients that follow a plugin, which may stay without a time limit.
const FOLLOWERS: [usize; 2] = [1024, 64];
/// Time that a client may be connected without a call.
const IDLE: Duration = Duration::from_secs(60);

/// The places of clients with the same rights.
struct ClientPlaces {
    clients: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

/// Returns the server for connections of the control socket.
#[must_use]
pub fn server(context: ControlContext) -> Server {
    // Those who may only look cannot take the place of one who has something to do.
    let [changers, lookers] = FOLLOWERS.map(|followers| ClientPlaces {
        clients: Arc::new(Semaphore::new(CLIENTS)),
        followers: Arc::new(Semaphore::new(followers)),
    });
    Arc::new(move |Accepted { stream, peer, place, .. }| {
        let Stream::Unix(stream) = stream else { return std::future::ready(()).boxed() };
        let may_change = may_change(peer);
        let places = if may_change { &changers } else { &lookers };
        // A client beyond the limit is disconnected at once, instead of waiting.
        let Ok(permit) = places.clients.clone().try_acquire_owned() else {
            return std::future::ready(()).boxed();
        };
        let (context, followers) = (context.clone(), places.followers.clone());
        let served = async move {
            if let Err(error) = serve(stream, may_change, &context, permit, followers).await {
                debug!(%peer, %error, "control connection ended");
            }
            drop(place);
        };
        served.boxed()
    })
}

/// Whether this is root or the daemon's own user, who may change things; everybody else may look.
fn may_change(peer: Peer) -> bool {
    let own = rustix::process::geteuid().as_raw();
    matches!(peer, Peer::Unix { uid, .. } if uid == 0 || uid == own)
}

async fn serve(
    stream: UnixStream,
    may_change: bool,
    context: &ControlContext,
    mut permit: OwnedSemaphorePermit,
    followers: Arc<Semaphore>,
) -> zlink::Result<()> {
    let (mut calls, replies) = Connection::new(Wire(stream)).split();
    let mut replies = replies.into_write_half();
    let mut next = None;
    loop {
        let call = match next.take() {
            Some(call) => call,
            None => match timeout(IDLE, receive(&mut calls)).await {
                Ok(call) => call?,
                // An idle client must not keep a place that another one needs.
                Err(_) => return Ok(()),
            },
        };
        if call.method().is_follow() {
            // Followers must not take the places of clients that disconnect after their calls.
            let Ok(place) = followers.clone().try_acquire_owned() else { return Ok(()) };
            drop(replace(&mut permit, place));
        }
        next = answer(&call, may_change, context, &mut calls, &mut replies).await?;
    }
}

async fn receive(calls: &mut ReadConnection<CallReader>) -> zlink::Result<Call<Method>> {
    Ok(calls.receive_call().await?.0)
}

/// Answers one call, and notices meanwhile if the client goes away or calls again: that call is returned.
async fn answer(
    call: &Call<Method>,
    may_change: bool,
    context: &ControlContext,
    calls: &mut ReadConnection<CallReader>,
    replies: &mut ReplyWriter,
) -> zlink::Result<Option<Call<Method>>> {
    let mut answered = pin!(context.answer(call, may_change, replies));
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

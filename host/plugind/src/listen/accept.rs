//! The one loop that accepts connections, for all protocols.

use crate::{
    listen::{
        places::{Place, Places},
        stream::{DetachedStream, Peer, Stream, StreamListener},
    },
    runtime::executors::Executors,
};
use rustix::io::Errno;
use std::{future::Future, io, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// The pause before the next attempt to accept after an error, so that missing resources can be released.
const PAUSE: Duration = Duration::from_millis(100);
/// The time without an error after which an outage has ended.
const OUTAGE_END: Duration = Duration::from_secs(10);

/// Accepts connections and serves each in a task of its own, until `closing`. Without a free place nothing is accepted.
/// Connections are distributed among the cores, and each stays on its core.
pub async fn accept<Served>(
    name: &str,
    listener: StreamListener,
    closing: &CancellationToken,
    places: &Places,
    executors: &Executors,
    serve: Arc<impl Fn(Stream, Peer, Place) -> Served + Send + Sync + 'static>,
) where
    Served: Future<Output = ()> + Send,
{
    let mut outage = Outage::default();
    let accept_each = async {
        loop {
            let place = places.free().await;
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if let Some(errors) = outage.accepted(Instant::now()) {
                        info!(socket = name, errors, "accepting connections resumed");
                    }
                    // A connection beyond the limit of its peer is closed by being dropped.
                    let Some(place) = places.admit(place, &peer, closing) else { continue };
                    let core = executors.place_connection();
                    let (executor, serve) = (core.handle().clone(), serve.clone());
                    let stream = stream.detach();
                    executor.spawn(async move {
                        match stream.and_then(DetachedStream::attach) {
                            Ok(stream) => serve(stream, peer, place).await,
                            Err(error) => debug!(%peer, %error, "cannot serve connection"),
                        }
                        drop(core);
                    });
                }
                Err(error) if is_of_one_client(&error) => (),
                Err(error) => {
                    if outage.failed(Instant::now()) {
                        warn!(socket = name, %error, "cannot accept connections");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    };
    closing.run_until_cancelled(accept_each).await;
}

/// Whether a client gave up while it waited: no reason to pause, nor for an entry in the log.
fn is_of_one_client(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::CONNABORTED.raw_os_error())
}

/// A time in which accepting fails, now and then or always. It is logged once.
#[derive(Debug, Default)]
struct Outage {
    last: Option<Instant>,
    errors: u64,
}

impl Outage {
    /// Notes an error. True if it is the first one.
    fn failed(&mut self, now: Instant) -> bool {
        self.errors += 1;
        self.last.replace(now).is_none()
    }

    /// Notes a connection. With the number of errors if that shows that the outage has ended.
    fn accepted(&mut self, now: Instant) -> Option<u64> {
        let last = self.last?;
        if now.duration_since(last) < OUTAGE_END {
            return None;
        }
        self.last = None;
        Some(std::mem::take(&mut self.errors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::places::LimitsReached;
    use tokio::net::TcpStream;

    #[test]
    fn an_outage_is_logged_once_however_often_it_comes_and_goes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut outage = Outage::default();
        assert!(outage.accepted(at(0)).is_none());
        assert!(outage.failed(at(1)));
        assert!(!outage.failed(at(2)));
        assert_eq!(outage.accepted(at(3)), None, "it may not have ended");
        assert!(!outage.failed(at(4)));
        assert_eq!(outage.accepted(at(14)), Some(3));
        assert_eq!(outage.accepted(at(15)), None);
        assert!(outage.failed(at(16)), "another one");
    }

    #[tokio::test]
    async fn a_connection_lives_on_when_no_more_are_accepted() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let socket = crate::systemd::sockets::Socket::Tcp(socket);
        let listener = StreamListener::of(&socket).unwrap().unwrap();
        let closing = CancellationToken::new();
        let places =
            Places::new("test".parse().unwrap(), &Default::default(), LimitsReached::default());
        let finish = CancellationToken::new();
        let loop_ended = {
            let (closing, places, finish) = (closing.clone(), places.clone(), finish.clone());
            tokio::spawn(async move {
                let serve = Arc::new(move |stream, _, place| {
                    let finish = finish.clone();
                    async move {
                        finish.cancelled().await;
                        drop::<(Stream, Place)>((stream, place));
                    }
                });
                let executors = Executors::of_this_runtime();
                accept("test", listener, &closing, &places, &executors, serve).await;
            })
        };
        let _client = TcpStream::connect(address).await.unwrap();
        // One more is for the next connection.
        while places.in_use() < 2 {
            tokio::task::yield_now().await;
        }
        closing.cancel();
        loop_ended.await.unwrap();
        assert_eq!(places.in_use(), 1);
        finish.cancel();
        places.drained().await;
    }
}

//! The places for the connections of one socket: their limits, in all and for one peer, and the choice of connections
//! that must close when they run out.

use crate::{
    base::{descriptors, figures::Count, name::SocketName},
    config::settings::ConnectionSetting,
    listen::{activity::Activity, stream::Peer},
};
use slab::Slab;
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Interval at which idle connections are looked for while no place is free.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// When places run out, one in this many connections is closed: more than one, since closing takes a moment.
const SHARE_CLOSED: usize = 64;
/// Interval at which a reached limit is logged, and time that the status shows it.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// The peers that share a limit: an address, or a network that is given to one client as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PeerNetwork {
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6(u64),
}

impl PeerNetwork {
    /// A peer on a unix socket has no limit of its own: it may be a proxy for many clients, and the permissions of the
    /// path decide which processes may connect.
    fn of(peer: &Peer) -> Option<Self> {
        let Peer::Tcp(address) = peer else { return None };
        Some(match address.ip().to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        })
    }
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LimitKind {
    Connections,
    ConnectionsOfPeer,
}

/// The limits that were reached lately, for the status.
#[derive(Clone, Default)]
pub struct LimitsReached(Arc<Mutex<BTreeMap<(SocketName, LimitKind), Reached>>>);

struct Reached {
    last: Instant,
    reported: Instant,
    /// Number of times since the last report.
    count: u64,
    limit: usize,
}

impl LimitsReached {
    /// Each limit that was reached in the last minute, as words.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let reached = self.reached();
        let lately = reached.iter().filter(|(_, reached)| reached.last.elapsed() < REPORT_EVERY);
        lately
            .map(|((socket, limit), Reached { limit: max, .. })| match limit {
                LimitKind::Connections => format!("connections-max of the socket {socket} ({max})"),
                LimitKind::ConnectionsOfPeer => {
                    format!("connections-max-per-peer of the socket {socket} ({max})")
                }
            })
            .collect()
    }

    /// Notes that a limit was reached. With a count if that is to be logged now.
    fn note(&self, socket: &SocketName, limit: LimitKind, max: usize, now: Instant) -> Option<u64> {
        let mut reached = self.reached();
        let is_new = !reached.contains_key(&(socket.clone(), limit));
        let fresh = || Reached { last: now, reported: now, count: 0, limit: max };
        let entry = reached.entry((socket.clone(), limit)).or_insert_with(fresh);
        (entry.last, entry.limit) = (now, max);
        entry.count += 1;
        if !is_new && now.saturating_duration_since(entry.reported) < REPORT_EVERY {
            return None;
        }
        entry.reported = now;
        Some(std::mem::take(&mut entry.count))
    }

    fn reached(&self) -> MutexGuard<'_, BTreeMap<(SocketName, LimitKind), Reached>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The places for the connections of one socket. Each connection has one until it ends.
#[derive(Clone)]
pub struct Places(Arc<SocketPlaces>);

struct SocketPlaces {
    socket: SocketName,
    max: usize,
    of_one_peer: usize,
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
    reached: LimitsReached,
    /// The number of connections that have had a place.
    admitted: Count,
}

#[derive(Default)]
struct Taken {
    connections: Slab<Connection>,
    /// Number of them for each peer.
    peers: HashMap<PeerNetwork, usize>,
}

struct Connection {
    peer: Option<PeerNetwork>,
    activity: Arc<Activity>,
    closing: CancellationToken,
}

/// One connection's place.
pub struct Place {
    shared: Arc<SocketPlaces>,
    key: usize,
    activity: Arc<Activity>,
    closing: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Taken {
    /// Asks those connections to close that have been idle for the longest, of one peer or of all, but not those that
    /// were asked before. Returns how many.
    fn close_idle(&mut self, of: Option<PeerNetwork>, max: usize) -> usize {
        let mut idle: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| of.is_none() || connection.peer == of)
            .filter(|(_, connection)| !connection.closing.is_cancelled())
            .filter_map(|(key, connection)| Some((connection.activity.idle_since()?, key)))
            .collect();
        idle.sort_unstable();
        idle.truncate(max);
        for (_, key) in &idle {
            self.connections[*key].closing.cancel();
        }
        idle.len()
    }

    /// Returns the number of connections that were asked to close and are still open.
    fn closing(&self) -> usize {
        let asked = |(_, connection): &(usize, &Connection)| connection.closing.is_cancelled();
        self.connections.iter().filter(asked).count()
    }

    fn of_peer(&self, peer: PeerNetwork) -> usize {
        self.peers.get(&peer).copied().unwrap_or_default()
    }
}

impl Places {
    /// As many as `setting` says, all free, but not so many that no descriptor is left for anything else.
    #[must_use]
    pub fn new(socket: SocketName, setting: &ConnectionSetting, reached: LimitsReached) -> Self {
        let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let descriptors = descriptors::limit().map_or(u64::MAX, descriptors::for_others);
        // A connection has one descriptor, and what its plugin opens for it has others.
        let max = number(setting.max).min(usize::try_from(descriptors / 2).unwrap_or(usize::MAX));
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(SocketPlaces {
            socket,
            max,
            of_one_peer: number(setting.max_per_peer).min(max),
            free: Arc::new(Semaphore::new(max)),
            taken: Mutex::default(),
            reached,
            admitted: Count::default(),
        }))
    }

    /// Waits for a free place. While there is none, connections that are idle are closed, the longest idle ones first.
    pub async fn free(&self) -> OwnedSemaphorePermit {
        let shared = &*self.0;
        loop {
            if let Ok(permit) = shared.free.clone().try_acquire_owned() {
                return permit;
            }
            shared.make_room();
            // It is never closed.
            if let Ok(Ok(permit)) = timeout(LOOK_EVERY, shared.free.clone().acquire_owned()).await {
                return permit;
            }
        }
    }

    /// Gives a free place to a connection; `closing` is what all connections of the socket follow. None if its peer has
    /// as many as it may and none of those is idle, or twice as many.
    #[must_use]
    pub fn admit(
        &self,
        permit: OwnedSemaphorePermit,
        peer: &Peer,
        closing: &CancellationToken,
    ) -> Option<Place> {
        let shared = &self.0;
        let network = PeerNetwork::of(peer);
        let mut taken = shared.taken();
        if let Some(network) = network {
            let count = taken.of_peer(network);
            if count >= shared.of_one_peer {
                // Those that were asked to close count until they have, but are not asked again.
                let closed = taken.close_idle(Some(network), 1);
                shared.report(LimitKind::ConnectionsOfPeer, closed, Some(peer));
                if closed == 0 || count >= shared.of_one_peer.saturating_mul(2) {
                    return None;
                }
            }
            *taken.peers.entry(network).or_default() += 1;
        }
        shared.admitted.add(1);
        let activity = Arc::new(Activity::new(Instant::now()));
        let closing = closing.child_token();
        let key = taken.connections.insert(Connection {
            peer: network,
            activity: activity.clone(),
            closing: closing.clone(),
        });
        Some(Place { shared: shared.clone(), key, activity, closing, _permit: permit })
    }

    /// Takes a place for a datagram socket, which has no peer, if one is free.
    #[must_use]
    pub fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.0.free.clone().try_acquire_owned().ok()
    }

    /// Whether connections are left.
    #[must_use]
    pub fn are_taken(&self) -> bool {
        self.0.free.available_permits() < self.0.max
    }

    /// Waits until no connection is left. Another one may come, unless no more are accepted.
    pub async fn drained(&self) {
        let all = u32::try_from(self.0.max).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        drop(self.0.free.acquire_many(all).await);
    }

    /// The total.
    #[must_use]
    pub fn max(&self) -> usize {
        self.0.max
    }

    /// Returns the number of connections that have had a place so far.
    #[must_use]
    pub fn admitted(&self) -> u64 {
        self.0.admitted.get()
    }

    /// Returns the number of open connections. One more place may be reserved for the next one.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.taken().connections.len()
    }

    /// Since when none of the connections has had a request; none, if one has, or serves anything other than requests.
    /// Without connections, that is `before`.
    #[must_use]
    pub fn idle_since(&self, before: Instant) -> Option<Instant> {
        let taken = self.0.taken();
        let mut connections = taken.connections.iter().map(|(_, it)| it.activity.idle_since());
        connections.try_fold(before, |latest, since| Some(latest.max(since?)))
    }

    /// Returns the number of places in use.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.0.max - self.0.free.available_permits()
    }
}

impl SocketPlaces {
    /// Has idle connections close, if connections have all places: while a stop waits for them, it has the free ones.
    fn make_room(&self) {
        let mut taken = self.taken();
        // One place is that of the next connection.
        if taken.connections.len() + 1 < self.max {
            return;
        }
        let share = (self.max / SHARE_CLOSED).max(1);
        let closed = if taken.closing() == 0 { taken.close_idle(None, share) } else { 0 };
        self.report(LimitKind::Connections, closed, None);
    }

    fn report(&self, limit: LimitKind, closed: usize, peer: Option<&Peer>) {
        let max = match limit {
            LimitKind::Connections => self.max,
            LimitKind::ConnectionsOfPeer => self.of_one_peer,
        };
        let Some(count) = self.reached.note(&self.socket, limit, max, Instant::now()) else {
            return;
        };
        let (socket, limit) = (&self.socket, max);
        match peer {
            None => warn!(%socket, limit, count, closed, "connection limit reached"),
            Some(peer) => warn!(%socket, limit, count, %peer, "connection limit of a peer reached"),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Returns the activity of the connection. From now on the connection is closed when places run out and it is idle.
    #[must_use]
    pub fn activity(&self) -> Arc<Activity> {
        self.activity.watch();
        self.activity.clone()
    }

    /// Cancelled when no more requests are wanted.
    #[must_use]
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.shared.taken();
        let Some(connection) = taken.connections.try_remove(self.key) else { return };
        let Some(peer) = connection.peer else { return };
        if let Some(count) = taken.peers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                taken.peers.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::Tcp(text.parse().unwrap())
    }

    fn places(max: u32, max_per_peer: u32) -> (Places, LimitsReached) {
        let setting = ConnectionSetting { max, max_per_peer, ..ConnectionSetting::default() };
        let reached = LimitsReached::default();
        (Places::new("web".parse().unwrap(), &setting, reached.clone()), reached)
    }

    async fn admit(places: &Places, who: &str) -> Option<Place> {
        let permit = places.free().await;
        let place = places.admit(permit, &peer(who), &CancellationToken::new())?;
        drop(place.activity());
        Some(place)
    }

    #[test]
    fn a_network_of_64_bits_is_one_peer_and_an_address_of_ipv4_another() {
        let network = |text| PeerNetwork::of(&peer(text));
        assert_eq!(network("[2001:db8::1]:1"), network("[2001:db8::ffff:2]:2"));
        assert_ne!(network("[2001:db8::1]:1"), network("[2001:db8:0:1::1]:1"));
        assert_eq!(network("[::ffff:10.0.0.1]:1"), network("10.0.0.1:2"));
        assert_ne!(network("10.0.0.1:1"), network("10.0.0.2:1"));
        assert_eq!(PeerNetwork::of(&Peer::Unknown), None);
    }

    #[tokio::test]
    async fn a_peer_at_its_bound_loses_its_longest_idle_connection_or_is_refused() {
        let (places, reached) = places(100, 2);
        let busy = admit(&places, "10.0.0.1:1").await.unwrap();
        let _exchange = busy.activity().begin();
        let idle = admit(&places, "10.0.0.1:2").await.unwrap();
        assert!(reached.words().is_empty());
        let third = admit(&places, "10.0.0.1:3").await.unwrap();
        assert!(idle.closing().is_cancelled() && !busy.closing().is_cancelled());
        let _exchange = third.activity().begin();
        assert!(admit(&places, "10.0.0.1:4").await.is_none(), "none of them is idle");
        assert!(admit(&places, "10.0.0.2:1").await.is_some(), "others have their own");
        assert_eq!(reached.words(), ["connections-max-per-peer of the socket web (2)"]);
        drop((idle, third));
        assert!(admit(&places, "10.0.0.1:5").await.is_some());
    }

    #[tokio::test]
    async fn when_places_run_out_the_longest_idle_connection_is_closed() {
        let (places, reached) = places(2, 2);
        let first = admit(&places, "10.0.0.1:1").await.unwrap();
        let second = admit(&places, "10.0.0.2:1").await.unwrap();
        // It was busy meanwhile, and is idle for a shorter time.
        let exchange = first.activity().begin();
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(exchange);
        let closing = second.closing().clone();
        let (third, ()) = tokio::join!(admit(&places, "10.0.0.3:1"), async {
            closing.cancelled().await;
            drop(second);
        });
        assert!(third.is_some() && !first.closing().is_cancelled());
        assert_eq!(reached.words(), ["connections-max of the socket web (2)"]);
    }

    #[test]
    fn a_limit_is_logged_once_a_minute_with_a_count() {
        let (reached, socket) = (LimitsReached::default(), "web".parse().unwrap());
        let start = Instant::now();
        let at = |seconds| {
            reached.note(&socket, LimitKind::Connections, 9, start + Duration::from_secs(seconds))
        };
        assert_eq!((at(0), at(1), at(59), at(60)), (Some(1), None, None, Some(3)));
    }
}

//! The tokens of the clients that were seen last.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
};

/// The most clients that are remembered.
const CLIENTS_MAX: usize = 10_000;

/// The clients that share a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    V4(Ipv4Addr),
    /// The first 64 bits of an address. A client has all addresses that begin with them, and can use one for each request.
    V6(u64),
    /// A client of a unix socket, or another plugin.
    Local(Vec<u8>),
}

impl Client {
    /// The client at an address, as `X-Forwarded-For` has it.
    pub(crate) fn at(address: Vec<u8>) -> Self {
        let ip = str::from_utf8(&address).ok().and_then(|text| text.parse::<IpAddr>().ok());
        match ip.map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(address)) => Self::V4(address),
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
            None => Self::Local(address),
        }
    }
}

/// The limit of each client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    pub(crate) burst: f64,
}

/// The tokens of a client, as they were at a time in seconds.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    since: f64,
    /// The number of its last use.
    used: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Buckets {
    buckets: HashMap<Client, Bucket>,
    /// The clients by the number of their last use, so that the oldest is found without a search.
    order: BTreeMap<u64, Client>,
    uses: u64,
}

impl Buckets {
    /// Takes a token of a client, or returns for how many seconds it has none.
    pub(crate) fn take(&mut self, rate: Rate, client: Client, now: f64) -> Result<(), f64> {
        if self.buckets.len() >= CLIENTS_MAX && !self.buckets.contains_key(&client) {
            self.forget_oldest();
        }
        self.uses += 1;
        let used = self.uses;
        let full = Bucket { tokens: rate.burst, since: now, used };
        let bucket = self.buckets.entry(client.clone()).or_insert(full);
        self.order.remove(&bucket.used);
        self.order.insert(used, client);
        let tokens = (bucket.tokens + (now - bucket.since) * rate.per_second).min(rate.burst);
        let (tokens, taken) = match tokens < 1.0 {
            true => (tokens, Err((1.0 - tokens) / rate.per_second)),
            false => (tokens - 1.0, Ok(())),
        };
        *bucket = Bucket { tokens, since: now, used };
        taken
    }

    /// Forgets the client whose last request is the oldest: its bucket is the most likely to be full again. A client
    /// that keeps sending is never forgotten before clients that have stopped.
    fn forget_oldest(&mut self) {
        if let Some((_, client)) = self.order.pop_first() {
            self.buckets.remove(&client);
        }
    }
}

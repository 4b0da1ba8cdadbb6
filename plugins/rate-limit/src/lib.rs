//! Limits how many requests a client may send: a bucket of tokens for each address, of which each request takes one.

use std::{cell::RefCell, collections::HashMap, sync::OnceLock};

use plugind_sdk::{
    Lifecycle, StartError, config,
    middleware::{ErrorCode, Request, Response, answer, next},
};
use wasip3::{clocks::monotonic_clock, exports::http::handler::Guest};

/// The most clients that are remembered. When there are more, those are forgotten whose buckets are full.
const CLIENTS_MAX: usize = 10_000;

struct Settings {
    per_second: f64,
    burst: f64,
}

/// `start` reads them, because they never change while the instance exists.
static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// The tokens of a client, as they were at a time in seconds.
#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    since: f64,
}

thread_local! {
    static BUCKETS: RefCell<HashMap<Vec<u8>, Bucket>> = RefCell::default();
}

struct RateLimit;

impl Lifecycle for RateLimit {
    async fn start() -> Result<(), StartError> {
        let settings = read().map_err(StartError::Configuration)?;
        SETTINGS.get_or_init(|| settings);
        Ok(())
    }
}

fn read() -> Result<Settings, String> {
    let number =
        |key: &str, default: f64| match config::get(key).map_err(|error| error.to_string())? {
            None => Ok(default),
            Some(text) => match text.parse::<f64>() {
                Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
                _ => Err(format!("{key} must be a number greater than 0; it is {text:?}")),
            },
        };
    let per_second = number("per-second", 10.0)?;
    Ok(Settings { per_second, burst: number("burst", per_second.max(1.0))?.max(1.0) })
}

impl Settings {
    fn now(&self, bucket: Bucket, now: f64) -> f64 {
        (bucket.tokens + (now - bucket.since) * self.per_second).min(self.burst)
    }

    /// Takes a token of a client, or says for how many seconds it has none.
    fn take(
        &self,
        buckets: &mut HashMap<Vec<u8>, Bucket>,
        client: Vec<u8>,
        now: f64,
    ) -> Result<(), f64> {
        if buckets.len() >= CLIENTS_MAX && !buckets.contains_key(&client) {
            buckets.retain(|_, bucket| self.now(*bucket, now) < self.burst);
            if buckets.len() >= CLIENTS_MAX {
                // That many clients at their limits are one client with many addresses.
                return Err(1.0);
            }
        }
        let full = Bucket { tokens: self.burst, since: now };
        let bucket = buckets.entry(client).or_insert(full);
        let tokens = self.now(*bucket, now);
        if tokens < 1.0 {
            return Err((1.0 - tokens) / self.per_second);
        }
        *bucket = Bucket { tokens: tokens - 1.0, since: now };
        Ok(())
    }
}

impl Guest for RateLimit {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let settings = SETTINGS.get().expect("start comes before any request");
        // The daemon writes it, whatever the client sent.
        let client =
            request.get_headers().get("x-forwarded-for").into_iter().next().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "a fraction of a nanosecond does not count")]
        let now = monotonic_clock::now() as f64 / 1e9;
        let taken = BUCKETS.with_borrow_mut(|buckets| settings.take(buckets, client, now));
        match taken {
            Ok(()) => next(request).await,
            Err(seconds) => {
                let wait = format!("{:.0}", seconds.ceil().max(1.0));
                answer(429, &[("retry-after", &wait)], "too many requests\n")
            }
        }
    }
}

plugind_sdk::export!(RateLimit);
wasip3::http::service::export!(RateLimit);

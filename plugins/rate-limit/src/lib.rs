//! Limits how many requests a client may send: a bucket of tokens for each client, of which each request takes one.

mod buckets;

use std::{cell::RefCell, sync::OnceLock};

use buckets::{Buckets, Client, Rate};

use plugind_sdk::{
    Lifecycle, StartError, config,
    middleware::{ErrorCode, Request, Response, answer, next},
};
use serde::Deserialize;
use wasip3::{clocks::monotonic_clock, exports::http::handler::Guest};

/// `start` reads them, because they never change while the instance exists.
static RATE: OnceLock<Rate> = OnceLock::new();

thread_local! {
    static BUCKETS: RefCell<Buckets> = RefCell::default();
}

struct RateLimit;

impl Lifecycle for RateLimit {
    async fn start() -> Result<(), StartError> {
        let rate = read()?;
        RATE.get_or_init(|| rate);
        Ok(())
    }
}

/// `[config]` of the manifest.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Settings {
    per_second: Option<f64>,
    burst: Option<f64>,
}

fn read() -> Result<Rate, StartError> {
    let settings: Settings = config::read()?;
    let positive = |key: &str, number: Option<f64>, default: f64| match number {
        None => Ok(default),
        Some(number) if number.is_finite() && number > 0.0 => Ok(number),
        Some(number) => Err(StartError::Configuration(format!(
            "[config] {key} must be a number greater than 0; it is \"{number}\""
        ))),
    };
    let per_second = positive("per-second", settings.per_second, 10.0)?;
    let burst = positive("burst", settings.burst, per_second.max(1.0))?;
    Ok(Rate { per_second, burst: burst.max(1.0) })
}

impl Guest for RateLimit {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let rate = *RATE.get().expect("start comes before any request");
        // The daemon writes it, whatever the client sent.
        let address = request.get_headers().get("x-forwarded-for").into_iter().next();
        let client = Client::at(address.unwrap_or_default());
        #[expect(clippy::cast_precision_loss, reason = "a fraction of a nanosecond does not count")]
        let now = monotonic_clock::now() as f64 / 1e9;
        let taken = BUCKETS.with_borrow_mut(|buckets| buckets.take(rate, client, now));
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

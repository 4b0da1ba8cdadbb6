//! Limits how many requests a client may send: a bucket of tokens for each client, of which each request takes one.

mod buckets;

use std::{cell::RefCell, sync::OnceLock};

use buckets::{Buckets, Client, Rate};

use plugind_sdk::{
    Lifecycle, StartError, config,
    middleware::{ErrorCode, Request, Response, answer, next},
};
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

fn read() -> Result<Rate, StartError> {
    let number = |key: &str, default: f64| {
        let text = config::get(key).map_err(|error| StartError::Unavailable(error.to_string()))?;
        let Some(text) = text else { return Ok(default) };
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
            _ => {
                let message = format!("{key} must be a number greater than 0; it is {text:?}");
                Err(StartError::Configuration(message))
            }
        }
    };
    let per_second = number("per-second", 10.0)?;
    Ok(Rate { per_second, burst: number("burst", per_second.max(1.0))?.max(1.0) })
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

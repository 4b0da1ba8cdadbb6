//! Becomes ready after some work, and reports its progress.

use plugind_sdk::{Lifecycle, StartError, notice, notify};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

const STEPS: u32 = 5;

/// In nanoseconds: 0.3 s, so that all steps take 1.5 s.
const STEP: u64 = 300_000_000;

/// In microseconds: far more than a step takes, far less than a step that hangs.
const WAIT_MAX: u64 = 5_000_000;

struct Warmup;

impl Lifecycle for Warmup {
    async fn start() -> Result<(), StartError> {
        for step in 1..=STEPS {
            notify::status(&format!("warming up: {step} of {STEPS}"));
            // At each step, so that the deadline limits one step, however many there are.
            notify::extend_timeout(WAIT_MAX);
            wait_for(STEP).await;
        }
        notify::status("warm");
        notice!(steps = STEPS, "warm");
        Ok(())
    }
}

impl Guest for Warmup {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let (mut body, body_reader) = wit_stream::new();
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(body_reader), trailers);
        spawn_local(async move {
            let _unread = body.write_all(b"warm\n".to_vec()).await;
        });
        Ok(response)
    }
}

plugind_sdk::export!(Warmup);
wasip3::http::service::export!(Warmup);

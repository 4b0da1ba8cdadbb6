//! Counts its requests, keeps the count from one version to the next, and fails at that as its configuration says.
//!
//! `save` and `restore` of `[config]` are `fail`, `trap`, `hang` or `spin`; `save` also `nothing`, `twice`, which fails the
//! second time, `slow MILLISECONDS`, or `grow SIZE`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use plugind_sdk::{Handover, Lifecycle, StopReason, config, identity, journal};
use plugind_test_guests::{forever, number, pause, spin};

static COUNT: AtomicU64 = AtomicU64::new(0);
static SAVES: AtomicU64 = AtomicU64::new(0);

struct Guest;

impl Lifecycle for Guest {
    async fn stop(reason: StopReason) {
        journal::info(&format!("stopped: {reason:?} count={}", COUNT.load(Relaxed)), &[]);
    }
}

/// Does what is configured for this call, if that is to go wrong.
async fn go_wrong(call: &str) -> Result<(), String> {
    match config::get(call).ok().flatten().as_deref() {
        Some("fail") => Err(format!("it is told to\nfail at {call}")),
        Some("trap") => panic!("it is told to trap"),
        Some("hang") => forever().await,
        Some("spin") => spin(),
        _ => Ok(()),
    }
}

impl Handover for Guest {
    async fn save() -> Result<Option<Vec<u8>>, String> {
        let (saves, count) = (SAVES.fetch_add(1, Relaxed), COUNT.load(Relaxed));
        journal::info(&format!("saves count={count}"), &[]);
        go_wrong("save").await?;
        let how = config::get("save").ok().flatten().unwrap_or_default();
        let mut state = format!("{count}\n").into_bytes();
        match how.split_once(' ') {
            None if how == "nothing" => return Ok(None),
            None if how == "twice" && saves > 0 => return Err("once is enough".to_owned()),
            Some(("slow", milliseconds)) => pause(number(milliseconds)).await,
            Some(("grow", size)) => {
                state.resize(usize::try_from(number(size)).unwrap_or_default(), 0);
            }
            _ => (),
        }
        Ok(Some(state))
    }

    async fn restore(state: Vec<u8>) -> Result<(), String> {
        go_wrong("restore").await?;
        let line = state.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let count = std::str::from_utf8(line).ok().and_then(|count| count.parse().ok());
        COUNT.store(count.ok_or("the state is no count")?, Relaxed);
        journal::info(
            &format!("restored count={} bytes={}", COUNT.load(Relaxed), state.len()),
            &[],
        );
        Ok(())
    }
}

/// Counts; before it answers, `/pause/MILLISECONDS` waits and `/trap` traps.
async fn respond(words: &[&str]) -> String {
    match words {
        ["pause", milliseconds] => pause(number(milliseconds)).await,
        ["trap"] => panic!("a request asked for it"),
        _ => (),
    }
    let count = COUNT.fetch_add(1, Relaxed) + 1;
    format!("worker={} generation={} count={count}", identity::worker(), identity::generation())
}

plugind_sdk::export!(Guest);
plugind_sdk::export_handover!(Guest);
plugind_test_guests::serve!(respond);

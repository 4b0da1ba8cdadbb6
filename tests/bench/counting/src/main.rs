//! Measures what counting a request costs, with the code of the host itself: `counting TURNS` prints the nanoseconds of
//! a request in whose course the instance is given the thread TURNS times.
//!
//! `warm` is a plugin whose counters are in the processor's nearest cache. `cold` is one of so many that each request
//! finds its counters outside of it.

mod base;

use base::figures::CoreFigures;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// Requests of one measurement.
const REQUESTS: u32 = 2_000_000;
/// The counters of this many plugins take 12 MiB.
const PLUGINS: usize = 1 << 15;

fn main() {
    let turns =
        std::env::args().nth(1).and_then(|turns| turns.parse().ok()).expect("counting TURNS");
    let all: Vec<CoreFigures> = (0..PLUGINS).map(|_| CoreFigures::default()).collect();
    count(&all[..1], turns);
    let warm = count(&all[..1], turns);
    let cold = count(&all, turns);
    println!("{{\"warm\": {warm:.1}, \"cold\": {cold:.1}}}");
}

/// The nanoseconds for which this thread had a processor.
fn processor_time() -> f64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    times.split(' ').next().and_then(|time| time.parse().ok()).expect("it is the first number")
}

/// The nanoseconds of a request: every reading of the clock and every addition that are there for figures alone.
fn count(plugins: &[CoreFigures], turns: u32) -> f64 {
    let (before, begun) = (processor_time(), Instant::now());
    // An order in which no processor foresees the next one.
    let mut place = 0_usize;
    for request in 0..REQUESTS {
        place = place.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) % plugins.len();
        let figures = black_box(&plugins[place]);
        // An instance took it, and its response begins, after times that are in several buckets.
        let time = Duration::from_micros(u64::from(black_box(request) & 1023));
        figures.waited(begun.elapsed().min(time));
        for _ in 0..black_box(turns) {
            let turn = Instant::now();
            figures.ran(turn.elapsed());
        }
        figures.response(black_box(200), begun.elapsed().min(time));
        figures.received.add(black_box(0));
        figures.sent.add(black_box(17));
    }
    (processor_time() - before) / f64::from(REQUESTS)
}

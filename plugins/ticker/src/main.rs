//! A program that runs in the background and prints a line each second.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the program is there to print: each line is an entry in the journal"
)]

use std::thread::sleep;
use std::time::Duration;

fn main() {
    for tick in 1_u64.. {
        println!("tick {tick}");
        if tick % 10 == 0 {
            eprintln!("{tick} ticks, and nobody listens");
        }
        sleep(Duration::from_secs(1));
    }
}

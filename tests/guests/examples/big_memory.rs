//! Needs 80 MiB of memory to be instantiated at all.

use std::sync::atomic::{AtomicU8, Ordering};

/// Zeros, so the file is small: it is the memory's least size that grows.
static SHELF: [AtomicU8; 80 << 20] = [const { AtomicU8::new(0) }; 80 << 20];

async fn respond(words: &[&str]) -> String {
    // Where to look is known at run time only, so all of it has to be there.
    let place = words.first().map_or(0, |word| plugind_test_guests::number(word));
    let place = usize::try_from(place).unwrap_or_default() % SHELF.len();
    let before = SHELF[place].fetch_add(1, Ordering::Relaxed);
    format!("{before}")
}

plugind_test_guests::serve!(respond);

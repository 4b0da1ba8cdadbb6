//! Takes as many MiB as a request to `/grow/MIB` says, touches and keeps them.

use plugind_test_guests::{fine, number};

async fn respond(words: &[&str]) -> String {
    if let ["grow", mib] = words {
        for _ in 0..number(mib) {
            std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 20]));
        }
        return format!("grown by {mib} MiB");
    }
    fine(words).await
}

plugind_test_guests::serve!(respond);

//! Spins in a request to `/loop`; any other is answered.

async fn respond(words: &[&str]) -> String {
    match words {
        ["loop"] => plugind_test_guests::spin(),
        _ => plugind_test_guests::fine(words).await,
    }
}

plugind_test_guests::serve!(respond);

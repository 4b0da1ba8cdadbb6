//! Aborts in a request to `/trap`; any other is answered.

async fn respond(words: &[&str]) -> String {
    match words {
        ["trap"] => std::process::abort(),
        _ => plugind_test_guests::fine(words).await,
    }
}

plugind_test_guests::serve!(respond);

//! Aborts in a request to `/trap`, by WASI 0.2; any other is answered.

fn respond(words: &[&str]) -> String {
    match words {
        ["trap"] => std::process::abort(),
        _ => "fine".to_owned(),
    }
}

plugind_test_guests::serve_02!(respond);

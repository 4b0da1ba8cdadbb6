//! Spins in a request to `/loop`, by WASI 0.2; any other is answered.

fn respond(words: &[&str]) -> String {
    match words {
        ["loop"] => plugind_test_guests::spin(),
        _ => "fine".to_owned(),
    }
}

plugind_test_guests::serve_02!(respond);

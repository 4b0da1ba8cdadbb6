//! Answers `/NAME` with the credential of this name.

use plugind_sdk::credentials;

async fn respond(words: &[&str]) -> String {
    match words {
        [name] => match credentials::get(name) {
            Some(value) => String::from_utf8_lossy(&value).into_owned(),
            None => "none".to_owned(),
        },
        _ => plugind_test_guests::fine(words).await,
    }
}

plugind_test_guests::serve!(respond);

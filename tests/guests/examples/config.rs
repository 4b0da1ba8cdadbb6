//! Answers its configuration, sorted, a line each.

use plugind_sdk::config;

async fn respond(_words: &[&str]) -> String {
    match config::get_all() {
        Ok(mut pairs) => {
            pairs.sort();
            pairs.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
        }
        Err(error) => format!("error: {error}\n"),
    }
}

plugind_test_guests::serve!(respond);

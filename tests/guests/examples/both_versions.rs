//! Answers HTTP requests by WASI 0.3 and by WASI 0.2, and says by which.

async fn respond(_words: &[&str]) -> String {
    "0.3".to_owned()
}

fn respond_02(_words: &[&str]) -> String {
    "0.2".to_owned()
}

plugind_test_guests::serve!(respond);
plugind_test_guests::serve_02!(respond_02);

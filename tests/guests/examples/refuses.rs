//! Refuses all calls by back-pressure after a request for `/refuse`.

use plugind_test_guests::{fine, wasip3::wit_bindgen};

async fn respond(words: &[&str]) -> String {
    if words == ["refuse"] {
        wit_bindgen::backpressure_inc();
        return "from now on\n".to_owned();
    }
    fine(words).await
}

plugind_test_guests::serve!(respond);

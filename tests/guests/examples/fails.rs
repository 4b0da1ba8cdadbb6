//! Answers every request with an error that has a secret in it.

use plugind_test_guests::Answered;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Request};

struct Fails;

impl Guest for Fails {
    async fn handle(_request: Request) -> Answered {
        Err(ErrorCode::InternalError(Some("secret detail".to_owned())))
    }
}

wasip3::http::service::export!(Fails);

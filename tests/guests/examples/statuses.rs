//! Responds with the status that its path asks for, with a length and with a body: `/CODE`.

use plugind_test_guests::{Answered, answer_with, number, path, words};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request};

const BODY: &str = "a body";

struct Statuses;

impl Guest for Statuses {
    async fn handle(request: Request) -> Answered {
        let path = path(&request);
        let (status, length) = match words(&path)[..] {
            [status] => (number(status), false),
            [status, "length"] => (number(status), true),
            _ => (404, false),
        };
        let fields = Fields::new();
        if length {
            let length = BODY.len().to_string().into_bytes();
            fields.append("content-length", &length).expect("the field is allowed");
        }
        let response = answer_with(fields, BODY.to_owned());
        let status = u16::try_from(status).unwrap_or_default();
        match response.set_status_code(status) {
            Ok(()) => Ok(response),
            Err(()) => Err(ErrorCode::InternalError(Some("the status was refused".to_owned()))),
        }
    }
}

wasip3::http::service::export!(Statuses);

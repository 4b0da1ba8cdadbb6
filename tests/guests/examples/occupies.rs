//! Waits in a request to `/compute` or `/block` for the first bytes of its body, and then keeps everything else in its
//! instance from running. It answers other requests with the number of the instance.
#![expect(clippy::print_stdout, reason = "printing is a way of logging")]

use plugind_sdk::identity;
use plugind_test_guests::{Answered, answer, path, spin, words};
use std::{thread::sleep, time::Duration};
use wasip3::{exports::http::handler::Guest, http::types::Request, wit_future};

struct Occupies;

/// Waits for the first bytes of the body.
async fn wait(request: Request) {
    let (_, read) = wit_future::new(|| Ok(()));
    let (mut body, _trailers) = Request::consume_body(request, read);
    println!("waits");
    body.read(Vec::with_capacity(1)).await;
    println!("begins");
}

impl Guest for Occupies {
    async fn handle(request: Request) -> Answered {
        match words(&path(&request))[..] {
            ["compute"] => {
                wait(request).await;
                spin()
            }
            ["block"] => {
                wait(request).await;
                sleep(Duration::from_secs(3600));
            }
            _ => (),
        }
        Ok(answer(identity::worker().to_string()))
    }
}

wasip3::http::service::export!(Occupies);

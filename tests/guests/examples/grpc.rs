//! A service of gRPC: `Echo` sends back each message as it comes, `Fail` fails with a status and no message.

use plugind_test_guests::{Answered, CHUNK, path};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{Fields, Request, Response};
use wasip3::wit_bindgen::StreamResult;
use wasip3::{spawn_local, wit_future, wit_stream};

struct Grpc;

fn fields(all: &[(&str, &str)]) -> Fields {
    let all: Vec<_> =
        all.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    Fields::from_list(&all).expect("the fields are well-formed and allowed")
}

impl Guest for Grpc {
    async fn handle(request: Request) -> Answered {
        let fails = path(&request).ends_with("/Fail");
        let (_, read) = wit_future::new(|| Ok(()));
        let (mut from, _trailers) = Request::consume_body(request, read);
        let (mut to, body) = wit_stream::new();
        let (last, trailers) = wit_future::new(|| Ok(None));
        let headers = fields(&[("content-type", "application/grpc")]);
        let (response, _sent) = Response::new(headers, Some(body), trailers);
        spawn_local(async move {
            loop {
                let (result, read) = from.read(Vec::with_capacity(CHUNK)).await;
                if matches!(result, StreamResult::Dropped | StreamResult::Cancelled) {
                    break;
                }
                if !fails && !to.write_all(read).await.is_empty() {
                    return; // the client has gone
                }
            }
            drop(to);
            let status = match fails {
                true => fields(&[("grpc-status", "5"), ("grpc-message", "there is none")]),
                false => fields(&[("grpc-status", "0")]),
            };
            let _sent = last.write(Ok(Some(status))).await;
        });
        Ok(response)
    }
}

wasip3::http::service::export!(Grpc);

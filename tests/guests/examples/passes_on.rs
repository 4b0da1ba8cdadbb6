//! Middleware that notes its name in requests and responses, and does what the last segment of the path says: `deny`,
//! `trap`, `sleep`, or `N-times` to pass the request on so often. `later` passes it on after the response has begun.
#![expect(clippy::print_stdout, reason = "printing is a way of logging")]

use plugind_sdk::{
    identity,
    middleware::{ErrorCode, Fields, Request, answer, next, with_headers, with_response_headers},
};
use plugind_test_guests::{Answered, forever, number, path, wasip3, words};
use wasip3::{exports::http::handler::Guest, spawn_local};

struct PassesOn;

/// The same fields and one more.
fn with(fields: &Fields, name: &str, value: &str) -> Fields {
    let mut all = fields.copy_all();
    all.push((name.to_owned(), value.as_bytes().to_vec()));
    Fields::from_list(&all).expect("the fields were fields before")
}

fn empty() -> Request {
    let (_, trailers) = wasip3::wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, trailers, None);
    request.set_scheme(Some(&wasip3::http::types::Scheme::Http)).expect("it is a scheme");
    request.set_authority(Some("again.example")).expect("it is a host");
    request.set_path_with_query(Some("/again")).expect("it is a path");
    request
}

impl Guest for PassesOn {
    async fn handle(request: Request) -> Answered {
        let (name, path) = (identity::name(), path(&request));
        println!("{name} has {path}");
        match words(&path).last().copied().unwrap_or_default() {
            "deny" => return answer(403, &[("x-by", &name)], "denied\n"),
            "trap" => std::process::abort(),
            "sleep" => forever().await,
            "later" => {
                spawn_local(async {
                    let again = next(empty()).await.map(|response| response.get_status_code());
                    println!("later: {again:?}");
                });
                return answer(200, &[], "now\n");
            }
            times if times.ends_with("-times") => {
                let times = number(times.trim_end_matches("-times"));
                let mut answered = 0;
                for _ in 0..times {
                    match next(empty()).await {
                        Ok(_) => answered += 1,
                        Err(ErrorCode::LoopDetected) => break,
                        Err(error) => return Err(error),
                    }
                }
                return answer(200, &[], format!("{answered} answers\n"));
            }
            _ => (),
        }
        let headers = with(&request.get_headers(), "x-went-through", &name);
        let response = next(with_headers(request, headers)?).await?;
        let headers = with(&response.get_headers(), "x-came-through", &name);
        with_response_headers(response, headers)
    }
}

wasip3::http::service::export!(PassesOn with_types_in wasip3);

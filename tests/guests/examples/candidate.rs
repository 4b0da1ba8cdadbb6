//! Built against the release candidate of WASI 0.3 and a draft of `wasi:config`: answers a string of its configuration in
//! a field of the header.

use draft::wasi::config::store;
use wasip3_candidate::{
    clocks::monotonic_clock,
    exports::http::handler::Guest,
    http::types::{ErrorCode, Fields, Request, Response},
    wit_future,
};

mod draft {

    wit_bindgen::generate!({ path: "../wit/config-draft", world: "wasi:config/imports" });
}

struct Candidate;

impl Guest for Candidate {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        monotonic_clock::wait_for(1).await;
        let key = request.get_path_with_query().unwrap_or_default();
        let value = store::get(key.trim_start_matches('/'));
        let all = store::get_all().map_or(0, |all| all.len());
        let value = format!("{value:?} of {all}").into_bytes();
        let fields = Fields::from_list(&[("x-value".to_owned(), value)])
            .expect("the field is well-formed and allowed");
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(fields, None, trailers);
        Ok(response)
    }
}

wasip3_candidate::http::service::export!(Candidate with_types_in wasip3_candidate);

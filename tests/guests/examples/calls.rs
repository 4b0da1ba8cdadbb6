//! Calls another plugin and answers its response: `/02/PLUGIN/PATH` by WASI 0.2, `/03/PLUGIN/PATH` by WASI 0.3, and
//! `/02-for/MILLISECONDS/PLUGIN/PATH` waiting no longer than that. A POST passes its body on by WASI 0.3.

use plugind_test_guests::{Answered, answer, number, path, wasip2, wasip3, words};
use std::io::Read;
use wasip2::http::{outgoing_handler, types as http_02};
use wasip3::{
    exports::http::handler::Guest,
    http::{client, service, types as http_03},
    wit_bindgen::StreamReader,
    wit_future,
};

async fn call_03(
    plugin: &str,
    path: &str,
    method: &http_03::Method,
    body: Option<StreamReader<u8>>,
) -> Result<String, http_03::ErrorCode> {
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = http_03::Request::new(http_03::Fields::new(), body, trailers, None);
    let set = request
        .set_method(method)
        .and_then(|()| request.set_scheme(Some(&http_03::Scheme::Http)))
        .and_then(|()| request.set_authority(Some(&format!("{plugin}.plugind"))))
        .and_then(|()| request.set_path_with_query(Some(path)));
    set.map_err(|()| http_03::ErrorCode::HttpRequestUriInvalid)?;
    let response = client::send(request).await?;
    let status = response.get_status_code();
    let (_, read) = wit_future::new(|| Ok(()));
    let (body, _trailers) = http_03::Response::consume_body(response, read);
    Ok(format!("{status} {}", String::from_utf8_lossy(&body.collect().await)))
}

fn call_02(plugin: &str, path: &str, milliseconds: u64) -> Result<String, http_02::ErrorCode> {
    let request = http_02::OutgoingRequest::new(http_02::Fields::new());
    let set = request
        .set_scheme(Some(&http_02::Scheme::Http))
        .and_then(|()| request.set_authority(Some(&format!("{plugin}.plugind"))))
        .and_then(|()| request.set_path_with_query(Some(path)));
    set.map_err(|()| http_02::ErrorCode::HttpRequestUriInvalid)?;
    let options = http_02::RequestOptions::new();
    if milliseconds > 0 {
        let nanoseconds = milliseconds.saturating_mul(1_000_000);
        options.set_first_byte_timeout(Some(nanoseconds)).expect("the host has this option");
    }
    let response = outgoing_handler::handle(request, Some(options))?;
    response.subscribe().block();
    let response = response.get().expect("it is there").expect("it is taken once")?;
    let status = response.status();
    let body = response.consume().expect("the body is taken once");
    let mut text = String::new();
    // The text up to the end is the answer, however the body ended.
    let _ended = body.stream().expect("the stream is taken once").read_to_string(&mut text);
    Ok(format!("{status} {text}"))
}

struct Handler;

impl Guest for Handler {
    async fn handle(request: http_03::Request) -> Answered {
        let (path, method) = (path(&request), request.get_method());
        let (_, read) = wit_future::new(|| Ok(()));
        let (body, _trailers) = http_03::Request::consume_body(request, read);
        let body = matches!(method, http_03::Method::Post).then_some(body);
        let text = match *words(&path) {
            ["02", plugin, ref rest @ ..] => call_02(plugin, &format!("/{}", rest.join("/")), 0)
                .unwrap_or_else(|error| format!("error: {error:?}")),
            ["02-for", time, plugin, ref rest @ ..] => {
                call_02(plugin, &format!("/{}", rest.join("/")), number(time))
                    .unwrap_or_else(|error| format!("error: {error:?}"))
            }
            ["03", plugin, ref rest @ ..] => {
                call_03(plugin, &format!("/{}", rest.join("/")), &method, body)
                    .await
                    .unwrap_or_else(|error| format!("error: {error:?}"))
            }
            _ => "fine".to_owned(),
        };
        Ok(answer(text))
    }
}

service::export!(Handler with_types_in wasip3);

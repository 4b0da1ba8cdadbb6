//! Sends a request and answers the response: `/02/SCHEME/AUTHORITY` by WASI 0.2, `/03/SCHEME/AUTHORITY` by WASI 0.3.

use plugind_test_guests::{fine, wasip2, wasip3};
use std::io::Read;
use wasip2::http::{outgoing_handler, types as http_02};
use wasip3::http::{client, types as http_03};
use wasip3::wit_future;

async fn fetch_03(scheme: &str, authority: &str) -> Result<String, http_03::ErrorCode> {
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = http_03::Request::new(http_03::Fields::new(), None, trailers, None);
    let scheme = match scheme {
        "https" => http_03::Scheme::Https,
        _ => http_03::Scheme::Http,
    };
    let set = request
        .set_scheme(Some(&scheme))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some("/greeting")));
    set.map_err(|()| http_03::ErrorCode::HttpRequestUriInvalid)?;
    let response = client::send(request).await?;
    let (_, read) = wit_future::new(|| Ok(()));
    let (body, _trailers) = http_03::Response::consume_body(response, read);
    Ok(String::from_utf8_lossy(&body.collect().await).into_owned())
}

fn fetch_02(scheme: &str, authority: &str) -> Result<String, http_02::ErrorCode> {
    let request = http_02::OutgoingRequest::new(http_02::Fields::new());
    let scheme = match scheme {
        "https" => http_02::Scheme::Https,
        _ => http_02::Scheme::Http,
    };
    let set = request
        .set_scheme(Some(&scheme))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some("/greeting")));
    set.map_err(|()| http_02::ErrorCode::HttpRequestUriInvalid)?;
    let response = outgoing_handler::handle(request, None)?;
    response.subscribe().block();
    let response = response.get().expect("it is there").expect("it is taken once")?;
    let body = response.consume().expect("the body is taken once");
    let mut text = String::new();
    // The text up to the end is the answer, however the body ended.
    let _ended = body.stream().expect("the stream is taken once").read_to_string(&mut text);
    Ok(text)
}

async fn respond(words: &[&str]) -> String {
    match words {
        ["02", scheme, authority] => {
            fetch_02(scheme, authority).unwrap_or_else(|error| format!("error: {error:?}"))
        }
        ["03", scheme, authority] => {
            fetch_03(scheme, authority).await.unwrap_or_else(|error| format!("error: {error:?}"))
        }
        _ => fine(words).await,
    }
}

plugind_test_guests::serve!(respond);

//! Answers every request natively, as the component `hello-03` does: the physical limit of the benchmark.

use std::convert::Infallible;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

const ANSWER: &[u8] = b"Hello from a wasi:http 0.3 component\n";

async fn answer(_request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER)));
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    Ok(response)
}

#[tokio::main]
async fn main() {
    let address = std::env::args().nth(1).expect("usage: hyper-hello ADDRESS:PORT");
    let listener = TcpListener::bind(&address).await.expect("the address is free");
    loop {
        let Ok((connection, _)) = listener.accept().await else { continue };
        connection.set_nodelay(true).expect("a TCP connection takes TCP_NODELAY");
        tokio::spawn(
            http1::Builder::new().serve_connection(TokioIo::new(connection), service_fn(answer)),
        );
    }
}

//! Requests for a WebSocket: their treatment, and the handshake.

use crate::{
    base::name::PluginName,
    listen::{
        activity::ExchangeGuard,
        http_endpoint::HttpEndpoint,
        response::{Body, Refusal},
        upgrade::{self, Asks, HTTP, Handshake, HandshakeError, WEBSOCKET},
        websocket::{self, Opening, WebSocketOrigin},
    },
    plugin::serve::WebSocketUse,
    pool::{call::NotServed, instances::Pool},
};
use http::{Request, Response, StatusCode, Version};
use http_body_util::{Either, Full};
use std::sync::Arc;
use wasmtime_wasi_http::WasiBody;

/// The treatment of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// The plugin answers it over HTTP.
    Http,
    /// The plugin's handler of WebSockets has it.
    WebSocket,
    /// It is refused: it is not for this protocol, which the route requires.
    Require(&'static str),
}

/// Returns the treatment of a request that asks for this protocol. It depends on the use of WebSockets on its route,
/// and on whether the plugin answers other requests.
pub(super) fn treatment(
    asks: Asks,
    version: Version,
    websocket: WebSocketUse,
    has_http: bool,
) -> Treatment {
    match (asks, websocket) {
        (Asks::WebSocket, WebSocketUse::Serve) => Treatment::WebSocket,
        (Asks::Nothing, _) if has_http => Treatment::Http,
        // In HTTP/2, the status 200 of a page would open the WebSocket (RFC 8441, 5).
        (Asks::WebSocket, WebSocketUse::Ignore) if has_http && version < Version::HTTP_2 => {
            Treatment::Http
        }
        (Asks::WebSocket | Asks::Connect, _) => Treatment::Require(HTTP),
        (Asks::Nothing, _) => Treatment::Require(WEBSOCKET),
    }
}

/// The response to a request that is not for the protocol which its route requires. In HTTP/2, no response can ask for
/// another protocol.
pub(super) fn required(
    plugin: &PluginName,
    version: Version,
    protocol: &'static str,
) -> Response<Body> {
    let why = match protocol {
        WEBSOCKET => format!("plugin {plugin} serves WebSockets only"),
        _ => format!("plugin {plugin} does not serve the protocol that the request asks for"),
    };
    if version >= Version::HTTP_2 {
        return Refusal::new(StatusCode::NOT_IMPLEMENTED, why).into();
    }
    let mut response = Refusal::new(StatusCode::UPGRADE_REQUIRED, why).into();
    upgrade::require(&mut response, protocol);
    response
}

/// Asks a plugin whether it accepts a WebSocket, and serves it in a task of its own.
pub(super) async fn open(
    endpoint: &HttpEndpoint,
    pool: &Arc<Pool>,
    request: &mut Request<WasiBody>,
    exchange: &ExchangeGuard,
) -> Result<Response<Body>, NotServed> {
    let handshake = match Handshake::read(request) {
        Ok(handshake) => handshake,
        Err(error) => {
            let mut response = Refusal::new(error.status(), error.to_string()).into();
            if error == HandshakeError::Version {
                upgrade::require(&mut response, WEBSOCKET);
            }
            return Ok(response);
        }
    };
    let origin = WebSocketOrigin { socket: endpoint.socket.clone(), peer: endpoint.peer };
    let asked = handshake.request(request, endpoint.socket.as_str());
    match websocket::open(pool, asked, &origin).await? {
        Opening::Refused(status) => {
            let why = format!("plugin {} refuses the WebSocket", pool.name());
            Ok(Refusal::new(status, why).into())
        }
        Opening::Accepted(accepted) => {
            let response = handshake.response(accepted.subprotocol.as_deref());
            let (exchange, version) = (exchange.clone(), request.version());
            let (on, closing) = (hyper::upgrade::on(request), endpoint.closing.clone());
            endpoint.websockets.spawn(async move {
                accepted.run(on, closing, origin, version).await;
                drop(exchange);
            });
            Ok(response.map(|()| Either::Right(Full::default())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_treatment_depends_on_the_protocol_the_route_and_the_other_exports() {
        use WebSocketUse::{Ignore, Refuse, Serve};
        for (asks, websocket, has_http, treated) in [
            (Asks::WebSocket, Serve, true, Treatment::WebSocket),
            (Asks::WebSocket, Serve, false, Treatment::WebSocket),
            (Asks::WebSocket, Refuse, true, Treatment::Require(HTTP)),
            (Asks::WebSocket, Ignore, true, Treatment::Http),
            (Asks::WebSocket, Ignore, false, Treatment::Require(HTTP)),
            (Asks::Connect, Serve, true, Treatment::Require(HTTP)),
            (Asks::Nothing, Serve, true, Treatment::Http),
            (Asks::Nothing, Serve, false, Treatment::Require(WEBSOCKET)),
            (Asks::Nothing, Refuse, true, Treatment::Http),
        ] {
            let treatment = treatment(asks, Version::HTTP_11, websocket, has_http);
            assert_eq!(treatment, treated, "{asks:?} {websocket:?}");
        }
    }

    #[test]
    fn a_plugin_that_ignores_websockets_cannot_open_one_over_http_2_by_accident() {
        let treated = |asks| treatment(asks, Version::HTTP_2, WebSocketUse::Ignore, true);
        assert_eq!(treated(Asks::WebSocket), Treatment::Require(HTTP));
        assert_eq!(treated(Asks::Nothing), Treatment::Http);
    }
}

//! Whether a component can have middleware.

use crate::{
    config::Diagnostic,
    plugin::{
        inspection::Inspection, manifest::Manifest, middleware::Middleware, serve::WebSocketUse,
    },
};

/// Why a component cannot have middleware, if its manifest asks for some.
pub(super) fn unusable(inspection: &Inspection, manifest: &Manifest) -> Option<Vec<Diagnostic>> {
    let Middleware { links, origin } = &manifest.middleware;
    let place = origin.0.as_ref().filter(|_| !links.is_empty())?;
    let mut mistakes = Vec::new();
    if inspection.http.is_none() {
        let message = "middleware cannot be used: the component exports no handler of HTTP requests; remove the key";
        mistakes.push(Diagnostic::at(place.clone(), message));
    }
    let serves = manifest.serve.iter().filter(|it| it.websocket == Some(WebSocketUse::Serve));
    mistakes.extend(serves.filter_map(|serve| {
        let message = "serve.websocket cannot be \"serve\" beside middleware, which sees no WebSockets; remove one of them";
        Some(Diagnostic::at(serve.websocket_origin.0.clone()?, message))
    }));
    (!mistakes.is_empty()).then_some(mistakes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Document,
        plugin::inspection::{ConnectionFunctions, WasiVersion},
    };
    use std::path::Path;

    fn parse(text: &str) -> Manifest {
        Manifest::parse(&Document::new(Path::new("m.toml"), text)).unwrap()
    }

    #[test]
    fn middleware_stands_before_requests_and_nothing_else() {
        let manifest = parse("middleware = [\"auth\"]\n");
        let http = Some(WasiVersion::P2);
        assert_eq!(unusable(&Inspection { http, ..Inspection::default() }, &manifest), None);
        let websockets =
            Inspection { websockets: Some(ConnectionFunctions::Async), ..Inspection::default() };
        let mistakes = unusable(&websockets, &manifest).unwrap();
        assert!(mistakes[0].to_string().contains("exports no handler of HTTP requests"));
        let serve = "middleware = [\"auth\"]\n[[serve]]\nwebsocket = \"serve\"\n";
        let both = Inspection { http, ..websockets };
        let mistakes = unusable(&both, &parse(serve)).unwrap();
        assert!(mistakes[0].to_string().starts_with("m.toml:3:13: serve.websocket cannot be"));
    }
}

//! The contract in `wit/`, as Rust.
#![expect(missing_docs, reason = "generated from wit/, which is documented")]

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package plugind:host;

        world plugin {
            include plugind:plugin/stateful-plugin@0.1.0;
            import plugind:plugin/connections@0.1.0;
            import plugind:plugin/blocking-connections@0.1.0;
            import plugind:plugin/websockets@0.1.0;
            import plugind:plugin/blocking-websockets@0.1.0;
            export plugind:plugin/connection-handler@0.1.0;
            export plugind:plugin/blocking-connection-handler@0.1.0;
            export plugind:plugin/datagram-handler@0.1.0;
            export plugind:plugin/websocket-handler@0.1.0;
            export plugind:plugin/blocking-websocket-handler@0.1.0;
        }
    ",
    world: "plugind:host/plugin",
    imports: {
        "plugind:plugin/journal.send": store,
        "plugind:plugin/blocking-connections.[method]connection.read": async,
        "plugind:plugin/blocking-connections.[method]connection.write": async,
        "plugind:plugin/blocking-websockets.[method]websocket.receive": async,
        "plugind:plugin/blocking-websockets.[method]websocket.send": async,
    },
    with: {
        "plugind:plugin/blocking-connections.connection": crate::world::client_connection::ClientConnection,
        "plugind:plugin/blocking-websockets.websocket": crate::world::client_websocket::ClientWebSocket,
        "plugind:plugin/connections.connection": crate::world::client_connection::ClientConnection,
        "plugind:plugin/websockets.websocket": crate::world::client_websocket::ClientWebSocket,
    },
});

/// `wasi:logging`, which no world of `wit/` names: toolchains that import all of a world would import it unasked.
pub mod logging {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package plugind:host;

            world logging {
                import wasi:logging/logging@0.1.0-draft;
            }
        ",
        world: "plugind:host/logging",
            imports: { "wasi:logging/logging.log": store },
    });
}

/// `wasi:keyvalue`, which no world of `wit/` names, for the same reason as `wasi:logging`.
pub mod keyvalue {
    wasmtime::component::bindgen!({
        path: "../../wit/deps/keyvalue",
        world: "wasi:keyvalue/imports",
        imports: { default: async },
        with: {
            "wasi:keyvalue/store.bucket": crate::world::buckets::OpenBucket,
            "wasi:keyvalue/atomics.cas": crate::world::buckets::OpenCas,
        },
    });
}

/// `wasi:messaging`, which no world of `wit/` names, for the same reason as `wasi:logging`.
pub mod messaging {
    wasmtime::component::bindgen!({
        path: "../../wit/deps/messaging",
        world: "wasi:messaging/messaging-request-reply",
        imports: {
            "wasi:messaging/producer.send": async | trappable,
            "wasi:messaging/request-reply.request": async | trappable,
            "wasi:messaging/request-reply.reply": async | trappable,
            default: trappable,
        },
        exports: { default: async | store },
        with: {
            "wasi:messaging/types.client": crate::world::messaging_client::MessagingClient,
            "wasi:messaging/types.message": crate::world::guest_message::GuestMessage,
            "wasi:messaging/request-reply.request-options": crate::world::messaging_client::MessagingOptions,
        },
    });
}

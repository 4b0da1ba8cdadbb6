//! What `wit/` describes, as Rust.
#![expect(missing_docs, reason = "generated from wit/, which is documented")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "plugind:plugin/stateful-plugin",
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
    });
}

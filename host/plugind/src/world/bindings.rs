//! What `wit/` describes, as Rust.
#![expect(missing_docs, reason = "generated from wit/, which is documented")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "plugind:plugin/stateful-plugin",
});

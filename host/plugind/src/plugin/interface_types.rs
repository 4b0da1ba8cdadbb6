//! The interfaces that the host calls, as types.
//!
//! They match `wit/`; a test compares the two.

use crate::plugin::interfaces::{CONTRACT, track};
use wasmparser::PrimitiveValType;

/// A type of a parameter or a result.
pub(super) enum Shape {
    Primitive(PrimitiveValType),
    List(&'static Shape),
    Option(&'static Shape),
    Result(Option<&'static Shape>, Option<&'static Shape>),
    Record(&'static [(&'static str, Shape)]),
    Variant(&'static [(&'static str, Option<Shape>)]),
    Enum(&'static [&'static str]),
    /// A resource of the host, by the beginning of the name of the interface that has it.
    Own {
        interface: &'static str,
        resource: &'static str,
    },
}

/// A function that the host calls.
pub(super) struct Function {
    pub(super) name: &'static str,
    /// Its type as WIT writes it, for messages.
    pub(super) wit: &'static str,
    pub(super) parameters: &'static [Shape],
    pub(super) result: Option<Shape>,
}

/// An interface whose functions the host calls.
pub(super) struct InterfaceTypes {
    /// Its name without the version.
    pub(super) name: &'static str,
    /// The versions whose types are these, without what comes after the second dot.
    pub(super) versions: &'static str,
    pub(super) functions: &'static [Function],
}

/// The interface that an export with this name must be, if it is one that the host calls.
pub(super) fn expected(export: &str) -> Option<&'static InterfaceTypes> {
    let (name, version) = export.split_once('@')?;
    INTERFACES
        .iter()
        .find(|interface| interface.name == name && interface.versions == track(version))
}

const STRING: Shape = Shape::Primitive(PrimitiveValType::String);
const U8: Shape = Shape::Primitive(PrimitiveValType::U8);
const U16: Shape = Shape::Primitive(PrimitiveValType::U16);
const U32: Shape = Shape::Primitive(PrimitiveValType::U32);
const U64: Shape = Shape::Primitive(PrimitiveValType::U64);
const BYTES: Shape = Shape::List(&U8);

const fn http_02(resource: &'static str) -> Shape {
    Shape::Own { interface: "wasi:http/types@0.2.", resource }
}

const fn http_03(resource: &'static str) -> Shape {
    Shape::Own { interface: "wasi:http/types@0.3.", resource }
}

/// Everything that the host calls.
pub(super) const INTERFACES: &[InterfaceTypes] = &[
    InterfaceTypes {
        name: "wasi:http/incoming-handler",
        versions: "0.2",
        functions: &[Function {
            name: "handle",
            wit: "func(request: incoming-request, response-out: response-outparam)",
            parameters: &[http_02("incoming-request"), http_02("response-outparam")],
            result: None,
        }],
    },
    InterfaceTypes {
        name: "wasi:http/handler",
        versions: "0.3",
        functions: &[Function {
            name: "handle",
            wit: "async func(request: request) -> result<response, error-code>",
            parameters: &[http_03("request")],
            result: Some(Shape::Result(Some(&http_03("response")), Some(&ERROR_CODE))),
        }],
    },
    InterfaceTypes {
        name: "wasi:messaging/incoming-handler",
        versions: "0.2.0-draft",
        functions: &[Function {
            name: "handle",
            wit: "func(message: message) -> result<_, error>",
            parameters: &[Shape::Own {
                interface: "wasi:messaging/types@0.2.0-draft",
                resource: "message",
            }],
            result: Some(Shape::Result(None, Some(&MESSAGING_ERROR))),
        }],
    },
    InterfaceTypes { name: "wasi:cli/run", versions: "0.2", functions: RUN_02 },
    InterfaceTypes { name: "wasi:cli/run", versions: "0.3", functions: RUN_03 },
    InterfaceTypes { name: "plugind:plugin/lifecycle", versions: CONTRACT, functions: LIFECYCLE },
    InterfaceTypes { name: "plugind:plugin/handover", versions: CONTRACT, functions: HANDOVER },
    InterfaceTypes {
        name: "plugind:plugin/connection-handler",
        versions: CONTRACT,
        functions: &[handles_connections(&[CONNECTION])],
    },
    InterfaceTypes {
        name: "plugind:plugin/blocking-connection-handler",
        versions: CONTRACT,
        functions: &[handles_connections(&[BLOCKING_CONNECTION])],
    },
    InterfaceTypes {
        name: "plugind:plugin/datagram-handler",
        versions: CONTRACT,
        functions: &[Function {
            name: "handle",
            wit: "async func(socket: string, peer: peer, datagram: list<u8>) -> option<list<u8>>",
            parameters: &[STRING, PEER, BYTES],
            result: Some(Shape::Option(&BYTES)),
        }],
    },
    InterfaceTypes {
        name: "plugind:plugin/websocket-handler",
        versions: CONTRACT,
        functions: &[handles_websockets(&[UPGRADE_REQUEST, WEBSOCKET])],
    },
    InterfaceTypes {
        name: "plugind:plugin/blocking-websocket-handler",
        versions: CONTRACT,
        functions: &[handles_websockets(&[UPGRADE_REQUEST, BLOCKING_WEBSOCKET])],
    },
];

/// The handler of connections that are this resource.
const fn handles_connections(connection: &'static [Shape]) -> Function {
    Function {
        name: "handle",
        wit: "async func(connection: connection) -> result<_, string>",
        parameters: connection,
        result: Some(Shape::Result(None, Some(&STRING))),
    }
}

/// The handler of WebSockets that receives these parameters.
const fn handles_websockets(parameters: &'static [Shape]) -> Function {
    Function {
        name: "handle",
        wit: "async func(request: upgrade-request, socket: websocket) -> result<_, string>",
        parameters,
        result: Some(Shape::Result(None, Some(&STRING))),
    }
}

const CONNECTION: Shape =
    Shape::Own { interface: "plugind:plugin/connections@0.1.", resource: "connection" };
const BLOCKING_CONNECTION: Shape =
    Shape::Own { interface: "plugind:plugin/blocking-connections@0.1.", resource: "connection" };
const WEBSOCKET: Shape =
    Shape::Own { interface: "plugind:plugin/websockets@0.1.", resource: "websocket" };
const BLOCKING_WEBSOCKET: Shape =
    Shape::Own { interface: "plugind:plugin/blocking-websockets@0.1.", resource: "websocket" };

const RUN_02: &[Function] = &[Function {
    name: "run",
    wit: "func() -> result",
    parameters: &[],
    result: Some(Shape::Result(None, None)),
}];

const RUN_03: &[Function] = &[Function {
    name: "run",
    wit: "async func() -> result",
    parameters: &[],
    result: Some(Shape::Result(None, None)),
}];

const LIFECYCLE: &[Function] = &[
    Function {
        name: "start",
        wit: "async func() -> result<_, start-error>",
        parameters: &[],
        result: Some(Shape::Result(None, Some(&START_ERROR))),
    },
    Function {
        name: "health",
        wit: "async func() -> condition",
        parameters: &[],
        result: Some(CONDITION),
    },
    Function {
        name: "stop",
        wit: "async func(reason: stop-reason)",
        parameters: &[STOP_REASON],
        result: None,
    },
];

const HANDOVER: &[Function] = &[
    Function {
        name: "save",
        wit: "async func() -> result<option<list<u8>>, string>",
        parameters: &[],
        result: Some(Shape::Result(Some(&Shape::Option(&BYTES)), Some(&STRING))),
    },
    Function {
        name: "restore",
        wit: "async func(state: list<u8>) -> result<_, string>",
        parameters: &[BYTES],
        result: Some(Shape::Result(None, Some(&STRING))),
    },
];

const START_ERROR: Shape =
    Shape::Variant(&[("configuration", Some(STRING)), ("unavailable", Some(STRING))]);

const CONDITION: Shape =
    Shape::Variant(&[("healthy", None), ("degraded", Some(STRING)), ("unhealthy", Some(STRING))]);

const STOP_REASON: Shape =
    Shape::Enum(&["shutdown", "stop", "restart", "reload", "removed", "idle", "recycle"]);

const PEER: Shape =
    Shape::Variant(&[("ip", Some(IP_ADDRESS)), ("unix", Some(Shape::Option(&PROCESS)))]);

const IP_ADDRESS: Shape = Shape::Record(&[("address", STRING), ("port", U16)]);

const PROCESS: Shape = Shape::Record(&[("pid", U32), ("uid", U32), ("gid", U32)]);

const UPGRADE_REQUEST: Shape = Shape::Record(&[
    ("socket", STRING),
    ("path", STRING),
    ("host", STRING),
    ("subprotocols", Shape::List(&STRING)),
    ("headers", Shape::List(&HEADER_FIELD)),
]);

const HEADER_FIELD: Shape = Shape::Record(&[("name", STRING), ("value", BYTES)]);

const MESSAGING_ERROR: Shape = Shape::Variant(&[
    ("timeout", None),
    ("connection", Some(STRING)),
    ("permission-denied", Some(STRING)),
    ("other", Some(STRING)),
]);

const DNS_ERROR: Shape =
    Shape::Record(&[("rcode", Shape::Option(&STRING)), ("info-code", Shape::Option(&U16))]);

const TLS_ALERT: Shape =
    Shape::Record(&[("alert-id", Shape::Option(&U8)), ("alert-message", Shape::Option(&STRING))]);

const FIELD_SIZE: Shape =
    Shape::Record(&[("field-name", Shape::Option(&STRING)), ("field-size", Shape::Option(&U32))]);

const ERROR_CODE: Shape = Shape::Variant(&[
    ("DNS-timeout", None),
    ("DNS-error", Some(DNS_ERROR)),
    ("destination-not-found", None),
    ("destination-unavailable", None),
    ("destination-IP-prohibited", None),
    ("destination-IP-unroutable", None),
    ("connection-refused", None),
    ("connection-terminated", None),
    ("connection-timeout", None),
    ("connection-read-timeout", None),
    ("connection-write-timeout", None),
    ("connection-limit-reached", None),
    ("TLS-protocol-error", None),
    ("TLS-certificate-error", None),
    ("TLS-alert-received", Some(TLS_ALERT)),
    ("HTTP-request-denied", None),
    ("HTTP-request-length-required", None),
    ("HTTP-request-body-size", Some(Shape::Option(&U64))),
    ("HTTP-request-method-invalid", None),
    ("HTTP-request-URI-invalid", None),
    ("HTTP-request-URI-too-long", None),
    ("HTTP-request-header-section-size", Some(Shape::Option(&U32))),
    ("HTTP-request-header-size", Some(Shape::Option(&FIELD_SIZE))),
    ("HTTP-request-trailer-section-size", Some(Shape::Option(&U32))),
    ("HTTP-request-trailer-size", Some(FIELD_SIZE)),
    ("HTTP-response-incomplete", None),
    ("HTTP-response-header-section-size", Some(Shape::Option(&U32))),
    ("HTTP-response-header-size", Some(FIELD_SIZE)),
    ("HTTP-response-body-size", Some(Shape::Option(&U64))),
    ("HTTP-response-trailer-section-size", Some(Shape::Option(&U32))),
    ("HTTP-response-trailer-size", Some(FIELD_SIZE)),
    ("HTTP-response-transfer-coding", Some(Shape::Option(&STRING))),
    ("HTTP-response-content-coding", Some(Shape::Option(&STRING))),
    ("HTTP-response-timeout", None),
    ("HTTP-upgrade-failed", None),
    ("HTTP-protocol-error", None),
    ("loop-detected", None),
    ("configuration-error", None),
    ("internal-error", Some(Shape::Option(&STRING))),
]);

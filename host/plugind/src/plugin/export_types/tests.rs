//! The types of the functions that a component exports are compared with those that the host calls.

use super::*;
use crate::plugin::{
    contents::Contents, inspect_error::InspectError, inspection::Inspection,
    interface_types::INTERFACES,
};

fn read(text: &str) -> Result<(), ExportError> {
    let bytes = wat::parse_str(text).unwrap();
    match Contents::read(&bytes) {
        Ok(_) => Ok(()),
        Err(InspectError::Export(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

/// A component that exports the interface with one function, and these types and options of its own.
fn exporting(interface: &str, function: &str, signature: &str, core: &str, before: &str) -> String {
    format!(
        "(component {before}
            (core module $m (memory (export \"mem\") 1)
                (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export \"f\") {core} unreachable))
            (core instance $i (instantiate $m))
            (func $f {signature}
                (canon lift (core func $i \"f\") (memory $i \"mem\") (realloc (func $i \"realloc\"))))
            (instance $e (export \"{function}\" (func $f)))
            (export \"{interface}\" (instance $e)))"
    )
}

const HTTP_TYPES: &str = "(import \"wasi:http/types@0.2.3\" (instance $t
        (export \"incoming-request\" (type (sub resource)))
        (export \"response-outparam\" (type (sub resource)))))
    (alias export $t \"incoming-request\" (type $request))
    (alias export $t \"response-outparam\" (type $out))";

#[test]
fn functions_of_the_right_type_are_accepted() {
    let handler = "wasi:http/incoming-handler@0.2.3";
    let signature = "(param \"request\" (own $request)) (param \"response-out\" (own $out))";
    for text in [
        exporting(handler, "handle", signature, "(param i32 i32)", HTTP_TYPES),
        exporting("wasi:cli/run@0.2.0", "run", "(result (result))", "(result i32)", ""),
        exporting("wasi:cli/run@0.3.0", "run", "async (result (result))", "(result i32)", ""),
        // A synchronous function in the place of an asynchronous one can be called.
        exporting("wasi:cli/run@0.3.0", "run", "(result (result))", "(result i32)", ""),
        // The host calls none of these.
        exporting("acme:shelf/things@1.0.0", "run", "", "", ""),
        exporting("wasi:cli/run@0.1.0", "run", "", "", ""),
    ] {
        assert_eq!(read(&text), Ok(()), "{text}");
    }
}

#[test]
fn functions_of_another_type_are_refused_with_both_types() {
    let handler = "wasi:http/incoming-handler@0.2.3";
    let own = "(type $r (resource (rep i32))) (type $o (resource (rep i32)))
        (export $request \"request\" (type $r)) (export $out \"out\" (type $o))";
    let swapped = "(param \"request\" (own $out)) (param \"response-out\" (own $request))";
    let right = "(param \"request\" (own $request)) (param \"response-out\" (own $out))";
    let wanted =
        "it must be handle: func(request: incoming-request, response-out: response-outparam)";
    for (signature, core, before, found) in [
        ("", "", HTTP_TYPES, "func()"),
        (
            swapped,
            "(param i32 i32)",
            HTTP_TYPES,
            "func(request: response-outparam, response-out: incoming-request)",
        ),
        (
            right,
            "(param i32 i32)",
            own,
            "func(request: a resource of its own, response-out: a resource of its own)",
        ),
    ] {
        let text = exporting(handler, "handle", signature, core, before);
        let error = read(&text).unwrap_err().to_string();
        assert_eq!(error, format!("{handler} with handle: {found}; {wanted}"));
    }
    let run = "wasi:cli/run@0.2.0";
    let text = exporting(run, "run", "(result u32)", "(result i32)", "");
    let error = read(&text).unwrap_err().to_string();
    assert_eq!(error, format!("{run} with run: func() -> u32; it must be run: func() -> result"));
}

#[test]
fn a_missing_function_of_the_contract_is_refused_with_its_type() {
    let lifecycle = |reasons: &str| {
        format!(
            "(component
                (core module $m (func (export \"f\") (param i32)))
                (core instance $i (instantiate $m))
                (type $reason (enum {reasons}))
                (export $named \"stop-reason\" (type $reason))
                (func $stop async (param \"reason\" $named) (canon lift (core func $i \"f\")))
                (instance $e (export \"stop-reason\" (type $named)) (export \"stop\" (func $stop)))
                (export \"plugind:plugin/lifecycle@0.1.0\" (instance $e)))"
        )
    };
    // `start` comes first in the interface, so the others are not looked at.
    let error = read(&lifecycle("\"shutdown\"")).unwrap_err().to_string();
    assert_eq!(
        error,
        "plugind:plugin/lifecycle@0.1.0 without the function start; it must have start: async func() -> \
         result<_, start-error>"
    );
}

#[test]
fn an_export_that_is_no_interface_is_refused() {
    let text = "(component
        (core module $m (func (export \"f\")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i \"f\")))
        (export \"wasi:cli/run@0.2.0\" (func $f)))";
    assert_eq!(read(text), Err(ExportError::NotAnInterface("wasi:cli/run@0.2.0".to_owned())));
}

#[test]
fn the_types_are_those_of_the_interface_definitions() {
    let wit = [
        include_str!("../../../../../wit/lifecycle.wit"),
        include_str!("../../../../../wit/handover.wit"),
        include_str!("../../../../../wit/types.wit"),
        include_str!("../../../../../wit/connections.wit"),
        include_str!("../../../../../wit/datagram-handler.wit"),
        include_str!("../../../../../wit/websockets.wit"),
        include_str!("../../../../../wit/deps/http.wit"),
        include_str!("../../../../../wit/deps/cli.wit"),
        include_str!("../../../../../wit/deps/messaging/guest.wit"),
        // The draft indents by four spaces.
        &include_str!("../../../../../wit/deps/messaging/types.wit")
            .replace("\n        ", "\n    "),
    ]
    .concat();
    // A name in a list of cases, fields or names is followed by a payload, a type, or nothing.
    let is_there =
        |name: &str| [",", "(", ": "].iter().any(|end| wit.contains(&format!("\n    {name}{end}")));
    for function in INTERFACES.iter().flat_map(|interface| interface.functions) {
        let written = format!("\n  {}: {};", function.name, function.wit);
        // The definitions of WASI 0.2, whose functions are not `async`, are not in wit/.
        assert!(wit.contains(&written) || function.wit.starts_with("func("), "{written}");
        for shape in function.parameters.iter().chain(&function.result) {
            for name in names(shape) {
                assert!(is_there(name), "{name} of {}", function.name);
            }
        }
    }
}

/// The names of all cases, fields and members in a type.
fn names(shape: &Shape) -> Vec<&'static str> {
    match shape {
        Shape::Primitive(_) | Shape::Own { .. } => Vec::new(),
        Shape::List(inner) | Shape::Option(inner) => names(inner),
        Shape::Result(ok, err) => {
            [ok, err].into_iter().flatten().flat_map(|one| names(one)).collect()
        }
        Shape::Record(fields) => {
            fields.iter().flat_map(|(name, inner)| [vec![*name], names(inner)].concat()).collect()
        }
        Shape::Variant(cases) => cases
            .iter()
            .flat_map(|(name, inner)| {
                [vec![*name], inner.as_ref().map(names).unwrap_or_default()].concat()
            })
            .collect(),
        Shape::Enum(members) => members.to_vec(),
    }
}

#[test]
fn a_proposal_that_the_engine_lacks_is_named_with_the_remedy() {
    for (core, parts) in [
        ("(tag $t (param i32))", ["exception handling", "-fno-exceptions"]),
        ("(type (struct (field i32)))", ["garbage collection", "MoonBit with --target wasm"]),
        (
            "(type $f (func)) (func (param (ref $f)))",
            ["typed function references", "wasm-opt with --disable-gc"],
        ),
        ("(memory 1 1 shared)", ["threads", "-pthread"]),
    ] {
        let bytes = wat::parse_str(format!("(component (core module {core}))")).unwrap();
        let error = Inspection::of(&bytes).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

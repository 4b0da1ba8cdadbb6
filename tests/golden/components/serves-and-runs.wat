;; Answers HTTP requests by WASI 0.2, and is a background program as well.
(component
  (import "wasi:http/types@0.2.6" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $response))
  (core module $code
    (func (export "handle") (param i32 i32))
    (func (export "run") (result i32) i32.const 0))
  (core instance $code (instantiate $code))
  (func $handle (param "request" (own $request)) (param "response-out" (own $response))
    (canon lift (core func $code "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.6" (instance $handler))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))

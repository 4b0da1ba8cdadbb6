;; Answers HTTP requests by a release candidate of WASI 0.3, and imports its types.
(component
  (import "wasi:http/types@0.3.0-rc-2025-09-16" (instance $types
    (export "request" (type (sub resource)))
    (export "response" (type (sub resource)))))
  (import "wasi:clocks/monotonic-clock@0.3.0-rc-2025-09-16" (instance
    (export "now" (func (result u64)))))
  (alias export $types "request" (type $request))
  (alias export $types "response" (type $response))
  (core module $code
    (memory (export "memory") 1)
    (func (export "handle") (param i32) (result i32) unreachable))
  (core instance $code (instantiate $code))
  (alias core export $code "memory" (core memory $memory))
  (func $handle (param "request" (own $request)) (result (result (own $response)))
    (canon lift (core func $code "handle") (memory $memory)))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/handler@0.3.0-rc-2025-09-16" (instance $handler)))

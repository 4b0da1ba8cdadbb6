;; Answers HTTP requests by a component inside it, whose lifecycle it does not export.
(component
  (import "wasi:http/types@0.2.6" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (component $inner
    (import "wasi:http/types@0.2.6" (instance $types
      (export "incoming-request" (type (sub resource)))
      (export "response-outparam" (type (sub resource)))))
    (alias export $types "incoming-request" (type $request))
    (alias export $types "response-outparam" (type $response))
    (core module $code (func (export "handle") (param i32 i32)))
    (core instance $code (instantiate $code))
    (func $handle (param "request" (own $request)) (param "response-out" (own $response))
      (canon lift (core func $code "handle")))
    (instance $handler (export "handle" (func $handle)))
    (export "wasi:http/incoming-handler@0.2.6" (instance $handler))
    (instance $lifecycle)
    (export "plugind:plugin/lifecycle@0.1.0" (instance $lifecycle)))
  (instance $inner (instantiate $inner (with "wasi:http/types@0.2.6" (instance $types))))
  (export "wasi:http/incoming-handler@0.2.6" (instance $inner "wasi:http/incoming-handler@0.2.6")))

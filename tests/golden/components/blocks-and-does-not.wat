;; Serves connections by async functions, and by functions that block, as well.
(component
  (import "plugind:plugin/connections@0.1.0" (instance $async
    (export "connection" (type (sub resource)))))
  (import "plugind:plugin/blocking-connections@0.1.0" (instance $blocking
    (export "connection" (type (sub resource)))))
  (alias export $async "connection" (type $async-connection))
  (alias export $blocking "connection" (type $blocking-connection))
  (core module $code
    (memory (export "memory") 1)
    (func (export "handle") (param i32) (result i32) unreachable))
  (core instance $code (instantiate $code))
  (alias core export $code "memory" (core memory $memory))
  (type $handle-async (func async (param "connection" (own $async-connection)) (result (result (error string)))))
  (func $handle-async (type $handle-async) (canon lift (core func $code "handle") (memory $memory)))
  (instance $async-handler (export "handle" (func $handle-async)))
  (export "plugind:plugin/connection-handler@0.1.0" (instance $async-handler))
  (type $handle-blocking (func async (param "connection" (own $blocking-connection)) (result (result (error string)))))
  (func $handle-blocking (type $handle-blocking) (canon lift (core func $code "handle") (memory $memory)))
  (instance $blocking-handler (export "handle" (func $handle-blocking)))
  (export "plugind:plugin/blocking-connection-handler@0.1.0" (instance $blocking-handler)))

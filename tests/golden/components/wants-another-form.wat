;; Imports an interface of the host in a form of its own.
(component
  (import "wasi:random/random@0.2.6" (instance (export "get-random-bytes" (func (param "many" string)))))
  (core module $code (func (export "run") (result i32) i32.const 0))
  (core instance $code (instantiate $code))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))

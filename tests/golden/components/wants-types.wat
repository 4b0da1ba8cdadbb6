;; Imports types alone, which nobody has to have.
(component
  (import "acme:shapes/types@1.0.0" (instance (type (record (field "x" u32))) (export "point" (type (eq 0)))))
  (core module $code (func (export "run") (result i32) i32.const 0))
  (core instance $code (instantiate $code))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))

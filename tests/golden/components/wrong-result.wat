;; A background program whose result has a type of its own.
(component
  (core module $code (func (export "run") (result i32) i32.const 0))
  (core instance $code (instantiate $code))
  (func $run (result u32) (canon lift (core func $code "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))

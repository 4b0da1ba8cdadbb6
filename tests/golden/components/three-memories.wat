;; Has three memories in one module, and a table of 60,000 elements.
(component
  (core module $code
    (memory 1) (memory 1) (memory 1)
    (table 60000 funcref)
    (func (export "run") (result i32) i32.const 0))
  (core instance $code (instantiate $code))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))

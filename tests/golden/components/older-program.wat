;; A background program by a release candidate of WASI 0.2.
(component
  (core module $code
    (func (export "run") (result i32) i32.const 0))
  (core instance $code (instantiate $code))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0-rc-2023-12-05" (instance $cli)))

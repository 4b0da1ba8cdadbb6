;; A background program that has a state to hand over, for which nobody will ever ask.
(component
  (core module $code (func (export "run") (result i32) i32.const 0))
  (core instance $code (instantiate $code))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli))
  (instance $handover)
  (export "plugind:plugin/handover@0.1.0" (instance $handover)))

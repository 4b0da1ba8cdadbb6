;; Calls a function by a typed reference.
(component
  (core module $code
    (type $answers (func (result i32)))
    (func $answer (export "answer") (type $answers) i32.const 0)
    (func (export "run") (result i32) ref.func $answer call_ref $answers))
  (core instance $code (instantiate $code))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))

;; Throws and catches an exception.
(component
  (core module $code
    (tag $t (param i32))
    (func (export "throws") (result i32)
      (block $h (result i32) (try_table (catch $t $h) (throw $t (i32.const 0))) (i32.const 1)))
    (func (export "run") (result i32) i32.const 0))
  (core instance $code (instantiate $code))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))

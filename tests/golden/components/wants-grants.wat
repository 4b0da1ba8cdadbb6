;; A background program that can use two grants by what it imports.
(component
  (import "wasi:cli/environment@0.2.6" (instance
    (type (list string))
    (export "get-arguments" (func (result 0)))))
  (import "plugind:plugin/credentials@0.1.0" (instance
    (type (list u8)) (type (option 0))
    (export "get" (func (param "key" string) (result 1)))))
  (core module $code (func (export "run") (result i32) i32.const 0))
  (core instance $code (instantiate $code))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))

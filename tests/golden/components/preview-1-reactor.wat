;; What a compiler makes for WASI preview 1 of a library: without a `_start`.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (func (export "_initialize")))

;; Calls the host while the host asks it for room, which the component model forbids.
;; @component
(import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
(core func $random (canon lower (func $random "get-random-u64")))
;; @with
(with "host" (instance (export "random" (func $random))))
;; @libc
(import "host" "random" (func $random (result i64)))
(func $realloced (param $size i32) (if (i32.gt_u (local.get $size) (i32.const 3000)) (then (drop (call $random)))))

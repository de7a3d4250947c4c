;; Calls the host from `post-return`, which the component model forbids.
;; @main
(global $now (mut i32) (i32.const 0))
(func $attack (global.set $now (i32.const 1)))
(func $posted (if (global.get $now) (then (call $log (i32.const 2) (i32.const 0) (i32.const 1)))))

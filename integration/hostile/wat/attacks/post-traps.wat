;; Traps in `post-return`, when all outcomes are there.
;; @main
(global $now (mut i32) (i32.const 0))
(func $attack (global.set $now (i32.const 1)))
(func $posted (if (global.get $now) (then unreachable)))

;; Never comes back from `post-return`.
;; @main
(global $now (mut i32) (i32.const 0))
(func $attack (global.set $now (i32.const 1)))
(func $posted (loop $again (br_if $again (global.get $now))))

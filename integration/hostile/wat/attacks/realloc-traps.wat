;; Traps when it is asked for room for the attacking record, before it has seen any.
;; @libc
(func $realloced (param $size i32) (if (i32.gt_u (local.get $size) (i32.const 3000)) (then unreachable)))

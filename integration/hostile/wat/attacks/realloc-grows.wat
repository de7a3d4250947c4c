;; Takes all memory when it is asked for room for the attacking record, and then has none.
;; @libc
(func $realloced (param $size i32)
  (if (i32.gt_u (local.get $size) (i32.const 3000)) (then
    (loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    unreachable)))

;; Never comes back when it is asked for room for the attacking record.
;; @libc
(func $realloced (param $size i32)
  (loop $again (br_if $again (i32.gt_u (local.get $size) (i32.const 3000)))))

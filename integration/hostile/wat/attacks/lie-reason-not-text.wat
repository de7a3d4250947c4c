;; Rejects with what is no UTF-8.
;; @main
(func $attack)
(func $lie (param $area i32) (param $out i32) (param $count i32)
  (i32.store (i32.const 64) (i32.const 0xfffefdfc))
  (i32.store8 (local.get $out) (i32.const 3))
  (i32.store offset=4 (local.get $out) (i32.const 64))
  (i32.store offset=8 (local.get $out) (i32.const 4)))

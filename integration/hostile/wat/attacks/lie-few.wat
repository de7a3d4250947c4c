;; Returns one outcome too few.
;; @main
(func $attack)
(func $lie (param $area i32) (param $out i32) (param $count i32)
  (i32.store offset=8 (local.get $area) (i32.sub (local.get $count) (i32.const 1))))

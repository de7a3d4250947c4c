;; Returns neither ok nor error.
;; @main
(func $attack)
(func $lie (param $area i32) (param $out i32) (param $count i32) (i32.store8 (local.get $area) (i32.const 2)))

;; Returns an outcome of a kind that there is not.
;; @main
(func $attack)
(func $lie (param $area i32) (param $out i32) (param $count i32) (i32.store8 (local.get $out) (i32.const 4)))

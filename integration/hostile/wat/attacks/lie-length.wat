;; Returns a list of four billion outcomes.
;; @main
(func $attack)
(func $lie (param $area i32) (param $out i32) (param $count i32)
  (i32.store offset=8 (local.get $area) (i32.const -1)))

;; Returns a list that is beyond its memory.
;; @main
(func $attack)
(func $lie (param $area i32) (param $out i32) (param $count i32)
  (i32.store offset=4 (local.get $area) (i32.const 0x7ffffffc)))

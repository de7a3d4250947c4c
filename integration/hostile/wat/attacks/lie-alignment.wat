;; Returns a list that is not aligned.
;; @main
(func $attack)
(func $lie (param $area i32) (param $out i32) (param $count i32)
  (i32.store offset=4 (local.get $area) (i32.add (i32.load offset=4 (local.get $area)) (i32.const 1))))

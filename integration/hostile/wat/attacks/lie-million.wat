;; Returns as many outcomes as its memory has room for.
;; @main
(func $attack (drop (memory.grow (i32.const 900))))
(func $lie (param $area i32) (param $out i32) (param $count i32)
  (memory.fill (i32.const 1048576) (i32.const 0) (i32.const 50331648))
  (i32.store offset=4 (local.get $area) (i32.const 1048576))
  (i32.store offset=8 (local.get $area) (i32.const 4194304)))

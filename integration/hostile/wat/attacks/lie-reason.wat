;; Rejects with ten megabytes of text.
;; @main
(func $attack (drop (memory.grow (i32.const 200))))
(func $lie (param $area i32) (param $out i32) (param $count i32)
  (i32.store8 (local.get $out) (i32.const 3))
  (i32.store offset=4 (local.get $out) (i32.const 1048576))
  (i32.store offset=8 (local.get $out) (i32.const 10485760)))

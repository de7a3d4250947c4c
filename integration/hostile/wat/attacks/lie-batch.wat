;; Fails the batch as a whole, in words of ten megabytes.
;; @main
(func $attack (drop (memory.grow (i32.const 200))))
(func $lie (param $area i32) (param $out i32) (param $count i32)
  (i32.store8 (local.get $area) (i32.const 1))
  (i32.store offset=4 (local.get $area) (i32.const 1048576))
  (i32.store offset=8 (local.get $area) (i32.const 10485760)))

;; Emits 100,000 outputs with a value of a megabyte each, which are all the same bytes.
;; @main
(func $attack (drop (memory.grow (i32.const 400))))
(func $lie (param $area i32) (param $out i32) (param $count i32) (local $at i32)
  ;; at 2 MiB, 72 bytes each: no topic, partition, timestamp, key or headers; the value is the MiB at 1 MiB
  (local.set $at (i32.const 2097152))
  (loop $next
    (i32.store8 offset=52 (local.get $at) (i32.const 1))
    (i32.store offset=56 (local.get $at) (i32.const 1048576))
    (i32.store offset=60 (local.get $at) (i32.const 1048576))
    (local.set $at (i32.add (local.get $at) (i32.const 72)))
    (br_if $next (i32.lt_u (local.get $at) (i32.const 9297152))))
  (i32.store8 (local.get $out) (i32.const 2))
  (i32.store offset=4 (local.get $out) (i32.const 2097152))
  (i32.store offset=8 (local.get $out) (i32.const 100000)))

;; Emits as many outputs as there is room for, each with a key, a value and a topic of one byte: what is smallest in the
;; guest and largest in the host.
;; @main
(func $attack (drop (memory.grow (i32.const 400))))
(func $lie (param $area i32) (param $out i32) (param $count i32) (local $at i32)
  (local.set $at (i32.const 2097152))
  (loop $next
    (i32.store8 offset=40 (local.get $at) (i32.const 1))
    (i32.store offset=48 (local.get $at) (i32.const 1))
    (i32.store8 offset=52 (local.get $at) (i32.const 1))
    (i32.store offset=60 (local.get $at) (i32.const 1))
    (local.set $at (i32.add (local.get $at) (i32.const 72)))
    (br_if $next (i32.lt_u (local.get $at) (i32.const 26097152))))
  (i32.store8 (local.get $out) (i32.const 2))
  (i32.store offset=4 (local.get $out) (i32.const 2097152))
  (i32.store offset=8 (local.get $out) (i32.const 333000)))

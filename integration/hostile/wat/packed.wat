;; The packed world by hand; otherwise as typed.wat. The window's cell is at 8, its buffer of 4 KiB at 1024; $lie is called
;; when all records are settled, and gets where the cell and the buffer are, and the count.
(component
  (import "pelton:transform/log@0.1.0" (instance $log
    (type $level' (enum "trace" "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "message" string)))))
  (import "pelton:transform/packed-sink@0.1.0" (instance $sink
    (export "window" (func (param "cell" (list u8)) (param "outcomes" (list u8)) (result u64)))))
  (type $topics' (record (field "inputs" (list string)) (field "outputs" (list string))))
  (import "topics" (type $topics (eq $topics')))
  (; @component ;)

  (core module $libc
    (; @libc ;)
    (memory (export "memory") 4)
    (global $next (mut i32) (i32.const 65536))
    (func (export "reset") (global.set $next (i32.const 65536)))
    (func $realloc (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32)
      (result i32)
      (local $at i32)
      (call $realloced (local.get $size))
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (block $enough
        (loop $grow
          (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
          (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
          unreachable))
      (local.get $at)))
  (core instance $libc (instantiate $libc (; @with ;)))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "cabi_realloc" (core func $realloc))
  (core func $log8 (canon lower (func $log "log") (memory $memory)))
  (core func $log16 (canon lower (func $log "log") (memory $memory) string-encoding=utf16))
  (; @lower ;)
  (core func $window (canon lower (func $sink "window") (memory $memory)))

  (core module $main
    (import "libc" "memory" (memory 4))
    (import "libc" "reset" (func $reset))
    (import "libc" "cabi_realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "host" "log" (func $log (param i32 i32 i32)))
    (import "host" "log16" (func $log16 (param i32 i32 i32)))
    (import "host" "window" (func $window (param i32 i32 i32 i32) (result i64)))
    (; @main ;)
    (func (export "abi-version") (result i32) (i32.const 1))
    (func (export "configure") (param i32 i32 i32 i32 i32 i32) (result i32)
      (i64.store (i32.const 8) (call $window (i32.const 8) (i32.const 8) (i32.const 1024) (i32.const 4096)))
      (call $configured)
      (i32.store8 (i32.const 48) (i32.const 0))
      (i32.const 48))
    (func (export "process") (param $at i32) (param $bytes i32) (result i32)
      (local $end i32) (local $value i32) (local $key i32) (local $count i32) (local $lies i32)
      (local.set $end (i32.add (local.get $at) (local.get $bytes)))
      (i64.store (i32.const 8) (i64.const 0))
      ;; outcomes of zeros are `keep`
      (memory.fill (i32.const 1024) (i32.const 0) (i32.const 4096))
      (block $done
        (loop $next
          (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
          (local.set $key (i32.load offset=12 (local.get $at)))
          (if (i32.lt_s (local.get $key) (i32.const 0)) (then (local.set $key (i32.const 0))))
          (local.set $value (i32.add (i32.add (local.get $at) (i32.const 40)) (local.get $key)))
          (if (i32.gt_s (i32.load offset=32 (local.get $at)) (i32.const 5))
            (then (if (i32.eq (i32.load (local.get $value)) (i32.const 0x61747461))
              (then (call $attack) (local.set $lies (i32.const 1))))))
          (local.set $count (i32.add (local.get $count) (i32.const 1)))
          (i32.store (i32.const 12) (i32.mul (local.get $count) (i32.const 4)))
          (i32.store (i32.const 8) (local.get $count))
          (local.set $at (i32.add (local.get $at) (i32.load (local.get $at))))
          (br $next)))
      (if (local.get $lies) (then (call $lie (i32.const 8) (i32.const 1024) (local.get $count))))
      (i32.store8 (i32.const 48) (i32.const 0))
      (i32.const 48))
    (func (export "post") (param i32) (call $posted) (call $reset)))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "host" (instance
      (export "log" (func $log8)) (export "log16" (func $log16)) (export "window" (func $window))
      (; @host ;)))))

  (type $settings (list (tuple string string)))
  (type $verdict (result (error string)))
  (func (export "abi-version") (result u32) (canon lift (core func $main "abi-version")))
  (func (export "configure") (param "settings" $settings) (param "topics" $topics) (result $verdict)
    (canon lift (core func $main "configure") (memory $memory) (realloc $realloc)))
  (func (export "process-packed") (param "batch" (list u8)) (result $verdict)
    (canon lift (core func $main "process") (memory $memory) (realloc $realloc) (post-return (func $main "post")))))

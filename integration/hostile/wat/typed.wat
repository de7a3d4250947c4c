;; The typed world by hand. Every record is kept; for one whose value begins with "attack", $attack is called and, at the
;; end, $lie, which may falsify the result: it gets where that is, where the attacker's outcome is, and the count. An attack
;; (attacks/*.wat) is spliced in at `@component`, `@libc`, `@with`, `@lower`, `@host` and `@main`; hooks that it does not
;; define do nothing.
(component
  (import "pelton:transform/log@0.1.0" (instance $log
    (type $level' (enum "trace" "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "message" string)))))
  (import "pelton:transform/types@0.1.0" (instance $types
    (type $bytes (list u8))
    (type $maybe (option $bytes))
    (type $header' (record (field "key" string) (field "value" $maybe)))
    (export "header" (type $header (eq $header')))
    (type $headers (list $header))
    (type $message' (record
      (field "topic" string) (field "partition" s32) (field "offset" s64) (field "timestamp-ms" s64)
      (field "key" $maybe) (field "value" $maybe) (field "headers" $headers)))
    (export "message" (type $message (eq $message')))
    (type $output' (record
      (field "topic" (option string)) (field "partition" (option s32)) (field "timestamp-ms" (option s64))
      (field "key" $maybe) (field "value" $maybe) (field "headers" $headers)))
    (export "output" (type $output (eq $output')))
    (type $outputs (list $output))
    (type $outcome' (variant (case "keep") (case "drop") (case "emit" $outputs) (case "reject" string)))
    (export "outcome" (type $outcome (eq $outcome')))))
  (alias export $types "message" (type $message))
  (alias export $types "outcome" (type $outcome))
  (; @component ;)

  (core module $libc
    (; @libc ;)
    (memory (export "memory") 4)
    (global $next (mut i32) (i32.const 65536))
    (func (export "reset") (global.set $next (i32.const 65536)))
    ;; hands out memory from 64 KiB on, and takes it all back after each call
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

  (core module $main
    (import "libc" "memory" (memory 4))
    (import "libc" "reset" (func $reset))
    (import "libc" "cabi_realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "host" "log" (func $log (param i32 i32 i32)))
    (import "host" "log16" (func $log16 (param i32 i32 i32)))
    (; @main ;)
    (func (export "configure") (param i32 i32) (result i32)
      (call $configured)
      (i32.store8 (i32.const 48) (i32.const 0))
      (i32.const 48))
    (func (export "process") (param $at i32) (param $count i32) (result i32)
      (local $out i32) (local $left i32) (local $liar i32)
      (local.set $out (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.mul (local.get $count) (i32.const 12))))
      ;; an outcome of zeros is `keep`
      (memory.fill (local.get $out) (i32.const 0) (i32.mul (local.get $count) (i32.const 12)))
      (local.set $left (local.get $count))
      (block $done
        (loop $next
          (br_if $done (i32.eqz (local.get $left)))
          (if (i32.gt_u (i32.load offset=52 (local.get $at)) (i32.const 5))
            (then (if (i32.eq (i32.load (i32.load offset=48 (local.get $at))) (i32.const 0x61747461))
              (then
                (call $attack)
                (local.set $liar (i32.add (local.get $out)
                  (i32.mul (i32.sub (local.get $count) (local.get $left)) (i32.const 12))))))))
          (local.set $at (i32.add (local.get $at) (i32.const 64)))
          (local.set $left (i32.sub (local.get $left) (i32.const 1)))
          (br $next)))
      (i32.store (i32.const 32) (i32.const 0))
      (i32.store (i32.const 36) (local.get $out))
      (i32.store (i32.const 40) (local.get $count))
      (if (local.get $liar) (then (call $lie (i32.const 32) (local.get $liar) (local.get $count))))
      (i32.const 32))
    (func (export "post") (param i32) (call $posted) (call $reset)))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "host" (instance (export "log" (func $log8)) (export "log16" (func $log16)) (; @host ;)))))

  (type $settings (list (tuple string string)))
  (type $configured (result (error string)))
  (func (export "configure") (param "settings" $settings) (result $configured)
    (canon lift (core func $main "configure") (memory $memory) (realloc $realloc)))
  (type $batch (list $message))
  (type $outcomes (list $outcome))
  (type $processed (result $outcomes (error string)))
  (func (export "process") (param "batch" $batch) (result $processed)
    (canon lift (core func $main "process") (memory $memory) (realloc $realloc) (post-return (func $main "post")))))

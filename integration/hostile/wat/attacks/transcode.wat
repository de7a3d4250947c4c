;; Hands a text of ten megabytes to the component beside it, which takes it in another encoding, for ever: the conversion is
;; wasmtime's own work, which burns no fuel.
;; @beside
(component $taker
  (core module $memory
    (memory (export "memory") 400)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
    (func (export "take") (param i32 i32)))
  (core instance $its (instantiate $memory))
  (func (export "take") (param "text" string)
    (canon lift (core func $its "take") (memory $its "memory") (realloc (func $its "realloc")) string-encoding=utf16)))
(instance $beside (instantiate $taker))
;; @component
(import "beside" (instance $beside (export "take" (func (param "text" string)))))
;; @lower
(core func $take (canon lower (func $beside "take") (memory $memory)))
;; @host
(export "take" (func $take))
;; @main
(import "host" "take" (func $take (param i32 i32)))
(func $attack
  (drop (memory.grow (i32.const 200)))
  (memory.fill (i32.const 1048576) (i32.const 0x31) (i32.const 10485760))
  (loop $again (call $take (i32.const 1048576) (i32.const 10485760)) (br $again)))

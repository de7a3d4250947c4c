;; Logs lines of ten megabytes in UTF-16, which the host must translate, for ever.
;; @main
(func $attack
  (drop (memory.grow (i32.const 200)))
  (memory.fill (i32.const 1048576) (i32.const 0x31) (i32.const 10485760))
  (loop $again (call $log16 (i32.const 2) (i32.const 1048576) (i32.const 5242880)) (br $again)))

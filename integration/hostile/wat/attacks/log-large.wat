;; Logs lines of ten megabytes, for ever.
;; @main
(func $attack
  (drop (memory.grow (i32.const 200)))
  (loop $again (call $log (i32.const 2) (i32.const 1048576) (i32.const 10485760)) (br $again)))

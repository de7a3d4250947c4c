;; Logs text that is not in its memory.
;; @main
(func $attack (call $log (i32.const 2) (i32.const 0) (i32.const -1)))

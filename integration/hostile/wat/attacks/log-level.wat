;; Logs at a level that there is not.
;; @main
(func $attack (call $log (i32.const 77) (i32.const 0) (i32.const 0)))

;; Calls the host while it is instantiated, without end.
;; @main
(func $loop (loop $again (call $log (i32.const 2) (i32.const 0) (i32.const 1000)) (br $again)))
(start $loop)

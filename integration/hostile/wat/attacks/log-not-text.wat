;; Logs what is no UTF-8.
;; @main
(func $attack (i32.store (i32.const 64) (i32.const 0xfffefdfc)) (call $log (i32.const 2) (i32.const 64) (i32.const 4)))

;; Fills and copies its memory for ever: instructions whose work is as large as the memory.
;; @main
(func $attack
  (drop (memory.grow (i32.const 200)))
  (loop $again
    (memory.fill (i32.const 1048576) (i32.const 1) (i32.const 10485760))
    (memory.copy (i32.const 1048576) (i32.const 1048577) (i32.const 10485760))
    (br $again)))

;; Writes right behind its memory, where a neighbour's might be.
;; @main
(func $attack (i64.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i64.const -1)))

;; Fills, copies and initialises a table for ever: instructions whose work is as large as the table.
;; @main
(table $t 20000 funcref)
(func $attack
  (loop $again
    (table.fill $t (i32.const 0) (ref.null func) (i32.const 20000))
    (table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 19999))
    (br $again)))

;; Grows a table one by one, for ever.
;; @main
(table $t 1 funcref)
(func $attack (loop $again (drop (table.grow $t (ref.null func) (i32.const 1))) (br $again)))

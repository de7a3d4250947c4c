;; Grows a table to what it can get, and insists.
;; @main
(table $t 1 funcref)
(func $attack
  (loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
  (drop (table.grow $t (ref.null func) (i32.const 10000000)))
  unreachable)

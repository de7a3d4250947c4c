;; Calls through an empty slot of a table, and with a wrong type beyond it.
;; @main
(table $t 10 funcref)
(type $f (func))
(func $attack (call_indirect $t (type $f) (i32.const 3)))

;; Reads behind the end of a table.
;; @main
(table $t 10 funcref)
(type $f (func))
(func $attack (call_indirect $t (type $f) (i32.const -1)))

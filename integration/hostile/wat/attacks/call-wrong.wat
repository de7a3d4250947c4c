;; Calls a function by another type than its own.
;; @main
(table $t 1 funcref)
(func $other (param i64) (result i64) (local.get 0))
(elem (table $t) (i32.const 0) func $other)
(type $f (func))
(func $attack (call_indirect $t (type $f) (i32.const 0)))

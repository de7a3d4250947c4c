;; Traps while it is instantiated.
;; @main
(func $trap unreachable)
(start $trap)

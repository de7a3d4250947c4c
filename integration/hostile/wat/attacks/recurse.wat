;; Calls itself for ever.
;; @main
(func $attack (call $attack))

;; Writes four gigabytes behind its memory, as far as an address and an offset reach.
;; @main
(func $attack (i64.store offset=4294967295 (i32.const -1) (i64.const -1)))

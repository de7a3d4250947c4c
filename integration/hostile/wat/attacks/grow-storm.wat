;; Asks for a page of memory, again and again, also when there is none left.
;; @main
(func $attack (loop $again (drop (memory.grow (i32.const 1))) (br $again)))

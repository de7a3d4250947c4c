;; Never comes back from instantiation.
;; @main
(func $loop (loop $again (br $again)))
(start $loop)

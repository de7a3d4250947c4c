;; A second memory, larger than the transform may have, from the start.
;; @main
(memory $second 500)

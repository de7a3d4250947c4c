;; Makes an integer of a float that is none.
;; @main
(func $attack (drop (i32.trunc_f32_s (f32.const nan))))

//! Owns what is done to a guest's text before people see it: cut, and made harmless. Promises not to cut a character in two.

/// Its beginning, at most so many bytes.
pub(crate) fn head(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Its end, at most so many bytes.
pub(crate) fn tail(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}

/// Text from outside, on one line and without control characters: they are escaped, so that it can neither look like
/// another line of a log nor move a terminal's cursor.
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_and_ends_are_cut_between_characters() {
        assert_eq!((head("éé", 3), head("éé", 9), tail("éé", 3), tail("éé", 9)), ("é", "éé", "é", "éé"));
    }

    #[test]
    fn nothing_from_outside_makes_a_line_or_moves_the_cursor() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\nc\u{9b}Grüße"), "a\\u{1b}[2Jb\\r\\nc\\u{9b}Grüße");
    }
}

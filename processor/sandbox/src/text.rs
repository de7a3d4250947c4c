//! Owns what is done to a guest's text before people see it: it is cut, made harmless, and rid of secrets. Promises not
//! to cut a character in two. Hiding secrets helps when a guest quotes them by mistake; one that wants to leak them can
//! encode them differently.

/// What is written instead of a secret.
const HIDDEN: &str = "***";
/// Shorter ones are not looked for: they would be found everywhere.
const SECRET_BYTES_MIN: usize = 4;

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

/// How these values may be quoted: without the space around them, as they are and as Rust's `{:?}` writes them. The longest
/// come first, for one may hold another.
pub(crate) fn quotes<'a>(values: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut quotes = Vec::new();
    for value in values.map(str::trim).filter(|value| value.len() >= SECRET_BYTES_MIN) {
        let debug = format!("{value:?}");
        quotes.extend([value.to_owned(), debug[1..debug.len() - 1].to_owned()]);
    }
    quotes.sort_by_key(|quote| std::cmp::Reverse(quote.len()));
    quotes
}

/// The text without these. Where only the end of a text was kept it may begin within one: what is left of that is hidden too.
pub(crate) fn masked(text: &str, quotes: &[String]) -> String {
    let mut text = quotes.iter().fold(text.to_owned(), |text, quote| text.replace(quote, HIDDEN));
    for quote in quotes {
        let lengths = SECRET_BYTES_MIN..quote.len().min(text.len() + 1);
        let mut rests = lengths.rev().filter_map(|length| quote.get(quote.len() - length..));
        if let Some(rest) = rests.find(|rest| text.starts_with(*rest)) {
            text.replace_range(..rest.len(), HIDDEN);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_however_they_are_quoted() {
        let quotes = quotes([" hunter2 ", "hunter2-longer", "two\nlines", "abc"].into_iter());
        let masked = |text| masked(text, &quotes);
        assert_eq!(masked("bad hunter2, or hunter2-longer, or hunter2"), "bad ***, or ***, or ***");
        assert_eq!(masked("two\nlines, or \"two\\nlines\""), "***, or \"***\"");
        assert_eq!(masked("abc is short, and hunter another word"), "abc is short, and hunter another word");
        assert_eq!(masked("nter2-longer is what is left of a cut"), "*** is what is left of a cut");
        assert_eq!(masked("er2"), "er2");
        assert_eq!(masked(""), "");
    }

    #[test]
    fn beginnings_and_ends_are_cut_between_characters() {
        assert_eq!((head("éé", 3), head("éé", 9), tail("éé", 3), tail("éé", 9)), ("é", "éé", "é", "éé"));
    }

    #[test]
    fn nothing_from_outside_makes_a_line_or_moves_the_cursor() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\nc\u{9b}Grüße"), "a\\u{1b}[2Jb\\r\\nc\\u{9b}Grüße");
    }
}

//! How an error looks on a terminal: code, sentence, place, source line with a caret, what to do.
//!
//! Promises that no hidden byte of a source line is shown, and that control characters in a file cannot move a
//! terminal's cursor. Lines that are too long are cut around the caret.

use std::fmt::Write;
use std::ops::Range;

use super::error::{ConfigError, Place};
use super::source::{Position, Source};
use super::types::HIDDEN;

/// Characters of a source line that are shown at most.
const WIDEST: usize = 120;

/// A source line as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    pub position: Position,
    /// None where it cannot be known what in it is secret.
    pub line: Option<String>,
    /// Where the carets go in `line`, in characters.
    pub mark: Range<usize>,
}

/// Whether to use ANSI colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    On,
    Off,
}

impl Snippet {
    pub fn of(source: &Source, span: Range<usize>) -> Self {
        let position = source.position(span.start);
        let Some(hidden) = source.hidden() else {
            return Self { position, line: None, mark: 0..1 };
        };
        let (line, mark) = masked(&source.text, source.line(span.start), &span, hidden);
        let (line, mark) = cut(line, mark);
        Self { position, line: Some(line), mark }
    }

    /// The line as it is: only where the caller knows that nothing in it is secret.
    pub fn plain(source: &Source, at: usize) -> Self {
        let (line, mark) = masked(&source.text, source.line(at), &(at..at + 1), &[]);
        let (line, mark) = cut(line, mark);
        Self { position: source.position(at), line: Some(line), mark }
    }
}

/// The characters of a line with hidden runs replaced, and where `span` came to lie among them.
fn masked(text: &str, line: Range<usize>, span: &Range<usize>, hidden: &[Range<usize>]) -> (Vec<char>, Range<usize>) {
    let mut shown = Vec::new();
    let mut mark: Option<Range<usize>> = None;
    let mut covered = None;
    let near: Vec<_> = hidden.iter().filter(|range| range.start <= line.end && range.end >= line.start).collect();
    for (offset, c) in text[line.clone()].char_indices() {
        let at = line.start + offset;
        let secret = near.iter().position(|range| range.contains(&at));
        match secret {
            Some(_) if secret == covered => {}
            Some(_) => shown.extend(HIDDEN.chars()),
            None => shown.push(if c.is_control() { ' ' } else { c }),
        }
        covered = secret;
        if span.contains(&at) {
            let last = shown.len();
            let width = if secret.is_some() { HIDDEN.len() } else { 1 };
            mark.get_or_insert(last - width..last).end = last;
        }
    }
    let end = shown.len();
    (shown, mark.unwrap_or(end..end + 1))
}

/// At most `WIDEST` characters of a line, the mark among them.
fn cut(line: Vec<char>, mark: Range<usize>) -> (String, Range<usize>) {
    if line.len() <= WIDEST {
        return (line.into_iter().collect(), mark);
    }
    let start = mark.start.saturating_sub(WIDEST / 2).min(line.len() - WIDEST);
    let end = (start + WIDEST).min(line.len());
    let (before, after) = (if start > 0 { "…" } else { "" }, if end < line.len() { "…" } else { "" });
    let shift = |at: usize| at.clamp(start, end) - start + before.chars().count();
    let mark = shift(mark.start)..shift(mark.end).max(shift(mark.start) + 1);
    (format!("{before}{}{after}", line[start..end].iter().collect::<String>()), mark)
}

pub fn error(error: &ConfigError, paint: Paint) -> String {
    let mut text = format!("{}: {}\n", paint.red(&format!("error[{}]", error.code)), paint.bold(&error.message));
    let label = error.suggestion.as_ref().map(|meant| format!("did you mean `{meant}`?"));
    let gutter = gutter(&error.place).max(error.note.as_ref().map_or(1, |(_, place)| self::gutter(place)));
    place(&mut text, &error.place, label.as_deref(), gutter, paint);
    if let Some((note, at)) = &error.note {
        remark(&mut text, gutter, "note", note, paint);
        place(&mut text, at, None, gutter, paint);
    }
    if !error.path.is_empty() {
        remark(&mut text, gutter, "path", &error.path, paint);
    }
    if let Some(help) = &error.help {
        remark(&mut text, gutter, "help", help, paint);
    }
    text
}

fn gutter(place: &Place) -> usize {
    match place {
        Place::File { at: Some(at), .. } => at.position.line.to_string().len(),
        _ => 1,
    }
}

fn remark(text: &mut String, gutter: usize, kind: &str, what: &str, paint: Paint) {
    push(text, format_args!("{:gutter$} {} {}: {what}\n", "", paint.blue("="), paint.bold(kind)));
}

fn place(text: &mut String, place: &Place, label: Option<&str>, gutter: usize, paint: Paint) {
    if *place != Place::Nowhere {
        push(text, format_args!("{:gutter$}{} {place}\n", "", paint.blue("-->")));
    }
    let bar = paint.blue("|");
    match place {
        Place::File { at: Some(Snippet { position, line: Some(line), mark }), .. } => {
            let number = paint.blue(&format!("{:>gutter$}", position.line));
            let carets = "^".repeat(mark.len().max(1));
            let under = [Some(carets.as_str()), label].into_iter().flatten().collect::<Vec<_>>().join(" ");
            push(text, format_args!("{:gutter$} {bar}\n{number} {bar} {line}\n", ""));
            push(text, format_args!("{:gutter$} {bar} {:indent$}{}\n", "", "", paint.red(&under), indent = mark.start));
        }
        _ => {
            if let Some(label) = label {
                remark(text, gutter, "help", label, paint);
            }
        }
    }
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(what);
}

impl Paint {
    fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn blue(self, text: &str) -> String {
        self.with("1;34", text)
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, style: &str, text: &str) -> String {
        match self {
            Self::On => format!("\x1b[{style}m{text}\x1b[0m"),
            Self::Off => text.to_owned(),
        }
    }
}

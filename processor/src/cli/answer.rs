//! How the tools answer: a table or a JSON document on stdout, remarks and errors on stderr, an exit code.
//!
//! What comes out of Kafka (headers, keys, client ids) can contain anything: none of it reaches a terminal unescaped.

use pelton_kafka::Cause;
use serde_json::{Value, json};

use super::{Exit, Global, Output, logging, print};
use crate::tools::{Cluster, ToolError};
pub(super) use pelton_sandbox::harmless;

/// What a tool found: for people, for programs, and remarks for people.
pub(super) struct Answer {
    pub text: String,
    pub json: Value,
    pub remarks: Vec<String>,
}

/// From a configuration to an answer on the screen.
pub(super) fn answer(
    global: &Global,
    output: Output,
    work: impl FnOnce(&Cluster<'_>) -> Result<Answer, ToolError>,
) -> Exit {
    // It may be the configuration of another machine: modules and directories need not be here, only secrets.
    let loaded = match global.load(false) {
        Ok(loaded) => loaded,
        Err(errors) => return global.refuse(&errors),
    };
    logging::init(global);
    match Cluster::new(&loaded).and_then(|cluster| work(&cluster)) {
        Ok(answer) => {
            let exit = match output {
                Output::Text => print(&answer.text),
                Output::Json => print(&format!("{:#}\n", answer.json)),
            };
            answer.remarks.iter().for_each(|remark| eprintln!("{remark}"));
            exit
        }
        Err(error) => refuse(global, output, &error),
    }
}

fn refuse(global: &Global, output: Output, error: &ToolError) -> Exit {
    if let ToolError::Config(errors) = error {
        return global.refuse(errors);
    }
    if output == Output::Json {
        let error = json!({"code": error.code(), "message": error.to_string(), "help": error.advice()});
        // The exit code says that it failed; whether it could be said is of no interest then.
        let _ = print(&format!("{:#}\n", json!({"ok": false, "error": error})));
    }
    eprintln!("error[{}]: {error}\n  = help: {}", error.code(), error.advice());
    exit(error)
}

fn exit(error: &ToolError) -> Exit {
    match error {
        ToolError::Config(errors) => Exit::from(errors),
        ToolError::Client(_) | ToolError::NoTopic(_) | ToolError::NoDeadLetters(_) => Exit::Config,
        ToolError::Usage(_) => Exit::Usage,
        ToolError::Unreached(error) if error.cause() == Cause::Authentication => Exit::Auth,
        ToolError::Unreached(_) | ToolError::Unreachable(_) => Exit::Unavailable,
        ToolError::Denied(_) | ToolError::WriteDenied(_) => Exit::Auth,
        ToolError::Refused(_) | ToolError::RecordRefused(_) | ToolError::NoRoute { .. } => Exit::Failed,
        ToolError::Active { .. } | ToolError::NotWritten { .. } | ToolError::Fenced(_) | ToolError::Failed(_) => {
            Exit::Temporary
        }
    }
}

/// Rows under headings, in columns. A heading that begins with `>` has its column to the right; the last is not filled.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let right: Vec<bool> = headings.iter().map(|heading| heading.starts_with('>')).collect();
    let headings: Vec<String> = headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).chain(headings.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths.get(column).copied().unwrap_or(0);
            if right.get(column) == Some(&true) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    std::iter::once(&headings).chain(rows).map(line).collect()
}

/// A key or a value: a quoted text, hexadecimal where it is none, or `null`.
pub(super) fn quoted(bytes: Option<&[u8]>) -> String {
    match bytes.map(std::str::from_utf8) {
        None => "null".to_owned(),
        Some(Ok(text)) => format!("{text:?}"),
        Some(Err(_)) => format!("0x{}", hex(bytes.unwrap_or_default())),
    }
}

/// The same for programs: a text, `{"hex": …}` or null.
pub(super) fn quoted_json(bytes: Option<&[u8]>) -> Value {
    match bytes.map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) => Value::from(text),
        Some(Err(_)) => json!({"hex": hex(bytes.unwrap_or_default())}),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `one dead letter`, `3 dead letters`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// A number, or `-` where there is none.
pub(super) fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = vec![vec!["orders".into(), "7".into(), "x".into()], vec!["a".into(), "1200".into(), String::new()]];
        assert_eq!(table(&["TOPIC", ">LAG", "NOTE"], &rows), "TOPIC    LAG  NOTE\norders     7  x\na       1200\n");
    }

    #[test]
    fn nothing_from_outside_moves_the_cursor() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc\u{9b}Grüße"), "a\\u{1b}[2Jb\\nc\\u{9b}Grüße");
        assert_eq!(quoted(Some(b"a\x1b\"\n")), r#""a\u{1b}\"\n""#);
        assert_eq!(quoted(Some(&[0xff, 0x00])), "0xff00");
        assert_eq!((quoted(None).as_str(), quoted(Some(b"null")).as_str()), ("null", "\"null\""));
        assert_eq!(quoted_json(Some(&[0xff])), json!({"hex": "ff"}));
    }
}

//! What a hostile transform does when a record's value asks for it: `verb` or `verb argument`. The same in both worlds; the
//! guests `packed` and `typed` only carry it out. A record `good X` is innocent and must come out as X.

mod files;
mod memory;
mod time;

/// What becomes of the record.
pub enum Deed {
    Keep,
    /// One output with this value.
    Emit(Vec<u8>),
    /// So many outputs of one byte.
    Many(usize),
    /// One output with a key of this size.
    Key(usize),
    /// One output with so many headers of this name.
    Headers(usize, String),
    /// One output to this topic.
    To(String),
    Reject(String),
}

/// Does what `value` asks for.
pub fn deed(value: &[u8]) -> Deed {
    let text = String::from_utf8_lossy(value);
    let (verb, argument) = text.split_once(' ').unwrap_or((&text, ""));
    let number = || argument.parse::<usize>().expect("a number");
    match verb {
        "good" => Deed::Emit(argument.into()),
        "many" => Deed::Many(number()),
        "large" => Deed::Emit(vec![b'x'; number()]),
        "key" => Deed::Key(number()),
        "headers" => Deed::Headers(number(), "h".into()),
        "header" => Deed::Headers(1, argument.into()),
        "to" => Deed::To(argument.into()),
        "reason" => Deed::Reject("x".repeat(number())),
        "panic" => panic!("as asked"),
        "panic-large" => panic!("{}", "x".repeat(number())),
        "abort" => std::process::abort(),
        "exit" => exit(number() as u8),
        "environment" => {
            let all: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
            Deed::Emit(format!("variables:{} arguments:{}", all.join(","), std::env::args().count()).into_bytes())
        }
        "stdin" => {
            let mut text = String::new();
            Deed::Emit(files::said(std::io::stdin().read_line(&mut text).map(|bytes| bytes.to_string())))
        }
        verb => time::deed(verb, argument)
            .or_else(|| memory::deed(verb, argument))
            .or_else(|| files::deed(verb, argument))
            .unwrap_or_else(|| panic!("unknown verb {verb}")),
    }
}

/// WASI 0.2.0 knows success and failure only; libstd makes the one or the other of a code.
fn exit(code: u8) -> Deed {
    std::process::exit(code.into())
}

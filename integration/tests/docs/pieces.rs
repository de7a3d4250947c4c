//! Takes documents apart: code spans and blocks, and what they name.

use pelton_integration::root;
use std::fs;
use std::path::Path;

pub struct Document {
    /// From the repository's root.
    pub name: String,
    pub text: String,
}

/// Every Markdown file that a reader may open, and the chart's notes.
pub fn documents() -> Vec<Document> {
    let mut found = Vec::new();
    for place in ["docs", "helm", "sdk", "transforms", "config", "docker", "integration", "bench", "fuzz"] {
        files(&root().join(place), &mut |path| take(path, &mut found));
    }
    let top = fs::read_dir(root()).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    top.for_each(|path| take(&path, &mut found));
    assert!(found.len() > 20, "the documents are there");
    found
}

/// The text of each file of Rust in there.
pub fn sources(dir: &Path, each: &mut impl FnMut(&str)) {
    files(dir, &mut |path| {
        if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            each(&fs::read_to_string(path).unwrap());
        }
    });
}

fn files(dir: &Path, each: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            files(&path, each);
        } else {
            each(&path);
        }
    }
}

fn take(path: &Path, found: &mut Vec<Document>) {
    let is_told = path.extension().is_some_and(|e| e == "md") || path.ends_with("NOTES.txt");
    if is_told && path.is_file() {
        let name = path.strip_prefix(root()).unwrap_or(path).display().to_string();
        found.push(Document { name, text: fs::read_to_string(path).unwrap() });
    }
}

/// Code spans, and the lines of code blocks; a line that ends with a backslash goes on.
fn code(text: &str) -> Vec<String> {
    let (mut pieces, mut block, mut goes_on) = (Vec::<String>::new(), false, false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if block {
            let (line, more) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
            match pieces.last_mut().filter(|_| goes_on) {
                Some(last) => last.push_str(line),
                None => pieces.push(line.to_owned()),
            }
            goes_on = more;
        }
    }
    let prose: String =
        text.split("```").step_by(2).flat_map(|part| part.lines()).flat_map(|line| [line, " "]).collect();
    pieces.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
    pieces
}

/// The words after `program`, wherever it is called; `a|b` are two calls. What stands in brackets is looked at too.
pub fn commands(text: &str, program: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    for piece in code(text) {
        let piece = piece.split(" #").next().unwrap_or_default().replace("&&", ";").replace(" | ", ";");
        for call in piece.split(';') {
            let mut words = call.split_whitespace().skip_while(|word| *word == "$" || word.contains('='));
            let is_it = |word: &str| word == program || (program == "pelton" && word.ends_with("/pelton"));
            if !words.next().is_some_and(is_it) {
                continue;
            }
            let trimmed = words.map(|word| word.trim_matches(['[', ']', ',', ')', '"', '\'']));
            let words: Vec<&str> = trimmed.filter(|word| !word.is_empty()).collect();
            let split = words.iter().position(|word| word.contains('|') && word.starts_with(char::is_lowercase));
            match split {
                Some(at) => calls.extend(words[at].split('|').map(|each| {
                    words[..at].iter().chain([&each]).chain(&words[at + 1..]).map(ToString::to_string).collect()
                })),
                None => calls.push(words.iter().map(ToString::to_string).collect()),
            }
        }
    }
    calls
}

/// Paths of the admin server.
pub fn endpoints(text: &str) -> impl Iterator<Item = String> + '_ {
    const KNOWN: [&str; 6] = ["/api/", "/livez", "/readyz", "/startupz", "/metrics", "/version"];
    text.split(|c: char| c.is_whitespace() || "`\"'(),;|*[]".contains(c)).filter_map(|word| {
        let path = match word.split_once("://") {
            Some((_, rest)) => &rest[rest.find('/')?..],
            None => word,
        };
        let path = path.split(['?', '#', '{']).next()?.trim_end_matches(['.', ':', '/', '…']);
        // `docs/metrics.md` is a file, `/api/v1/…` all of them.
        let all = path == "/api/v1" || path == "/api";
        (KNOWN.iter().any(|known| path.starts_with(known)) && !all && !path.contains('.')
            || path == "/api/v1/openapi.json")
            .then(|| path.to_owned())
    })
}

/// Names of metrics: `pelton_…`, but for the crates.
pub fn metrics(text: &str) -> impl Iterator<Item = String> + '_ {
    const CRATES: [&str; 6] =
        ["pelton_sdk", "pelton_kafka", "pelton_sandbox", "pelton_integration", "pelton_bench", "pelton_fuzz"];
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("pelton_") && !CRATES.contains(word) && word.len() > "pelton_".len())
        .map(str::to_owned)
}

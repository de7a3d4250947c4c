//! What the documents name is there: commands and flags of the binary, verbs of `./dev`, endpoints, metrics. Documents are
//! read as text; the binary and `./dev` are asked by their own help.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod pieces;

use pelton_integration::{process, root};
use pieces::{Document, commands, documents, endpoints, metrics};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

/// What a program says of itself under `--help`.
#[derive(Debug, Default)]
struct Help {
    commands: BTreeSet<String>,
    flags: BTreeSet<String>,
}

impl Help {
    fn read(text: &str) -> Help {
        let mut help = Help::default();
        let mut section = "";
        for line in text.lines() {
            match line {
                "Commands:" | "Options:" | "Arguments:" => section = line,
                _ if !line.starts_with(' ') => {}
                // Names stand at the left, what they mean is further in.
                _ if section == "Commands:" && line.starts_with("  ") && !line.starts_with("   ") => {
                    help.commands.extend(line.split_whitespace().next().map(str::to_owned));
                }
                _ if section == "Options:" && line.len() - line.trim_start().len() < 8 => {
                    let names = line.split_whitespace().take_while(|word| word.starts_with('-'));
                    help.flags.extend(names.map(|name| name.trim_end_matches([',', '.']).to_owned()));
                }
                _ => {}
            }
        }
        help
    }
}

/// The binary, asked once for each command.
#[derive(Default)]
struct Binary(BTreeMap<Vec<String>, Help>);

impl Binary {
    fn help(&mut self, path: &[String]) -> &Help {
        self.0.entry(path.to_vec()).or_insert_with(|| {
            let out = Command::new(process::binary()).args(path).arg("--help").output().unwrap();
            assert!(out.status.success(), "pelton {} --help", path.join(" "));
            Help::read(&String::from_utf8(out.stdout).unwrap())
        })
    }

    /// What is wrong with these words after `pelton`.
    fn objection(&mut self, words: &[String]) -> Option<String> {
        let mut path: Vec<String> = Vec::new();
        let mut words = words.iter().peekable();
        while let Some(word) = words.peek() {
            let known = &self.help(&path).commands;
            let is_name = !known.is_empty() && word.starts_with(|c: char| c.is_ascii_lowercase());
            if known.contains(*word) || is_name && is_hidden(&path, word) {
                path.extend(words.next().cloned());
            } else if is_name {
                return Some(format!("there is no command `{word}`"));
            } else {
                break;
            }
        }
        let flags = &self.help(&path).flags;
        let named = words.filter(|word| word.starts_with('-') && word.len() > 1);
        let mut names = named.map(|word| word.split('=').next().unwrap_or(word));
        names.find(|name| !flags.contains(*name)).map(|name| format!("there is no flag `{name}`"))
    }
}

/// A command that help does not list, for those who build Pelton.
fn is_hidden(path: &[String], word: &str) -> bool {
    let out = Command::new(process::binary()).args(path).args([word, "--help"]).output().unwrap();
    out.status.success()
}

/// `./dev`'s verbs, and all flags that its help speaks of.
fn dev() -> Help {
    let out = Command::new(root().join("dev")).arg("help").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let mut help = Help::default();
    for line in text.lines().filter(|line| line.starts_with("  ")) {
        if !line.starts_with("   ") {
            let words: Vec<&str> = line.split_whitespace().collect();
            help.commands.insert(words[0].to_owned());
            if words[0] == "bench" {
                help.commands.insert(format!("bench {}", words[1]));
            }
        }
        let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        help.flags.extend(words.filter(|word| word.starts_with("--")).map(str::to_owned));
    }
    help
}

fn object(found: Vec<String>) {
    assert!(found.is_empty(), "{} times documents name what is not there:\n{}", found.len(), found.join("\n"));
}

#[test]
fn commands_and_flags_of_the_binary() {
    let mut binary = Binary::default();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for Document { name, text } in documents() {
        for words in commands(&text, "pelton") {
            seen.extend(words.first().cloned());
            let objection = binary.objection(&words);
            wrong.extend(objection.map(|why| format!("{name}: `pelton {}`: {why}", words.join(" "))));
        }
    }
    object(wrong);
    let told = binary.help(&[]).commands.clone();
    let silent: Vec<&String> = told.iter().filter(|command| !seen.contains(*command) && *command != "help").collect();
    assert!(silent.is_empty(), "no document speaks of {silent:?}");
}

#[test]
fn verbs_of_dev() {
    let help = dev();
    let mut wrong = Vec::new();
    for Document { name, text } in documents() {
        for words in commands(&text, "./dev") {
            let Some(verb) = words.first() else { continue };
            // `./dev chart|image|release` was taken apart; `./dev VERB` means any.
            let told = format!("{name}: `./dev {}`", words.join(" "));
            if !verb.starts_with(|c: char| c.is_ascii_lowercase()) {
                continue;
            }
            let of_bench = words.get(1).filter(|word| verb == "bench" && word.starts_with(char::is_lowercase));
            if !help.commands.contains(verb) && verb != "help" {
                wrong.push(format!("{told}: there is no such verb"));
            } else if of_bench.is_some_and(|word| !help.commands.contains(&format!("bench {word}"))) {
                wrong.push(format!("{told}: there is no such benchmark"));
            }
            let flags = words.iter().filter(|word| word.starts_with("--"));
            wrong.extend(
                flags.filter(|f| !help.flags.contains(*f)).map(|f| format!("{told}: help does not know `{f}`")),
            );
        }
    }
    object(wrong);
}

#[test]
fn endpoints_of_the_admin_server() {
    let openapi = fs::read_to_string(root().join("processor/src/admin/openapi.json")).unwrap();
    let openapi: serde_json::Value = serde_json::from_str(&openapi).unwrap();
    let known: Vec<&String> = openapi["paths"].as_object().unwrap().keys().collect();
    let is_like = |path: &str, known: &str| {
        let (path, known): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), known.split('/').collect());
        path.len() == known.len() && path.iter().zip(&known).all(|(a, b)| a == b || b.starts_with('{'))
    };
    let mut wrong = Vec::new();
    for Document { name, text } in documents() {
        for path in endpoints(&text) {
            if !known.iter().any(|known| is_like(&path, known)) {
                wrong.push(format!("{name}: `{path}`"));
            }
        }
    }
    object(wrong);
}

#[test]
fn metrics_of_the_binary() {
    let out = Command::new(process::binary()).args(["metrics", "reference"]).output().unwrap();
    let known: BTreeSet<String> = metrics(&String::from_utf8(out.stdout).unwrap()).collect();
    let mut wrong = Vec::new();
    for Document { name, text } in documents() {
        for metric in metrics(&text) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| metric.strip_suffix(suffix));
            // `pelton_lag_*` and the like mean all that begin so.
            let begins = metric.ends_with('_') && known.iter().any(|known| known.starts_with(&metric));
            if !known.contains(&metric) && base.is_none_or(|base| !known.contains(base)) && !begins {
                wrong.push(format!("{name}: `{metric}`"));
            }
        }
    }
    object(wrong);
}

/// Of codes, the part before the dot.
const KINDS: [&str; 25] = [
    "admin",
    "cache",
    "config",
    "dead_letter",
    "dlq",
    "drain",
    "guest",
    "host",
    "input",
    "kafka",
    "log",
    "module",
    "offsets",
    "output",
    "process",
    "promote",
    "reload",
    "rollback",
    "rollout",
    "sandbox",
    "stop",
    "tap",
    "telemetry",
    "transform",
    "worker",
];

#[test]
fn codes_of_the_source_are_explained() {
    let told: String = documents().into_iter().map(|document| document.text).collect();
    let mut codes = BTreeSet::new();
    for dir in ["processor/src", "processor/kafka/src", "processor/sandbox/src"] {
        pieces::sources(&root().join(dir), &mut |text| {
            let literals = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().split('"').skip(1).step_by(2);
            codes.extend(literals.filter(|literal| is_code(literal)).map(str::to_owned));
        });
    }
    assert!(codes.len() > 60, "{codes:?}");
    let silent: Vec<&String> = codes.iter().filter(|code| !told.contains(&format!("`{code}`"))).collect();
    assert!(silent.is_empty(), "no document explains {silent:?}");
}

/// `kafka.denied`, and no property of librdkafka.
fn is_code(literal: &str) -> bool {
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    literal.split_once('.').is_some_and(|(kind, what)| KINDS.contains(&kind) && word(what)) && literal != "log.queue"
}

#[test]
fn what_is_wrong_is_found() {
    let mut binary = Binary::default();
    let mut of = |text: &str| -> Vec<Option<String>> {
        commands(text, "pelton").iter().map(|words| binary.objection(words)).collect()
    };
    assert_eq!(
        of("`pelton offsets show --output json`, `pelton -c config.yaml`, `pelton run -c x`"),
        [None, None, None]
    );
    assert_eq!(of("`pelton ofsets show`"), [Some("there is no command `ofsets`".into())]);
    assert_eq!(of("`pelton offsets shew`"), [Some("there is no command `shew`".into())]);
    assert_eq!(of("`pelton reload|rolback x`").iter().flatten().count(), 1);
    assert_eq!(of("```\n$ X=1 pelton run --dry\n```"), [Some("there is no flag `--dry`".into())]);
    assert_eq!(of("| `target/debug/pelton validate --cluster=no` |").len(), 1);
    assert_eq!(
        endpoints("`GET /api/v1/satus`, http://x:9640/livez?a, /proc/self").collect::<Vec<_>>(),
        ["/api/v1/satus", "/livez"]
    );
    assert!(is_code("kafka.denied") && !is_code("kafka.") && !is_code("linger.ms") && !is_code("kafka.producer.x"));
    assert_eq!(metrics("rate(pelton_ready{a=\"b\"}) and pelton_sdk").collect::<Vec<_>>(), ["pelton_ready"]);
}

//! `pelton tap`: records of a running process, before and after, as they are processed. The process decides what may be
//! shown (`admin.tap`) and hides what must be hidden; here it is only printed.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Limited};
use hyper::Method;
use hyper::body::Incoming;
use serde_json::Value;

use super::answer::harmless;
use super::endpoint::{self, Endpoint, Unanswered};
use super::{Exit, Global, Output};
use crate::config::Millis;

/// Of a refusal.
const ANSWER_MAX: usize = 1 << 20;
/// A process that lives says something every second.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Shows records of one transform while they are processed, before their transactions commit, at most 50 a second;
/// further ones are skipped and counted. Needs `admin.tap: redacted` or `full`, and the token or the socket. PATH leads
/// into JSON values (`card.number`, `items.price`, `*.id`), or is `@key`, `@headers`, `@headers.NAME`, `@reason`.
#[derive(Debug, Args)]
pub(super) struct Tap {
    /// The transform's name in the configuration.
    transform: String,

    /// End after this many records.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// End after this time, such as `30s`. Ten minutes by default, an hour at most.
    #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
    lasts: Option<Duration>,

    /// Only records of this input partition.
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,

    /// Only what was rejected or failed.
    #[arg(long)]
    failed: bool,

    /// Show only these parts.
    #[arg(long, value_name = "PATH", num_args = 1.., value_delimiter = ',')]
    fields: Vec<String>,

    /// Hide these parts; they do not leave the process.
    #[arg(long, value_name = "PATH", num_args = 1.., value_delimiter = ',')]
    redact: Vec<String>,

    /// How to print it; `json` is one object per line.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

fn lasting(text: &str) -> Result<Duration, String> {
    Ok(text.parse::<Millis>().map_err(|error| error.to_string())?.duration())
}

pub(super) fn tap(global: &Global, tap: &Tap) -> Exit {
    let loaded = match global.load(false) {
        Ok(loaded) => loaded,
        Err(errors) => return global.refuse(&errors),
    };
    let asked =
        Endpoint::of(&loaded.config.admin).and_then(|endpoint| endpoint::runtime()?.block_on(listen(&endpoint, tap)));
    asked.unwrap_or_else(|error| error.refuse())
}

impl Tap {
    fn path(&self) -> String {
        let mut query = vec![format!("failed={}", self.failed)];
        query.extend(self.limit.map(|limit| format!("limit={limit}")));
        query.extend(self.lasts.map(|lasts| format!("for_ms={}", lasts.as_millis())));
        query.extend(self.partition.map(|partition| format!("partition={partition}")));
        for (name, paths) in [("fields", &self.fields), ("redact", &self.redact)] {
            if !paths.is_empty() {
                query.push(format!("{name}={}", escaped(&paths.join(","))));
            }
        }
        format!("/api/v1/transforms/{}/tap?{}", escaped(&self.transform), query.join("&"))
    }
}

/// As a part of a URL.
fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b',' | b'*');
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

async fn listen(endpoint: &Endpoint, tap: &Tap) -> Result<Exit, Unanswered> {
    let answer = endpoint.open(&Method::POST, &tap.path()).await?;
    let status = answer.status();
    if !status.is_success() {
        let body =
            Limited::new(answer.into_body(), ANSWER_MAX).collect().await.map_err(|error| endpoint.lost(error))?;
        let refusal: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        let said = |key: &str, usual: &str| refusal[key].as_str().unwrap_or(usual).to_owned();
        let exit = if matches!(status.as_u16(), 401 | 403) { Exit::Auth } else { Exit::Failed };
        let (code, message) = (said("code", "admin.answer"), said("message", status.as_str()));
        return Ok(endpoint::refuse(exit, &code, &message, &said("advice", "is it Pelton that answers there?")));
    }
    lines(endpoint, tap, answer.into_body()).await
}

async fn lines(endpoint: &Endpoint, tap: &Tap, mut body: Incoming) -> Result<Exit, Unanswered> {
    let (mut waiting, mut dropped) = (Vec::new(), 0);
    loop {
        let frame = tokio::time::timeout(SILENCE_MAX, body.frame()).await;
        let frame = frame.map_err(|_| endpoint.lost(format!("nothing for {} s", SILENCE_MAX.as_secs())))?;
        let Some(frame) = frame else { return Err(endpoint.lost("the process has ended the connection")) };
        if let Ok(data) = frame.map_err(|error| endpoint.lost(error))?.into_data() {
            waiting.extend_from_slice(&data);
        }
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            let Ok(line) = serde_json::from_slice::<Value>(&line) else { continue };
            if let Some(exit) = show(tap, &line, &mut dropped) {
                return Ok(exit);
            }
        }
    }
}

/// `Some`: it is over.
fn show(tap: &Tap, line: &Value, dropped: &mut u64) -> Option<Exit> {
    // Told when there are more, and beside the records.
    if let Some(now) = line["dropped"].as_u64().filter(|now| *now > *dropped) {
        *dropped = now;
        eprintln!("{now} records were left out so far: there are more than 50 a second");
    }
    match line["type"].as_str() {
        Some("record") => {
            let shown = match tap.output {
                Output::Json => format!("{line}\n"),
                Output::Text => text(line),
            };
            let mut out = std::io::stdout().lock();
            match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => None,
                // `| head` has seen enough.
                Err(why) if why.kind() == std::io::ErrorKind::BrokenPipe => Some(Exit::Ok),
                Err(why) => {
                    eprintln!("error: cannot write to stdout: {why}");
                    Some(Exit::Io)
                }
            }
        }
        Some("open") => {
            eprintln!("{} is tapped, {}", string(&line["transform"]), string(&line["shows"]));
            None
        }
        Some("end") if line["why"] == "gone" => {
            eprintln!("the transform is no more");
            Some(Exit::Ok)
        }
        Some("end") => Some(Exit::Ok),
        _ => None,
    }
}

fn text(record: &Value) -> String {
    let part = |key: &str| string(&record[key]);
    let why = [&record["code"], &record["reason"]].map(|of| of.as_str().map(|of| format!(" {}", harmless(of))));
    let mut text = format!(
        "{}/{}@{} generation {}: {}{}\n",
        part("topic"),
        part("partition"),
        part("offset"),
        part("generation"),
        part("outcome"),
        why.into_iter().flatten().collect::<String>(),
    );
    text += &content('-', "", &record["before"]);
    for output in record["after"].as_array().into_iter().flatten() {
        text += &content('+', &format!("{} ", string(&output["topic"])), output);
    }
    if let Some(more @ 1..) = record["more"].as_u64() {
        text += &format!("  + and {more} more\n");
    }
    text
}

fn content(sign: char, topic: &str, of: &Value) -> String {
    let headers: Vec<String> = of["headers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|header| format!("{}={}", piece(&header[0]), piece(&header[1])))
        .collect();
    let headers = if headers.is_empty() { String::new() } else { format!(" [{}]", headers.join(", ")) };
    format!("  {sign} {topic}{} {}{headers}\n", piece(&of["key"]), piece(&of["value"]))
}

/// Bytes as the process lets them be seen.
fn piece(piece: &Value) -> String {
    let bytes = &piece["bytes"];
    let shown = match (&piece["text"], &piece["json"], &piece["hex"]) {
        (Value::String(text), ..) => format!("{text:?}"),
        (_, json, _) if piece.get("json").is_some() => harmless(&json.to_string()),
        (.., Value::String(hex)) => format!("0x{}", harmless(hex)),
        _ if piece.is_null() => "null".to_owned(),
        _ => return format!("({bytes} bytes)"),
    };
    if piece["cut"] == true { format!("{shown}… ({bytes} bytes)") } else { shown }
}

fn string(value: &Value) -> String {
    super::remote::text(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_asked_for_is_a_url_whatever_is_in_it() {
        let tap = Tap {
            transform: "a/b?".into(),
            limit: Some(3),
            lasts: Some(Duration::from_secs(2)),
            partition: Some(1),
            failed: true,
            fields: vec!["card.number".into(), "@key".into()],
            redact: vec!["ü&x".into()],
            output: Output::Text,
        };
        assert_eq!(
            tap.path(),
            "/api/v1/transforms/a%2Fb%3F/tap?failed=true&limit=3&for_ms=2000&partition=1&fields=card.number,%40key&redact=%C3%BC%26x"
        );
    }

    #[test]
    fn a_record_is_a_few_harmless_lines() {
        let piece = |text: &str| json!({ "bytes": text.len(), "text": text });
        let before = json!({ "key": null, "value": piece("a\u{1b}[2J"), "headers": [[piece("h"), null]] });
        let after = json!({ "topic": "out", "key": { "bytes": 9, "hidden": true }, "value": { "bytes": 7, "json": { "id": 1 } }, "headers": [] });
        let record = json!({
            "topic": "in", "partition": 0, "offset": 7, "generation": 2, "outcome": "emit", "before": before,
            "after": [after], "more": 3
        });
        assert_eq!(
            text(&record),
            "in/0@7 generation 2: emit\n  - null \"a\\u{1b}[2J\" [\"h\"=null]\n  + out (9 bytes) {\"id\":1}\n  + and 3 more\n"
        );
        let cut = json!({ "bytes": 90, "text": "abc", "cut": true });
        let failed = json!({
            "topic": "in", "partition": 0, "offset": 7, "generation": 2, "outcome": "reject", "code": "guest.rejected",
            "reason": "no\n", "before": { "value": cut }
        });
        assert_eq!(text(&failed), "in/0@7 generation 2: reject guest.rejected no\\n\n  - null \"abc\"… (90 bytes)\n");
    }
}

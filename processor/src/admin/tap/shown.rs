//! Which parts of a tapped record are shown, and how they look as JSON. `redacted` shows its shape; `fields` keeps only
//! what is named, `redact` hides what is named. If something must be hidden inside a value that is not JSON, or was
//! cut, the whole value is hidden.

use crate::config::Tap as Mode;
use crate::dataplane::tap::{Content, Piece, Said, Tapped};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// More than anybody types.
const PATHS_MAX: usize = 64;
const HIDDEN: &str = "***";

/// Paths with commas between them: `card.number`, `items.price` (of each item of a list), `*.id`; of the record itself
/// `@key`, `@headers`, `@headers.NAME`, `@reason`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(super) struct Paths(Vec<Path>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Path {
    Key,
    Headers,
    Header(String),
    Reason,
    Value(Vec<String>),
}

impl TryFrom<String> for Paths {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let paths = text.split(',').filter(|path| !path.is_empty()).map(path).collect::<Result<Vec<_>, _>>()?;
        if paths.len() > PATHS_MAX { Err(format!("more than {PATHS_MAX} paths")) } else { Ok(Paths(paths)) }
    }
}

fn path(text: &str) -> Result<Path, String> {
    match text {
        "@key" => return Ok(Path::Key),
        "@headers" => return Ok(Path::Headers),
        "@reason" => return Ok(Path::Reason),
        _ => {}
    }
    if let Some(name) = text.strip_prefix("@headers.") {
        return Ok(Path::Header(name.to_owned()));
    }
    if text.starts_with('@') {
        return Err(format!("`{text}` is not one of @key, @headers, @headers.NAME, @reason"));
    }
    let steps: Vec<String> = text.split('.').map(str::to_owned).collect();
    if steps.iter().any(String::is_empty) { Err("a path has an empty step".to_owned()) } else { Ok(Path::Value(steps)) }
}

impl Paths {
    fn has(&self, path: &Path) -> bool {
        self.0.contains(path)
    }

    fn header(&self, name: &[u8]) -> bool {
        self.0.iter().any(|path| match path {
            Path::Headers => true,
            Path::Header(known) => known.as_bytes() == name,
            _ => false,
        })
    }

    /// Those into values.
    fn steps(&self) -> Vec<&[String]> {
        let values = self.0.iter().filter_map(|path| match path {
            Path::Value(steps) => Some(steps.as_slice()),
            _ => None,
        });
        values.collect()
    }
}

/// What one listener may see, and wants to.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub mode: Mode,
    pub fields: Paths,
    pub redact: Paths,
}

impl Shown {
    pub(super) fn record(&self, tapped: &Tapped) -> Value {
        let (outcome, code, reason, after, more) = match &tapped.said {
            Said::Keep => ("keep", None, None, Vec::new(), 0),
            Said::Drop => ("drop", None, None, Vec::new(), 0),
            Said::Reject(reason) => ("reject", Some("guest.rejected"), Some(reason), Vec::new(), 0),
            Said::Fault(code, detail) => ("fault", Some(*code), Some(detail), Vec::new(), 0),
            Said::Emit { outputs, more } => {
                let written = outputs.iter().map(|output| {
                    let mut content = self.content(&output.content);
                    content.insert("topic".to_owned(), json!(&*output.topic));
                    Value::Object(content)
                });
                ("emit", None, None, written.collect(), *more)
            }
        };
        let all = self.mode == Mode::Full && self.redact.0.is_empty() && self.fields.0.is_empty();
        let reason =
            reason.map(|text| if all || self.is_wanted(&Path::Reason, false) { text.as_str() } else { HIDDEN });
        json!({
            "type": "record",
            "generation": tapped.generation,
            "topic": &*tapped.topic,
            "partition": tapped.partition,
            "offset": tapped.offset,
            "timestamp_ms": tapped.timestamp_ms,
            "before": self.content(&tapped.before),
            "outcome": outcome,
            "code": code,
            "reason": reason,
            "after": after,
            "more": more,
        })
    }

    /// `usually`: where nothing is said of it.
    fn is_wanted(&self, path: &Path, usually: bool) -> bool {
        let named = if self.fields.0.is_empty() { usually } else { self.fields.has(path) };
        self.mode == Mode::Full && named && !self.redact.has(path)
    }

    fn content(&self, content: &Content) -> Map<String, Value> {
        let key = content.key.as_ref().map(|key| plain(key, self.is_wanted(&Path::Key, true)));
        let headers = content.headers.iter().map(|(name, value)| {
            let wanted = self.fields.0.is_empty() || self.fields.header(&name.bytes);
            let wanted = self.mode == Mode::Full && wanted && !self.redact.header(&name.bytes);
            json!([plain(name, true), value.as_ref().map(|value| plain(value, wanted))])
        });
        let mut shown = Map::new();
        shown.insert("key".to_owned(), json!(key));
        shown.insert("value".to_owned(), json!(content.value.as_ref().map(|value| self.value(value))));
        shown.insert("headers".to_owned(), headers.collect());
        shown
    }

    fn value(&self, piece: &Piece) -> Value {
        let (fields, redact) = (self.fields.steps(), self.redact.steps());
        if self.mode == Mode::Full && fields.is_empty() && redact.is_empty() {
            return plain(piece, self.fields.0.is_empty());
        }
        if !self.fields.0.is_empty() && fields.is_empty() {
            return plain(piece, false);
        }
        let parsed = (!piece.is_cut()).then(|| serde_json::from_slice::<Value>(&piece.bytes).ok()).flatten();
        let Some(mut json) = parsed else { return plain(piece, false) };
        if !fields.is_empty() {
            json = picked(&json, &fields).unwrap_or(Value::Null);
        }
        redact.iter().for_each(|steps| hide(&mut json, steps));
        if self.mode == Mode::Redacted {
            shape(&mut json);
        }
        json!({ "bytes": piece.length, "json": json })
    }
}

/// As text, or hexadecimal; or only how long it is.
fn plain(piece: &Piece, shown: bool) -> Value {
    let mut value = json!({ "bytes": piece.length });
    if !shown {
        value["hidden"] = true.into();
        return value;
    }
    if piece.is_cut() {
        value["cut"] = true.into();
    }
    match std::str::from_utf8(&piece.bytes) {
        Ok(text) => value["text"] = text.into(),
        // The cut may go through a character.
        Err(error) if piece.is_cut() && error.error_len().is_none() => {
            value["text"] = String::from_utf8_lossy(&piece.bytes[..error.valid_up_to()]).into();
        }
        Err(_) => value["hex"] = piece.bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
    }
    value
}

fn fits(step: &str, key: &str) -> bool {
    step == "*" || step == key
}

/// What the paths lead to, in its place. A list is gone through without a step of its own.
fn picked(json: &Value, paths: &[&[String]]) -> Option<Value> {
    if paths.iter().any(|steps| steps.is_empty()) {
        return Some(json.clone());
    }
    match json {
        Value::Array(items) => Some(items.iter().filter_map(|item| picked(item, paths)).collect()),
        Value::Object(map) => {
            let of = |(key, value): (&String, &Value)| {
                let next = paths.iter().filter_map(|steps| steps.split_first()).filter(|(step, _)| fits(step, key));
                let next: Vec<&[String]> = next.map(|(_, rest)| rest).collect();
                Some((key.clone(), picked(value, &next).filter(|_| !next.is_empty())?))
            };
            let map: Map<String, Value> = map.iter().filter_map(of).collect();
            (!map.is_empty()).then_some(Value::Object(map))
        }
        _ => None,
    }
}

fn hide(json: &mut Value, steps: &[String]) {
    let Some((step, rest)) = steps.split_first() else {
        *json = HIDDEN.into();
        return;
    };
    match json {
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, steps)),
        Value::Object(map) => {
            map.iter_mut().filter(|(key, _)| fits(step, key)).for_each(|(_, value)| hide(value, rest));
        }
        _ => {}
    }
}

/// Kinds and lengths in place of values.
fn shape(json: &mut Value) {
    match json {
        Value::Null => {}
        Value::Bool(_) => *json = "boolean".into(),
        Value::Number(_) => *json = "number".into(),
        Value::String(text) => *json = format!("text({})", text.chars().count()).into(),
        Value::Array(items) => items.iter_mut().for_each(shape),
        Value::Object(map) => map.values_mut().for_each(shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::tap::Written;

    fn piece(text: &str) -> Piece {
        Piece { bytes: text.as_bytes().to_vec(), length: text.len() }
    }

    fn content(value: &str) -> Content {
        let headers = vec![(piece("trace"), Some(piece("SECRET-H"))), (piece("id"), None)];
        Content { key: Some(piece("SECRET-K")), value: Some(piece(value)), headers }
    }

    fn tapped(value: &str, said: Said) -> Tapped {
        let (topic, before) = ("in".into(), content(value));
        Tapped { generation: 3, topic, partition: 1, offset: 7, timestamp_ms: None, before, said }
    }

    fn shown(mode: Mode, fields: &str, redact: &str) -> Shown {
        let paths = |text: &str| Paths::try_from(text.to_owned()).unwrap();
        Shown { mode, fields: paths(fields), redact: paths(redact) }
    }

    const VALUE: &str = r#"{"id":1,"card":{"number":"SECRET-V","year":30},"items":[{"price":5,"name":"a"},{"price":6}],"on":true,"no":null}"#;

    #[test]
    fn redacted_shows_a_shape_and_nothing_that_was_in_it() {
        let emit = Said::Emit { outputs: vec![Written { topic: "out".into(), content: content(VALUE) }], more: 2 };
        let all = shown(Mode::Redacted, "", "");
        for said in [emit, Said::Reject("SECRET-R".into()), Said::Fault("guest.panic", "SECRET-P".into()), Said::Keep] {
            let record = all.record(&tapped(VALUE, said));
            assert!(!record.to_string().contains("SECRET"), "{record}");
            assert_eq!(
                record["before"]["value"]["json"],
                json!({
                    "id": "number", "card": { "number": "text(8)", "year": "number" },
                    "items": [{ "price": "number", "name": "text(1)" }, { "price": "number" }], "on": "boolean", "no": null
                })
            );
            assert_eq!(record["before"]["key"], json!({ "bytes": 8, "hidden": true }));
        }
        let record = all.record(&tapped("SECRET, no JSON", Said::Keep));
        assert_eq!(record["before"]["value"], json!({ "bytes": 15, "hidden": true }));
        // Nothing that is asked for opens it again.
        let record = shown(Mode::Redacted, "@key,@headers,@reason,card", "")
            .record(&tapped(VALUE, Said::Reject("SECRET".into())));
        assert!(!record.to_string().contains("SECRET"), "{record}");
    }

    #[test]
    fn full_shows_everything_but_what_is_to_be_hidden() {
        let record = shown(Mode::Full, "", "").record(&tapped(VALUE, Said::Reject("SECRET-R".into())));
        assert_eq!(record["before"]["value"]["text"], VALUE);
        assert_eq!(record["before"]["key"]["text"], "SECRET-K");
        assert_eq!(
            record["before"]["headers"],
            json!([[{ "bytes": 5, "text": "trace" }, { "bytes": 8, "text": "SECRET-H" }], [{ "bytes": 2, "text": "id" }, null]])
        );
        assert_eq!(
            (&record["outcome"], &record["code"], &record["reason"]),
            (&json!("reject"), &json!("guest.rejected"), &json!("SECRET-R"))
        );
        let hidden = shown(Mode::Full, "", "card.number,@key,@headers.trace,items.price");
        let record = hidden.record(&tapped(VALUE, Said::Reject("SECRET-R".into())));
        assert!(!record.to_string().contains("SECRET"), "the reason too: {record}");
        let json = &record["before"]["value"]["json"];
        assert_eq!(
            (&json["card"]["number"], &json["card"]["year"], &json["items"][1]["price"]),
            (&json!("***"), &json!(30), &json!("***"))
        );
        // It might be in there.
        let record = hidden.record(&tapped("number=SECRET", Said::Keep));
        assert!(!record.to_string().contains("SECRET"), "{record}");
        let mut cut = tapped(VALUE, Said::Keep);
        cut.before.value = Some(Piece { bytes: VALUE.as_bytes()[..40].to_vec(), length: VALUE.len() });
        assert_eq!(hidden.record(&cut)["before"]["value"], json!({ "bytes": VALUE.len(), "hidden": true }));
    }

    #[test]
    fn fields_leave_what_is_named() {
        let value =
            |fields: &str| shown(Mode::Full, fields, "").record(&tapped(VALUE, Said::Keep))["before"]["value"].clone();
        assert_eq!(value("id,items.name")["json"], json!({ "id": 1, "items": [{ "name": "a" }] }));
        assert_eq!(value("card.*")["json"], json!({ "card": { "number": "SECRET-V", "year": 30 } }));
        assert_eq!(value("nothing")["json"], Value::Null);
        assert_eq!(value("@key")["hidden"], true);
        let record = shown(Mode::Full, "id,@headers.id", "").record(&tapped(VALUE, Said::Reject("SECRET".into())));
        assert!(!record.to_string().contains("SECRET"), "{record}");
        let record = shown(Mode::Full, "@key,@reason", "").record(&tapped(VALUE, Said::Reject("SECRET".into())));
        assert_eq!((&record["before"]["key"]["text"], &record["reason"]), (&json!("SECRET-K"), &json!("SECRET")));
    }

    #[test]
    fn bytes_and_cuts_are_told() {
        assert_eq!(plain(&Piece { bytes: vec![0xff, 0], length: 2 }, true), json!({ "bytes": 2, "hex": "ff00" }));
        let cut = Piece { bytes: "aü".as_bytes()[..2].to_vec(), length: 3 };
        assert_eq!(plain(&cut, true), json!({ "bytes": 3, "cut": true, "text": "a" }));
        for wrong in ["@nothing", "a..b", &"a,".repeat(PATHS_MAX + 1)] {
            assert!(Paths::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}

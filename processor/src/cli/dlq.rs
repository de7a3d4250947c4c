//! `pelton dlq`: what was rejected and why, and replaying it.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::answer::{self, Answer, counted, harmless, or_none, quoted, quoted_json, table};
use super::{Exit, Global, Output};
use crate::tools::dead_letters::{self, DeadLetter, Filter};
use crate::tools::replay::{self, Report, Request};
use crate::tools::{Cluster, ToolError, instant};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Count dead letters by transform and code.
    List(List),
    /// Print dead letters, one per line: where, when, from where, code, reason. Keys and values only with `--values`.
    Show(Show),
    /// Replay dead letters, each once. Prints what it would do; `--execute` does it.
    #[command(after_help = REPLAY)]
    Replay(Replay),
}

const REPLAY: &str = "\
Key, value, timestamp and headers are those of the rejected record. A run covers what is there when it starts; what is \
rejected again is left for the next run.

Progress is kept for each transform, code and destination, and committed in the same transaction as the records: a run \
that fails or is killed can be run again and neither loses nor repeats anything; filters may overlap, in any order. It \
is kept in consumer groups APPLICATION/@dlq-replay/DESTINATION/TRANSFORM/CODE; the destination is @source or a topic. \
Brokers forget positions that nobody commits for offsets.retention.minutes (7 days by default), and letters that were \
replayed before that count as new: a dry run shows them.";

#[derive(Debug, Args)]
#[group(id = "which", multiple = false)]
pub(super) struct Which {
    /// Only the dead letters of this transform.
    #[arg(long, value_name = "NAME")]
    transform: Option<String>,

    /// Only this topic; it need not be in the configuration.
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    which: Which,

    /// Records to read from each topic, at most.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,

    /// How to print it.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    which: Which,

    /// Only those with this code, such as `guest.rejected`; repeatable.
    #[arg(long, value_name = "CODE")]
    code: Vec<String>,

    /// Dead letters to print from each topic, at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,

    /// Print keys and values too.
    #[arg(long)]
    values: bool,

    /// How to print it.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Replay {
    #[command(flatten)]
    which: Which,

    /// Only those with this code, such as `guest.deadline`; repeatable.
    #[arg(long, value_name = "CODE")]
    code: Vec<String>,

    /// Send them to this topic, by key; by default each goes to the topic and partition that it came from.
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,

    /// Dead letters to replay, at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// Skip what cannot be replayed (from a topic that the application does not read, too large) instead of stopping
    /// there. Once a later dead letter of its kind is replayed, it counts as done.
    #[arg(long)]
    pass_over: bool,

    /// Write the records.
    #[arg(long)]
    execute: bool,

    /// How to print it.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

pub(super) fn dlq(global: &Global, command: &Command) -> Exit {
    match command {
        Command::List(list) => answer::answer(global, list.output, |cluster| count(cluster, list)),
        Command::Show(show) => answer::answer(global, show.output, |cluster| print(cluster, show)),
        Command::Replay(replay) => answer::answer(global, replay.output, |cluster| send(cluster, replay)),
    }
}

fn count(cluster: &Cluster<'_>, list: &List) -> Result<Answer, ToolError> {
    let (topics, transform) =
        dead_letters::choose(cluster, list.which.transform.as_deref(), list.which.topic.as_deref())?;
    let filter = Filter { transform, codes: Vec::new() };
    let (mut rows, mut found, mut remarks) = (Vec::new(), Vec::new(), Vec::new());
    for topic in topics {
        let (counts, cut) = dead_letters::count(cluster, &topic.topic, &filter, list.limit)?;
        let letters: u64 = counts.values().map(|count| count.letters).sum();
        if cut {
            remarks
                .push(format!("`{}` was read for {} records only: there is more (`--limit`)", topic.topic, list.limit));
        }
        if counts.is_empty() {
            rows.push([&topic.topic, "-", "-", "0", "-", "-"].map(str::to_owned).to_vec());
        }
        let mut classes = Vec::new();
        for (class, count) in &counts {
            let [oldest, newest] = [count.oldest_ms, count.newest_ms].map(|ms| ms.map(instant::format));
            classes.push(json!({
                "transform": class.transform,
                "code": class.code,
                "letters": count.letters,
                "oldest": oldest,
                "newest": newest,
            }));
            let letters = count.letters.to_string();
            let names = [topic.topic.clone(), class.transform.clone(), class.code.clone(), letters];
            rows.push(names.into_iter().chain([or_none(oldest), or_none(newest)]).collect());
        }
        found.push(json!({
            "topic": topic.topic,
            "transforms": topic.transforms,
            "letters": letters,
            "cut": cut,
            "classes": classes,
        }));
    }
    let text = table(&["TOPIC", "TRANSFORM", "CODE", ">LETTERS", "OLDEST", "NEWEST"], &rows);
    Ok(Answer { text, json: json!({"topics": found}), remarks })
}

fn print(cluster: &Cluster<'_>, show: &Show) -> Result<Answer, ToolError> {
    let (topics, transform) =
        dead_letters::choose(cluster, show.which.transform.as_deref(), show.which.topic.as_deref())?;
    let filter = Filter { transform, codes: show.code.clone() };
    let limit = usize::try_from(show.limit).unwrap_or(usize::MAX);
    let (mut text, mut found, mut remarks) = (String::new(), Vec::new(), Vec::new());
    for topic in &topics {
        let (letters, cut) = dead_letters::list(cluster, &topic.topic, &filter, limit)?;
        if cut {
            remarks.push(format!("`{}` has more than {limit} of them (`--limit`)", topic.topic));
        }
        if topics.len() > 1 {
            text += &format!("{}\n", topic.topic);
        }
        let mut headings = vec!["AT", "REJECTED", "FROM", "TRANSFORM", "CODE", "REASON"];
        if show.values {
            headings.extend(["KEY", "VALUE"]);
        }
        let rows: Vec<Vec<String>> = letters.iter().map(|letter| line(letter, show.values)).collect();
        text += &table(&headings, &rows);
        let letters: Vec<Value> = letters.iter().map(|letter| line_json(letter, show.values)).collect();
        found.push(json!({"topic": topic.topic, "cut": cut, "letters": letters}));
    }
    Ok(Answer { text, json: json!({"topics": found}), remarks })
}

fn line(letter: &DeadLetter, values: bool) -> Vec<String> {
    let mut line = vec![
        format!("{}@{}", letter.record.partition, letter.record.offset),
        or_none(letter.rejected_ms.map(instant::format)),
        or_none(letter.source.as_ref()),
        letter.class.transform.clone(),
        letter.class.code.clone(),
        or_none(letter.reason.as_deref().map(harmless)),
    ];
    if values {
        line.extend([&letter.record.key, &letter.record.value].map(|bytes| quoted(bytes.as_deref())));
    }
    line
}

fn line_json(letter: &DeadLetter, values: bool) -> Value {
    let source = letter.source.as_ref();
    let source = source.map(|s| json!({"topic": s.topic, "partition": s.partition, "offset": s.offset}));
    let mut line = json!({
        "partition": letter.record.partition,
        "offset": letter.record.offset,
        "rejected": letter.rejected_ms.map(instant::format),
        "source": source,
        "transform": letter.class.transform,
        "code": letter.class.code,
        "reason": letter.reason,
    });
    if values {
        line["key"] = quoted_json(letter.record.key.as_deref());
        line["value"] = quoted_json(letter.record.value.as_deref());
    }
    line
}

fn send(cluster: &Cluster<'_>, replay: &Replay) -> Result<Answer, ToolError> {
    if replay.which.transform.is_none() && replay.which.topic.is_none() {
        return Err(ToolError::Usage("say whose: `--transform NAME` or `--topic TOPIC`".to_owned()));
    }
    let (topics, transform) =
        dead_letters::choose(cluster, replay.which.transform.as_deref(), replay.which.topic.as_deref())?;
    let filter = Filter { transform, codes: replay.code.clone() };
    let (mut rows, mut found, mut remarks) = (Vec::new(), Vec::new(), Vec::new());
    // A transform has one topic of dead letters, and one topic was asked for: there is one.
    for topic in topics {
        let request = Request {
            topic: topic.topic,
            to: replay.to.clone(),
            filter: filter.clone(),
            limit: replay.limit.unwrap_or(u64::MAX),
            pass_over: replay.pass_over,
            execute: replay.execute,
        };
        let report = replay::replay(cluster, &request)?;
        remark(&report, replay, &mut remarks);
        for ((class, to), tally) in &report.rows {
            let names = [class.transform.clone(), class.code.clone(), harmless(to)];
            let numbers = [tally.replayed, tally.before, tally.passed_over].map(|n| n.to_string());
            rows.push(names.into_iter().chain(numbers).collect());
            found.push(json!({
                "transform": class.transform,
                "code": class.code,
                "to": to,
                "replayed": tally.replayed,
                "before": tally.before,
                "passed_over": tally.passed_over,
            }));
        }
    }
    let replayed = if replay.execute { ">REPLAYED" } else { ">TO REPLAY" };
    let text = table(&["TRANSFORM", "CODE", "TO", replayed, ">BEFORE", ">LEFT OUT"], &rows);
    Ok(Answer { text, json: json!({"executed": replay.execute, "classes": found}), remarks })
}

fn remark(report: &Report, replay: &Replay, remarks: &mut Vec<String>) {
    let total = report.total();
    let letters = counted(total.replayed, "dead letter", "dead letters");
    remarks.push(if replay.execute {
        format!("{letters} replayed")
    } else {
        format!("dry run: {letters} would be replayed; `--execute` replays")
    });
    if total.passed_over > 0 && !replay.pass_over {
        let letters = counted(total.passed_over, "of them", "of them");
        remarks
            .push(format!("{letters} cannot be replayed: `--execute` would stop there, see `--to` and `--pass-over`"));
    }
    if report.cut {
        remarks.push("`--limit` ended it: there may be more".to_owned());
    }
    if report.others > 0 {
        remarks.push(format!("{} not meant", counted(report.others, "dead letter was", "dead letters were")));
    }
}

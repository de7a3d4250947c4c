//! `pelton offsets`: the positions of the application's group in its input topics, and moving them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::answer::{self, Answer, counted, harmless, or_none, table};
use super::{Exit, Global, Output};
use crate::tools::offsets::{self, Plan, Scope, Shown};
use crate::tools::target::{Remark, Target};
use crate::tools::{Cluster, ToolError};
use crate::wall::unix_ms;
use pelton_kafka::GroupInfo;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print committed positions, lag and members of the group, for each input partition.
    Show(Show),
    /// Move the group to other positions. Prints what it would do; `--execute` does it.
    Reset(Reset),
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// How to print it.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// Refused while any process of the application runs, because it would overwrite the new positions with its own.
#[derive(Debug, Args)]
pub(super) struct Reset {
    /// `earliest`, `latest`, `@TIME` (RFC 3339, ms since 1970, or `@-1h`), or `+N`, `-N` from the committed position.
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true, value_parser = target)]
    to: Target,

    /// Only this input topic.
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,

    /// Only this partition of the topic; repeatable.
    #[arg(long, value_name = "N", requires = "topic", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,

    /// Write the positions.
    #[arg(long)]
    execute: bool,

    /// How to print it.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

pub(super) fn offsets(global: &Global, command: &Command) -> Exit {
    match command {
        Command::Show(show) => {
            answer::answer(global, show.output, |cluster| Ok(shown(cluster, &offsets::show(cluster)?)))
        }
        Command::Reset(reset) => answer::answer(global, reset.output, |cluster| move_to(cluster, reset)),
    }
}

fn target(text: &str) -> Result<Target, String> {
    Target::parse(text, unix_ms())
}

fn shown(cluster: &Cluster<'_>, shown: &Shown) -> Answer {
    let rows: Vec<Vec<String>> = shown
        .rows
        .iter()
        .map(|row| {
            let p = &row.partition;
            let numbers = [row.low.to_string(), row.end.to_string(), row.lag.to_string()];
            let first = [p.topic.to_string(), p.partition.to_string(), or_none(row.committed)];
            first.into_iter().chain(numbers).collect()
        })
        .collect();
    let lag: i64 = shown.rows.iter().map(|row| row.lag).sum();
    let mut text = group(cluster.application(), &shown.group);
    text += &table(&["TOPIC", ">PARTITION", ">COMMITTED", ">LOW", ">END", ">LAG"], &rows);
    text += &format!("lag in all: {lag}\n");
    let partitions: Vec<Value> = shown
        .rows
        .iter()
        .map(|row| {
            json!({
                "topic": &*row.partition.topic,
                "partition": row.partition.partition,
                "committed": row.committed.map(|position| position.0),
                "low": row.low.0,
                "end": row.end.0,
                "lag": row.lag,
            })
        })
        .collect();
    let json = json!({"group": group_json(cluster, &shown.group), "partitions": partitions, "lag": lag});
    Answer { text, json, remarks: Vec::new() }
}

fn move_to(cluster: &Cluster<'_>, reset: &Reset) -> Result<Answer, ToolError> {
    let scope = Scope { topic: reset.topic.clone(), partitions: reset.partition.clone() };
    let plan = offsets::plan(cluster, reset.to, &scope)?;
    if reset.execute {
        offsets::execute(cluster, &plan)?;
    }
    let moves = plan.changes.iter().filter(|change| change.moves()).count() as u64;
    let moved = counted(moves, "position", "positions");
    let mut remarks = Vec::new();
    if reset.execute {
        remarks.push(format!("{moved} written"));
    } else {
        remarks.push(format!("dry run: {moved} would be written; `--execute` writes"));
        if !plan.group.members.is_empty() {
            let members = counted(plan.group.members.len() as u64, "active member", "active members");
            remarks.push(format!("the group has {members}: `--execute` would refuse until they are stopped"));
        }
    }
    Ok(Answer { text: changes(&plan), json: plan_json(cluster, &plan, reset.execute), remarks })
}

fn changes(plan: &Plan) -> String {
    let rows: Vec<Vec<String>> = plan
        .changes
        .iter()
        .map(|change| {
            let to = change.to.or(change.from);
            let by = change.to.zip(change.from).map(|(to, from)| format!("{:+}", to.0 - from.0));
            vec![
                change.partition.topic.to_string(),
                change.partition.partition.to_string(),
                or_none(change.from),
                or_none(to),
                or_none(by),
                change.low.to_string(),
                change.end.to_string(),
                change.remark.map_or("", Remark::text).to_owned(),
            ]
        })
        .collect();
    table(&["TOPIC", ">PARTITION", ">FROM", ">TO", ">BY", ">LOW", ">END", "REMARK"], &rows)
}

fn plan_json(cluster: &Cluster<'_>, plan: &Plan, executed: bool) -> Value {
    let changes: Vec<Value> = plan
        .changes
        .iter()
        .map(|change| {
            json!({
                "topic": &*change.partition.topic,
                "partition": change.partition.partition,
                "from": change.from.map(|position| position.0),
                "to": change.to.or(change.from).map(|position| position.0),
                "low": change.low.0,
                "end": change.end.0,
                "remark": change.remark.map(Remark::text),
            })
        })
        .collect();
    json!({"executed": executed, "group": group_json(cluster, &plan.group), "changes": changes})
}

fn group(name: &str, info: &GroupInfo) -> String {
    let members = counted(info.members.len() as u64, "active member", "active members");
    let mut text = format!("group {name}: {}, {members}\n", info.state);
    for member in &info.members {
        let partitions: Vec<String> = member.partitions.iter().map(ToString::to_string).collect();
        let line = format!("  {} {} {}", member.client, member.host, partitions.join(" "));
        text += &(harmless(line.trim_end()) + "\n");
    }
    text
}

fn group_json(cluster: &Cluster<'_>, info: &GroupInfo) -> Value {
    let members: Vec<Value> = info
        .members
        .iter()
        .map(|member| {
            let partitions: Vec<String> = member.partitions.iter().map(ToString::to_string).collect();
            json!({"id": member.id, "client": member.client, "host": member.host, "partitions": partitions})
        })
        .collect();
    json!({"name": cluster.application(), "state": info.state, "members": members})
}

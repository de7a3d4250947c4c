//! The application's positions: where its group is in each input partition, and moving it elsewhere while nobody is in it.
//!
//! A move is planned first and written as planned; what was written is read back. The check for members only serves a
//! good message: the broker itself refuses positions for a group that has any.

use super::target::{Partition, Remark, Target};
use super::{Cluster, ToolError};
use crate::config::Start;
use pelton_kafka::{AdminError, At, GroupInfo, Position, Refusal, TopicPartition};

/// Where the group is.
#[derive(Debug)]
pub struct Shown {
    pub group: GroupInfo,
    pub rows: Vec<Row>,
}

/// One partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    pub partition: TopicPartition,
    pub committed: Option<Position>,
    pub low: Position,
    pub end: Position,
    /// Offsets between where the group goes on and the end: records, and the markers of transactional writers.
    pub lag: i64,
}

/// What a reset would do, or did.
#[derive(Debug)]
pub struct Plan {
    pub group: GroupInfo,
    pub changes: Vec<Change>,
}

/// One partition of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub partition: TopicPartition,
    pub from: Option<Position>,
    /// `None`: left alone.
    pub to: Option<Position>,
    pub low: Position,
    pub end: Position,
    pub remark: Option<Remark>,
}

impl Change {
    /// Is there anything to write?
    pub fn moves(&self) -> bool {
        self.to.is_some() && self.to != self.from
    }
}

/// Which partitions a reset is about: all, those of a topic, or some of a topic.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub topic: Option<String>,
    pub partitions: Vec<i32>,
}

/// Every input partition of the application.
pub fn show(cluster: &Cluster<'_>) -> Result<Shown, ToolError> {
    cluster.reach()?;
    let group = cluster.admin.group(cluster.application())?;
    let mut rows = Vec::new();
    for topic in cluster.inputs() {
        let start = start_of(cluster, topic.as_str());
        for (partition, p) in look(cluster, cluster.partitions(topic.as_str())?, None)? {
            let lag = lag(&p, start);
            rows.push(Row { partition, committed: p.committed, low: p.low, end: p.end, lag });
        }
    }
    Ok(Shown { group, rows })
}

/// What `target` means in each partition of `scope`. Writes nothing.
pub fn plan(cluster: &Cluster<'_>, target: Target, scope: &Scope) -> Result<Plan, ToolError> {
    cluster.reach()?;
    let group = cluster.admin.group(cluster.application())?;
    let since = if let Target::Time(ms) = target { Some(ms) } else { None };
    let mut changes = Vec::new();
    for topic in topics(cluster, scope)? {
        let partitions = chosen(cluster.partitions(topic)?, scope)?;
        for (partition, p) in look(cluster, partitions, since)? {
            let (to, remark) = target.place(&p);
            changes.push(Change { partition, from: p.committed, to, low: p.low, end: p.end, remark });
        }
    }
    Ok(Plan { group, changes })
}

/// Writes what was planned and reads it back.
pub fn execute(cluster: &Cluster<'_>, plan: &Plan) -> Result<(), ToolError> {
    let group = cluster.application();
    refuse_active(group, &plan.group)?;
    let moves: Vec<_> = plan
        .changes
        .iter()
        .filter(|change| change.moves())
        .filter_map(|change| Some((change.partition.clone(), change.to?)))
        .collect();
    cluster.admin.set_committed(group, &moves).map_err(|error| refused(cluster, error))?;
    let partitions: Vec<_> = moves.iter().map(|(partition, _)| partition.clone()).collect();
    let found = cluster.admin.committed(group, &partitions, false)?;
    for ((partition, wanted), found) in moves.iter().zip(found) {
        if found != Some(*wanted) {
            let found = found.map_or_else(|| "not there".to_owned(), |found| found.to_string());
            return Err(ToolError::NotWritten { partition: partition.clone(), wanted: wanted.0, found });
        }
    }
    Ok(())
}

/// A group in which somebody is reads on from its own positions, and would write over ours.
fn refuse_active(group: &str, info: &GroupInfo) -> Result<(), ToolError> {
    if info.members.is_empty() {
        return Ok(());
    }
    let mut members: Vec<String> = info.members.iter().map(|m| format!("{} ({})", m.client, m.host)).collect();
    members.sort();
    Err(ToolError::Active { group: group.to_owned(), members: members.join(", ") })
}

/// Somebody may have joined since we looked.
fn refused(cluster: &Cluster<'_>, error: AdminError) -> ToolError {
    if error.refusal() == Refusal::Active {
        let group = cluster.application().to_owned();
        let members = match cluster.admin.group(&group) {
            Ok(info) if !info.members.is_empty() => return refuse_active(&group, &info).err().unwrap_or(error.into()),
            _ => "one that has just joined".to_owned(),
        };
        return ToolError::Active { group, members };
    }
    error.into()
}

fn topics<'a>(cluster: &Cluster<'a>, scope: &Scope) -> Result<Vec<&'a str>, ToolError> {
    let inputs: Vec<&str> = cluster.inputs().into_iter().map(|topic| topic.as_str()).collect();
    match &scope.topic {
        None => Ok(inputs),
        Some(wanted) => match inputs.iter().find(|topic| *topic == wanted) {
            Some(topic) => Ok(vec![topic]),
            None => Err(ToolError::Usage(format!(
                "`{wanted}` is no input topic of `{}`; there are: {}",
                cluster.application(),
                inputs.join(", ")
            ))),
        },
    }
}

fn chosen(all: Vec<TopicPartition>, scope: &Scope) -> Result<Vec<TopicPartition>, ToolError> {
    if scope.partitions.is_empty() {
        return Ok(all);
    }
    if let Some(wrong) = scope.partitions.iter().find(|p| all.iter().all(|known| known.partition != **p)) {
        return Err(ToolError::Usage(format!("there is no partition {wrong}: the topic has {}", all.len())));
    }
    Ok(all.into_iter().filter(|p| scope.partitions.contains(&p.partition)).collect())
}

fn look(
    cluster: &Cluster<'_>,
    partitions: Vec<TopicPartition>,
    since: Option<i64>,
) -> Result<Vec<(TopicPartition, Partition)>, ToolError> {
    let admin = &cluster.admin;
    let committed = admin.committed(cluster.application(), &partitions, false)?;
    let low = admin.offsets(&partitions, At::Low)?;
    let end = admin.offsets(&partitions, At::End)?;
    let since = match since {
        Some(ms) => admin.offsets(&partitions, At::Time(ms))?,
        None => vec![None; partitions.len()],
    };
    let known = committed.into_iter().zip(low).zip(end).zip(since).map(|(((committed, low), end), since)| {
        let low = low.unwrap_or(Position(0));
        Partition { committed, low, end: end.unwrap_or(low), since }
    });
    Ok(partitions.into_iter().zip(known).collect())
}

/// Where nothing is committed, `input.start` says where the group will begin.
fn lag(p: &Partition, start: Start) -> i64 {
    let next = match (p.committed, start) {
        (Some(position), _) => position.max(p.low),
        (None, Start::Earliest) => p.low,
        (None, Start::Latest) => p.end,
    };
    (p.end.0 - next.0).max(0)
}

fn start_of(cluster: &Cluster<'_>, topic: &str) -> Start {
    let reader =
        cluster.config.transforms.values().find(|t| t.input.topics.iter().any(|input| input.as_str() == topic));
    reader.map_or(Start::Earliest, |t| t.input.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_kafka::Member;

    fn at(committed: Option<i64>, low: i64, end: i64) -> Partition {
        Partition { committed: committed.map(Position), low: Position(low), end: Position(end), since: None }
    }

    #[test]
    fn lag_counts_from_where_the_group_would_go_on() {
        assert_eq!(lag(&at(Some(40), 10, 100), Start::Earliest), 60);
        assert_eq!(lag(&at(None, 10, 100), Start::Earliest), 90);
        assert_eq!(lag(&at(None, 10, 100), Start::Latest), 0);
        // What retention has taken is no lag any more, and a reader of an open transaction is not behind.
        assert_eq!(lag(&at(Some(5), 10, 100), Start::Earliest), 90);
        assert_eq!(lag(&at(Some(101), 10, 100), Start::Earliest), 0);
    }

    #[test]
    fn a_group_with_members_is_refused_and_they_are_named() {
        let member = |client: &str| Member {
            id: "m".into(),
            client: client.into(),
            host: "/10.0.0.1".into(),
            partitions: Vec::new(),
        };
        let info = GroupInfo { state: "Stable".into(), members: vec![member("pelton-b"), member("pelton-a")] };
        let error = refuse_active("orders", &info).unwrap_err();
        assert_eq!(error.code(), "offsets.group_active");
        assert!(error.to_string().ends_with("pelton-a (/10.0.0.1), pelton-b (/10.0.0.1)"), "{error}");
        refuse_active("orders", &GroupInfo { state: "Empty".into(), members: Vec::new() }).unwrap();
    }

    #[test]
    fn only_what_changes_is_written() {
        let change = |from: Option<i64>, to: Option<i64>| Change {
            partition: TopicPartition { topic: "in".into(), partition: 0 },
            from: from.map(Position),
            to: to.map(Position),
            low: Position(0),
            end: Position(9),
            remark: None,
        };
        assert!(change(Some(1), Some(2)).moves());
        assert!(change(None, Some(0)).moves());
        assert!(!change(Some(2), Some(2)).moves());
        assert!(!change(Some(2), None).moves());
    }
}

//! Replays dead letters: to the topic they came from, or to another, as the records they were, each once.
//!
//! **Progress.** A position alone cannot say what a run with another filter has replayed. So progress is kept for each
//! *class*, which is all that a filter can tell apart (transform and code), and for each destination: one consumer group
//! `{application}/@dlq-replay/{destination}/{transform}/{code}`, which nobody ever joins, whose position in a partition of the
//! dead-letter topic says: of this class, everything before is settled. Within a partition a class is replayed in order,
//! so filters can be used in any order and overlap: a dead letter goes to a destination once.
//!
//! **Exactly once.** Records and the positions of their classes are committed in one transaction. Its id depends only
//! on the topic and the destination, not on the filter, so of two runs that could meet, the later fences the earlier.
//! Each transaction has a producer of its own: taking over the id ends what a killed run left open, and no request of an
//! earlier transaction that is late on the network can touch a later one. Positions are looked up again *after* that,
//! so what another run has done in between is seen. A run that fails or is killed is simply run again.
//!
//! It refuses to send a record to a topic that the application does not read because a header says so: whoever can write
//! to the dead letters could otherwise write anywhere with our rights.

use super::dead_letters::{self, Class, DeadLetter, Filter};
use super::{Cluster, PATIENCE, ToolError};
use pelton_kafka::{
    Blame, Fate, GroupMetadata, Output, PartitionProgress, Partitioning, Position, ProduceError, Producer, Properties,
    TopicInfo, TopicPartition, TxnError,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A transaction holds at most so many records, and about so many bytes of them in memory (I9).
const TRANSACTION_RECORDS: usize = 1_000;
const TRANSACTION_BYTES: usize = 4 << 20;

/// How long to wait before a call that the brokers put off.
const PAUSE: Duration = Duration::from_millis(20);

/// What to replay.
#[derive(Clone, Debug)]
pub struct Request {
    /// The topic with the dead letters.
    pub topic: String,
    /// `None`: each to the topic that it came from.
    pub to: Option<String>,
    pub filter: Filter,
    pub limit: u64,
    /// Leave out what cannot be replayed, instead of stopping there.
    pub pass_over: bool,
    /// Write. Without it the same is looked at, and counted.
    pub execute: bool,
}

/// What was replayed, or would be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// By class and the topic they go to.
    pub rows: BTreeMap<(Class, String), Tally>,
    /// Dead letters that the filter does not mean.
    pub others: u64,
    /// The limit ended it.
    pub cut: bool,
}

/// Of one class, to one topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub replayed: u64,
    /// By earlier runs.
    pub before: u64,
    pub passed_over: u64,
}

impl Report {
    fn tally(&mut self, letter: &DeadLetter, topic: &str) -> &mut Tally {
        self.rows.entry((letter.class.clone(), topic.to_owned())).or_default()
    }

    pub fn total(&self) -> Tally {
        self.rows.values().fold(Tally::default(), |a, b| Tally {
            replayed: a.replayed + b.replayed,
            before: a.before + b.before,
            passed_over: a.passed_over + b.passed_over,
        })
    }
}

/// Where a letter goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Route {
    /// Index into [`Routes::topics`].
    topic: u32,
    partitioning: Partitioning,
}

/// All topics that can be written to, with their partitions.
#[derive(Debug)]
struct Routes {
    topics: Vec<(Arc<str>, i32)>,
    to_source: bool,
}

impl Routes {
    fn of(cluster: &Cluster<'_>, to: Option<&str>) -> Result<Self, ToolError> {
        cluster.reach()?;
        if let Some(topic) = to {
            let count = cluster.partitions(topic)?.len() as i32;
            return Ok(Routes { topics: vec![(Arc::from(topic), count)], to_source: false });
        }
        let mut topics = Vec::new();
        for topic in cluster.inputs() {
            // One that is gone matters only to the letters that came from it.
            if let TopicInfo::Partitions(count) = cluster.admin.topic(topic.as_str())? {
                topics.push((Arc::from(topic.as_str()), count));
            }
        }
        Ok(Routes { topics, to_source: true })
    }

    fn find(&self, letter: &DeadLetter) -> Result<Route, String> {
        let source = letter.source.as_ref();
        if !self.to_source {
            let input = source.map_or(letter.record.partition, |source| source.partition);
            return Ok(Route { topic: 0, partitioning: Partitioning::ByKey { input } });
        }
        let source = source.ok_or("its headers do not say where it came from")?;
        let at = self.topics.iter().position(|(topic, _)| **topic == source.topic).ok_or_else(|| {
            format!("it came from `{}`, which this application does not read or which is gone", source.topic)
        })?;
        // Where it was, whoever chose that place; by its key, where the topic has been made anew with fewer partitions.
        let partitioning = match source.partition < self.topics[at].1 {
            true => Partitioning::Fixed(source.partition),
            false => Partitioning::ByKey { input: source.partition },
        };
        Ok(Route { topic: at as u32, partitioning })
    }

    /// For the report: where it would go.
    fn name(&self, letter: &DeadLetter) -> String {
        match &letter.source {
            _ if !self.to_source => self.topics[0].0.to_string(),
            Some(source) => source.topic.clone(),
            None => dead_letters::UNKNOWN.to_owned(),
        }
    }
}

/// How far each class is settled, as far as it was looked up.
#[derive(Debug)]
struct Progress<'a> {
    cluster: &'a Cluster<'a>,
    /// Of the dead-letter topic.
    partitions: Vec<TopicPartition>,
    /// Application and destination, as groups begin.
    prefix: String,
    known: BTreeMap<Class, BTreeMap<i32, Position>>,
}

impl Progress<'_> {
    fn group(&self, class: &Class) -> String {
        format!("{}/{}/{}", self.prefix, class.transform, class.code)
    }

    /// Is it settled, by what is known? Positions only grow, so a stale answer of yes stays true.
    fn settled(&mut self, letter: &DeadLetter) -> Result<bool, ToolError> {
        if !self.known.contains_key(&letter.class) {
            self.look_up(&letter.class, false)?;
        }
        let position = self.known.get(&letter.class).and_then(|known| known.get(&letter.record.partition));
        Ok(position.is_some_and(|position| letter.record.offset < position.0))
    }

    fn look_up(&mut self, class: &Class, stable: bool) -> Result<(), ToolError> {
        let found = self.cluster.admin.committed(&self.group(class), &self.partitions, stable)?;
        let positions = self.partitions.iter().zip(found).filter_map(|(p, position)| Some((p.partition, position?)));
        self.known.insert(class.clone(), positions.collect());
        Ok(())
    }
}

/// One run, from what is there at its start.
pub fn replay(cluster: &Cluster<'_>, request: &Request) -> Result<Report, ToolError> {
    if request.to.as_deref() == Some(request.topic.as_str()) {
        return Err(ToolError::Usage("dead letters cannot be replayed to their own topic".to_owned()));
    }
    let routes = Routes::of(cluster, request.to.as_deref())?;
    let (mut reader, partitions) = dead_letters::open(cluster, &request.topic)?;
    // No topic can be called `@source`.
    let destination = request.to.as_deref().unwrap_or("@source");
    let prefix = format!("{}/@dlq-replay/{destination}", cluster.application());
    let id = format!("{}/@dlq-replay/{}/{destination}", cluster.application(), request.topic);
    let mut run = Run {
        request,
        progress: Progress { cluster, partitions, prefix, known: BTreeMap::new() },
        properties: properties(cluster, &id),
        routes,
        report: Report::default(),
        waiting: Vec::new(),
        bytes: 0,
    };
    while let Some(record) = reader.next(PATIENCE)? {
        if run.report.total().replayed + run.waiting.len() as u64 >= request.limit {
            run.report.cut = true;
            break;
        }
        run.take(DeadLetter::of(record))?;
    }
    run.write()?;
    Ok(run.report)
}

/// Not what a worker's producer has: few records, in order, none held back for larger batches.
fn properties(cluster: &Cluster<'_>, id: &str) -> Properties {
    cluster
        .producer
        .clone()
        .with("enable.idempotence", "true")
        .with("acks", "all")
        .with("delivery.report.only.error", "true")
        .with("sticky.partitioning.linger.ms", "0")
        .with("retry.backoff.ms", "10")
        .with("transactional.id", id)
        .with("transaction.timeout.ms", cluster.config.kafka.transaction_timeout.as_millis().to_string())
}

struct Run<'a> {
    request: &'a Request,
    progress: Progress<'a>,
    properties: Properties,
    routes: Routes,
    report: Report,
    /// What goes into the next transaction.
    waiting: Vec<(DeadLetter, Route)>,
    bytes: usize,
}

impl Run<'_> {
    fn take(&mut self, letter: DeadLetter) -> Result<(), ToolError> {
        if !self.request.filter.selects(&letter) {
            self.report.others += 1;
            return Ok(());
        }
        let topic = self.routes.name(&letter);
        if self.progress.settled(&letter)? {
            self.report.tally(&letter, &topic).before += 1;
            return Ok(());
        }
        match self.routes.find(&letter) {
            Ok(_) if !self.request.execute => self.report.tally(&letter, &topic).replayed += 1,
            Ok(route) => {
                self.bytes += size(&letter);
                self.waiting.push((letter, route));
                if self.waiting.len() >= TRANSACTION_RECORDS || self.bytes >= TRANSACTION_BYTES {
                    self.write()?;
                }
            }
            Err(_) if self.request.pass_over || !self.request.execute => {
                self.report.tally(&letter, &topic).passed_over += 1;
            }
            Err(why) => {
                self.write()?;
                return Err(self.no_route(&letter, why));
            }
        }
        Ok(())
    }

    /// Everything that waits.
    fn write(&mut self) -> Result<(), ToolError> {
        let letters = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        if letters.is_empty() { Ok(()) } else { self.send(&letters) }
    }

    /// In one transaction; where the brokers refuse a record, in halves, until that one stands alone.
    fn send(&mut self, letters: &[(DeadLetter, Route)]) -> Result<(), ToolError> {
        match (self.transact(letters), letters) {
            (Err(ToolError::RecordRefused(_)), [(letter, _)]) if self.request.pass_over => {
                let topic = self.routes.name(letter);
                self.report.tally(letter, &topic).passed_over += 1;
                Ok(())
            }
            (Err(ToolError::RecordRefused(error)), [(letter, _)]) => Err(self.no_route(letter, error.to_string())),
            (Err(ToolError::RecordRefused(_)), letters) => {
                let (first, second) = letters.split_at(letters.len() / 2);
                self.send(first)?;
                self.send(second)
            }
            (result, _) => result,
        }
    }

    fn transact(&mut self, letters: &[(DeadLetter, Route)]) -> Result<(), ToolError> {
        let topics: Vec<Arc<str>> = self.routes.topics.iter().map(|(topic, _)| Arc::clone(topic)).collect();
        let producer = Arc::new(Producer::new(&self.properties, &topics)?);
        let patience = self.progress.cluster.config.kafka.transaction_timeout.duration() + PATIENCE;
        persist(patience, || producer.init(PATIENCE)).map_err(failed)?;
        // Only now nobody else can move them.
        for class in letters.iter().map(|(letter, _)| &letter.class).collect::<BTreeSet<_>>() {
            self.progress.look_up(class, true)?;
        }
        producer.begin().map_err(failed)?;
        let filled = self.fill(&producer, letters).and_then(|filled| {
            self.seal(&producer, &filled, patience)?;
            Ok(filled)
        });
        let filled = match filled {
            Ok(filled) => filled,
            // Another run's: its transaction is over already, and what was refused in it is that run's to find out.
            Err(error @ ToolError::Fenced(_)) => return Err(error),
            Err(error) => {
                // Else readers of the target would wait for the transaction's timeout.
                let _ = bounded(&producer, patience, |producer| producer.abort());
                // A refused record ends the transaction for whatever is called next; which it was is known after the abort.
                let refused = producer.failed_delivery().filter(|failed| failed.blame == Blame::Record);
                return Err(refused.map_or(error, failed));
            }
        };
        for (class, positions) in &filled.positions {
            self.progress.known.entry(class.clone()).or_default().extend(positions);
        }
        for ((class, topic), tally) in filled.report.rows {
            let row = self.report.rows.entry((class, topic)).or_default();
            row.replayed += tally.replayed;
            row.before += tally.before;
            row.passed_over += tally.passed_over;
        }
        let replayed = self.report.total().replayed;
        tracing::info!(topic = self.request.topic, replayed, "dead letters are replayed");
        filled.stopped.map_or(Ok(()), Err)
    }

    fn fill(&mut self, producer: &Producer, letters: &[(DeadLetter, Route)]) -> Result<Filled, ToolError> {
        let mut filled = Filled::default();
        for (letter, route) in letters {
            let topic = self.routes.name(letter);
            let tally = filled.report.tally(letter, &topic);
            if self.progress.settled(letter)? {
                tally.before += 1;
                continue;
            }
            let headers = letter.original_headers();
            let output = Output {
                topic: route.topic,
                partitioning: route.partitioning,
                timestamp_ms: letter.record.timestamp_ms,
                key: letter.record.key.as_deref(),
                value: letter.record.value.as_deref(),
                headers: &headers,
            };
            match produce(producer, &output) {
                Ok(()) => {
                    tally.replayed += 1;
                    let positions = filled.positions.entry(letter.class.clone()).or_default();
                    positions.insert(letter.record.partition, Position(letter.record.offset + 1));
                }
                Err(ProduceError::Txn(error)) => return Err(failed(error)),
                Err(_) if self.request.pass_over => tally.passed_over += 1,
                Err(error) => {
                    // What came before it stands.
                    filled.stopped = Some(self.no_route(letter, error.to_string()));
                    break;
                }
            }
        }
        Ok(filled)
    }

    fn seal(&self, producer: &Arc<Producer>, filled: &Filled, patience: Duration) -> Result<(), ToolError> {
        let topic: Arc<str> = Arc::from(self.request.topic.as_str());
        for (class, positions) in &filled.positions {
            let group = GroupMetadata::without_members(&self.progress.group(class))?;
            let progress: Vec<PartitionProgress> = positions
                .iter()
                .map(|(partition, position)| PartitionProgress {
                    partition: TopicPartition { topic: Arc::clone(&topic), partition: *partition },
                    position: *position,
                    leader_epoch: -1,
                })
                .collect();
            persist(patience, || producer.send_offsets(&progress, &group, PATIENCE)).map_err(failed)?;
        }
        bounded(producer, patience, |producer| persist(PATIENCE, || producer.commit())).map_err(failed)
    }

    fn no_route(&self, letter: &DeadLetter, why: impl Into<String>) -> ToolError {
        let (partition, offset) = (letter.record.partition, letter.record.offset);
        ToolError::NoRoute { letter: format!("{}/{partition}@{offset}", self.request.topic), why: why.into() }
    }
}

/// What a transaction holds.
#[derive(Default)]
struct Filled {
    positions: BTreeMap<Class, BTreeMap<i32, Position>>,
    report: Report,
    /// Why nothing comes after it.
    stopped: Option<ToolError>,
}

fn size(letter: &DeadLetter) -> usize {
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let headers: usize = letter.record.headers.iter().map(|(key, value)| key.len() + length(value)).sum();
    length(&letter.record.key) + length(&letter.record.value) + headers
}

fn produce(producer: &Producer, output: &Output<'_>) -> Result<(), ProduceError> {
    if !producer.fits(output) {
        return Err(ProduceError::TooLarge);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match producer.produce(output) {
            Err(ProduceError::Full) if Instant::now() < deadline => std::thread::park_timeout(PAUSE),
            Err(ProduceError::Full) => {
                let text = "the producer's queue stays full";
                return Err(ProduceError::Txn(TxnError::own(
                    Fate::Abort,
                    Blame::Brokers,
                    "produce",
                    "_QUEUE_FULL",
                    text,
                )));
            }
            other => return other,
        }
    }
}

/// The same call again, for as long as that is what is to be done and there is time.
fn persist(patience: Duration, mut call: impl FnMut() -> Result<(), TxnError>) -> Result<(), TxnError> {
    let deadline = Instant::now() + patience;
    loop {
        match call() {
            Err(error) if error.fate == Fate::Retry && Instant::now() < deadline => std::thread::park_timeout(PAUSE),
            other => return other,
        }
    }
}

/// Commit and abort have no timeout of their own, and this librdkafka has cases in which they never return: then the
/// producer is left behind with its thread, and what it was doing is for the next run to find out.
fn bounded(
    producer: &Arc<Producer>,
    limit: Duration,
    call: impl FnOnce(&Producer) -> Result<(), TxnError> + Send + 'static,
) -> Result<(), TxnError> {
    let (done, result) = std::sync::mpsc::channel();
    let inside = Arc::clone(producer);
    let thread = std::thread::Builder::new().name("replay-commit".to_owned()).spawn(move || {
        let _ = done.send(call(&inside));
    });
    let lost = |text: String| Err(TxnError::own(Fate::Replace, Blame::Other, "commit", "_TIMED_OUT", text));
    match thread {
        Err(error) => lost(format!("no thread for it: {error}")),
        Ok(_) => result.recv_timeout(limit).unwrap_or_else(|_| lost(format!("it did not return within {limit:?}"))),
    }
}

fn failed(error: TxnError) -> ToolError {
    match error.blame {
        Blame::Identity => ToolError::Fenced(error),
        _ if error.fate == Fate::Stop || error.name.ends_with("_AUTHORIZATION_FAILED") => ToolError::WriteDenied(error),
        Blame::Record => ToolError::RecordRefused(error),
        Blame::Brokers | Blame::Membership | Blame::Module | Blame::Other => ToolError::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::dead_letters::Source;
    use pelton_kafka::OwnedMessage;

    fn letter(topic: &str, partition: i32) -> DeadLetter {
        DeadLetter {
            source: Some(Source { topic: topic.into(), partition, offset: 7 }),
            ..DeadLetter::of(OwnedMessage { partition: 1, offset: 3, ..OwnedMessage::default() })
        }
    }

    fn routes(to_source: bool) -> Routes {
        Routes { topics: vec![("a".into(), 2), ("b".into(), 8)], to_source }
    }

    #[test]
    fn to_the_source_it_goes_back_to_its_own_partition() {
        let route = |letter: &DeadLetter| routes(true).find(letter);
        assert_eq!(route(&letter("b", 5)), Ok(Route { topic: 1, partitioning: Partitioning::Fixed(5) }));
        // The topic has fewer partitions than it had.
        assert_eq!(route(&letter("a", 5)), Ok(Route { topic: 0, partitioning: Partitioning::ByKey { input: 5 } }));
    }

    #[test]
    fn a_header_cannot_name_a_topic_that_the_application_does_not_read() {
        assert!(routes(true).find(&letter("c", 0)).is_err_and(|why| why.contains("`c`")));
        assert!(routes(true).find(&DeadLetter { source: None, ..letter("a", 0) }).is_err());
    }

    #[test]
    fn to_another_topic_anything_goes_by_its_key() {
        let by_key = |input| Ok(Route { topic: 0, partitioning: Partitioning::ByKey { input } });
        assert_eq!(routes(false).find(&letter("c", 5)), by_key(5));
        assert_eq!(routes(false).find(&DeadLetter { source: None, ..letter("a", 5) }), by_key(1));
    }

    #[test]
    fn what_went_wrong_decides_what_an_operator_is_told() {
        let code = |fate, blame, name| failed(TxnError::own(fate, blame, "commit", name, "")).code();
        assert_eq!(code(Fate::Abort, Blame::Brokers, "_TIMED_OUT"), "dlq.replay_failed");
        assert_eq!(code(Fate::Abort, Blame::Record, "TOPIC_AUTHORIZATION_FAILED"), "kafka.denied");
        assert_eq!(code(Fate::Stop, Blame::Other, "x"), "kafka.denied");
        assert_eq!(code(Fate::Replace, Blame::Identity, "_FENCED"), "dlq.replay_fenced");
        assert_eq!(code(Fate::Abort, Blame::Record, "MSG_SIZE_TOO_LARGE"), "dlq.refused");
    }

    #[test]
    fn only_what_is_put_off_is_asked_again() {
        let mut calls = 0;
        let result = persist(Duration::from_secs(60), || {
            calls += 1;
            let fate = if calls < 3 { Fate::Retry } else { Fate::Abort };
            Err(TxnError::own(fate, Blame::Other, "commit", "x", ""))
        });
        assert_eq!((calls, result.unwrap_err().fate), (3, Fate::Abort));
    }
}

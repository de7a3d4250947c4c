//! The other side of the tests: topics, producers and readers that know nothing of Pelton. Readers are read_committed and
//! outside of any group, so that they see what anybody downstream would see.

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use std::time::{Duration, Instant};

/// How long a broker may take to say of a topic what it should, and for one answer.
const METADATA_LIMIT: Duration = Duration::from_secs(60);
const METADATA_TRY: Duration = Duration::from_secs(5);

/// A record as written or read by the other side.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    pub fn text(&self) -> String {
        self.value.as_deref().map_or_else(String::new, |v| String::from_utf8_lossy(v).into_owned())
    }

    /// The last header of this name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().rev().find(|(key, _)| key == name)?;
        value.as_deref().map(|v| String::from_utf8_lossy(v).into_owned())
    }
}

pub(crate) fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("log_level", "2");
    config
}

/// Does a broker answer, with a controller behind it?
pub(crate) fn probe(bootstrap: &str) -> Result<()> {
    if registered(bootstrap)? == 0 {
        bail!("no broker is registered yet");
    }
    Ok(())
}

/// How many brokers the controller knows as alive.
pub(crate) fn registered(bootstrap: &str) -> Result<usize> {
    let consumer: BaseConsumer = client(bootstrap).create()?;
    let metadata = consumer.fetch_metadata(None, Duration::from_secs(2))?;
    Ok(metadata.brokers().len())
}

/// Makes topics and waits until they can be used.
pub fn create_topics(bootstrap: &str, topics: &[(&str, i32)]) -> Result<()> {
    create_topics_with(bootstrap, topics, &[])
}

/// The same, with topic configuration.
pub fn create_topics_with(bootstrap: &str, topics: &[(&str, i32)], config: &[(&str, &str)]) -> Result<()> {
    create_replicated_topics(bootstrap, topics, 1, config)
}

/// The same, with so many replicas.
pub(crate) fn create_replicated_topics(
    bootstrap: &str,
    topics: &[(&str, i32)],
    replicas: i32,
    config: &[(&str, &str)],
) -> Result<()> {
    if topics.is_empty() {
        return Ok(());
    }
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|(name, partitions)| {
            // Records of tests have timestamps of any age, by which a broker deletes them when it comes round to it: half a
            // minute after its start, and every five minutes.
            let topic = NewTopic::new(name, *partitions, TopicReplication::Fixed(replicas)).set("retention.ms", "-1");
            config.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for result in runtime.block_on(admin.create_topics(&new, &options))? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => bail!("topic {topic}: {code}"),
        }
    }
    let consumer: BaseConsumer = client(bootstrap).create()?;
    for (name, partitions) in topics {
        let deadline = Instant::now() + METADATA_LIMIT;
        loop {
            let metadata = consumer.fetch_metadata(Some(name), METADATA_TRY);
            let ready = metadata.as_ref().is_ok_and(|metadata| {
                metadata.topics().first().is_some_and(|t| {
                    t.partitions().len() == *partitions as usize && t.partitions().iter().all(|p| p.leader() >= 0)
                })
            });
            if ready {
                break;
            }
            if Instant::now() > deadline {
                metadata?;
                bail!("topic {name} has no leaders");
            }
        }
    }
    Ok(())
}

/// Deletes a topic and waits until no broker knows it.
pub fn delete_topic(bootstrap: &str, topic: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    for result in runtime.block_on(admin.delete_topics(&[topic], &options))? {
        result.map_err(|(topic, code)| anyhow::anyhow!("topic {topic}: {code}"))?;
    }
    let consumer: BaseConsumer = client(bootstrap).create()?;
    let deadline = Instant::now() + METADATA_LIMIT;
    loop {
        let metadata = consumer.fetch_metadata(Some(topic), METADATA_TRY);
        if metadata.as_ref().is_ok_and(|m| m.topics().first().is_none_or(|t| t.error().is_some())) {
            return Ok(());
        }
        if Instant::now() > deadline {
            metadata?;
            bail!("topic {topic} is still there");
        }
    }
}

/// Writes records and waits for all acknowledgements. A negative partition: by librdkafka's murmur2 of the key.
pub fn produce(bootstrap: &str, topic: &str, codec: &str, records: &[Record]) -> Result<()> {
    Writer::new(bootstrap, codec)?.write(topic, records)
}

/// The same, in one transaction, whose commit leaves a marker behind them.
pub fn produce_in_transaction(bootstrap: &str, topic: &str, records: &[Record]) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let producer: BaseProducer =
        client(bootstrap).set("transactional.id", topic).set("partitioner", "murmur2_random").create()?;
    producer.init_transactions(LIMIT)?;
    producer.begin_transaction()?;
    let writer = Writer(producer);
    writer.write(topic, records)?;
    writer.0.commit_transaction(LIMIT).context("commit")
}

/// An idempotent producer.
pub struct Writer(BaseProducer);

impl Writer {
    pub fn new(bootstrap: &str, codec: &str) -> Result<Self> {
        Self::lingering(bootstrap, codec, 5)
    }

    /// Sends each record at once: for measurements of time.
    pub fn prompt(bootstrap: &str) -> Result<Self> {
        Self::lingering(bootstrap, "none", 0)
    }

    fn lingering(bootstrap: &str, codec: &str, linger_ms: u32) -> Result<Self> {
        let producer = client(bootstrap)
            .set("enable.idempotence", "true")
            .set("compression.codec", codec)
            .set("partitioner", "murmur2_random")
            .set("linger.ms", linger_ms.to_string())
            .set("queue.buffering.max.messages", "1000000")
            .create()?;
        Ok(Writer(producer))
    }

    /// Returns when everything is acknowledged. A negative partition: by librdkafka's murmur2 of the key.
    pub fn write(&self, topic: &str, records: &[Record]) -> Result<()> {
        self.send(topic, records)?;
        self.flush()
    }

    /// Queues them.
    pub fn send(&self, topic: &str, records: &[Record]) -> Result<()> {
        for record in records {
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: value.as_deref() })
            });
            let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
            message.key = record.key.as_deref();
            message.payload = record.value.as_deref();
            message.timestamp = record.timestamp_ms;
            message.partition = (record.partition >= 0).then_some(record.partition);
            self.0.send(message).map_err(|(error, _)| error).context("produce")?;
        }
        // Records take room in the queue until their delivery reports are taken, one at a time.
        records.iter().for_each(|_| self.0.poll(Duration::ZERO));
        Ok(())
    }

    /// Returns when everything that was queued is acknowledged.
    pub fn flush(&self) -> Result<()> {
        self.0.flush(Duration::from_secs(120)).context("flush")
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

/// Reads a topic from its beginning, read_committed, without a group.
pub struct Reader {
    consumer: BaseConsumer,
    pub records: Vec<Record>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({} records)", self.records.len())
    }
}

impl Reader {
    pub fn new(bootstrap: &str, topic: &str) -> Result<Self> {
        let consumer: BaseConsumer = client(bootstrap)
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .create()?;
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(30))?;
        let mut all = TopicPartitionList::new();
        for partition in metadata.topics().first().context("no such topic")?.partitions() {
            all.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        }
        anyhow::ensure!(
            all.count() > 0,
            "{topic} has no partitions: {:?}",
            metadata.topics().first().map(|t| t.error())
        );
        consumer.assign(&all)?;
        Ok(Reader { consumer, records: Vec::new() })
    }

    /// Takes what is there, waiting up to `wait` for the first record. Returns how many came.
    pub fn poll(&mut self, wait: Duration) -> Result<usize> {
        let before = self.records.len();
        let mut wait = wait;
        while let Some(message) = self.consumer.poll(wait) {
            let message = message?;
            let headers = message.headers().map_or_else(Vec::new, |headers| {
                headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
            });
            self.records.push(Record {
                partition: message.partition(),
                offset: message.offset(),
                timestamp_ms: message.timestamp().to_millis(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                headers,
            });
            wait = Duration::ZERO;
        }
        Ok(self.records.len() - before)
    }

    /// Where it stands, for whoever wonders why nothing comes: a position below the end is an open transaction's, or a
    /// broker's that does not answer.
    fn place(&self) -> String {
        let wait = Duration::from_secs(10);
        let positions = self.consumer.position().map(|list| list.to_topic_map()).unwrap_or_default();
        let of = |((topic, partition), position): (&(String, i32), &Offset)| {
            let ends = self.consumer.fetch_watermarks(topic, *partition, wait);
            format!("{topic}/{partition}: position {position:?}, first and end {ends:?}")
        };
        positions.iter().map(of).collect::<Vec<_>>().join("; ")
    }

    /// Reads until there are `count` records, and a little longer to see whether there are more.
    ///
    /// # Panics
    /// When they do not come within `limit`.
    pub fn read(&mut self, count: usize, limit: Duration) -> &[Record] {
        let deadline = Instant::now() + limit;
        while self.records.len() < count {
            self.poll(Duration::from_millis(200)).expect("the reader works");
            let place = || self.place();
            assert!(
                Instant::now() < deadline,
                "{} of {count} records within {limit:?}; {}",
                self.records.len(),
                place()
            );
        }
        // A duplicate would come in the same or the next fetch.
        while self.poll(Duration::from_millis(500)).expect("the reader works") > 0 {}
        &self.records
    }
}

/// The group's committed position of each partition of `topic`; -1 where there is none.
pub fn committed(bootstrap: &str, group: &str, topic: &str, partitions: i32) -> Result<Vec<i64>> {
    positions(bootstrap, group, (topic, partitions), "read_committed")
}

/// The same at once: a position that a transaction is about to commit is not waited for. Under load there is always one.
pub fn committed_so_far(bootstrap: &str, group: &str, topic: &str, partitions: i32) -> Result<Vec<i64>> {
    positions(bootstrap, group, (topic, partitions), "read_uncommitted")
}

fn positions(bootstrap: &str, group: &str, (topic, partitions): (&str, i32), isolation: &str) -> Result<Vec<i64>> {
    let consumer: BaseConsumer = client(bootstrap).set("group.id", group).set("isolation.level", isolation).create()?;
    let mut list = TopicPartitionList::new();
    (0..partitions).for_each(|p| {
        list.add_partition(topic, p);
    });
    // A new broker first has to find itself a coordinator.
    let deadline = Instant::now() + Duration::from_secs(60);
    let found = loop {
        match consumer.committed_offsets(list.clone(), Duration::from_secs(20)) {
            Ok(found) => break found,
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
        }
    };
    Ok((0..partitions)
        .map(|p| match found.find_partition(topic, p).map(|e| e.offset()) {
            Some(Offset::Offset(offset)) => offset,
            _ => -1,
        })
        .collect())
}

/// Another producer's transaction that is about to commit a position of a group, and does not.
pub struct Undecided(BaseProducer);

impl std::fmt::Debug for Undecided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Undecided")
    }
}

impl Undecided {
    /// Position 0 of the topic's first partition.
    pub fn begin(bootstrap: &str, group: &str, topic: &str) -> Result<Self> {
        const LIMIT: Duration = Duration::from_secs(30);
        let consumer: BaseConsumer = client(bootstrap).set("group.id", group).create()?;
        let group = consumer.group_metadata().context("a consumer has a group")?;
        let producer: BaseProducer = client(bootstrap)
            .set("transactional.id", format!("{topic}/undecided"))
            // So that nobody else ends it.
            .set("transaction.timeout.ms", "600000")
            .create()?;
        let mut positions = TopicPartitionList::new();
        positions.add_partition_offset(topic, 0, Offset::Offset(0))?;
        producer.init_transactions(LIMIT)?;
        producer.begin_transaction()?;
        producer.send_offsets_to_transaction(&positions, &group, LIMIT)?;
        Ok(Undecided(producer))
    }

    pub fn abort(self) -> Result<()> {
        Ok(self.0.abort_transaction(Duration::from_secs(30))?)
    }
}

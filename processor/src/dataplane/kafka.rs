//! The ports over Kafka, and the librdkafka properties that the loop relies on. A comment says why each differs from
//! librdkafka's default; everything else is the user's.

use super::plan::{DeliveryPlan, Plan};
use super::ports::{Progress, Source};
use crate::config::{Assignment, GroupProtocol, Latency};
use pelton_kafka::{
    Batch, Consumer, ConsumerError, ConsumerStatistics, GroupMetadata, NotAMember, Position, Properties,
    RebalanceHandler, TopicPartition, TxnError, Wake,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One group member as the loop's source.
#[derive(Debug)]
pub struct KafkaSource {
    pub consumer: Arc<Consumer>,
    pub wake: Arc<Wake>,
}

impl Source for KafkaSource {
    fn poll(&mut self, group: &mut dyn RebalanceHandler) -> Result<(), ConsumerError> {
        self.consumer.poll(group)
    }

    fn fetch(&mut self, lane: usize, max: usize, into: &mut Batch) -> Result<(), ConsumerError> {
        self.consumer.fetch(lane, max, into)
    }

    fn without_position(&self) -> usize {
        self.consumer.without_position()
    }

    fn seek(&mut self, positions: &[(TopicPartition, Position)]) -> Result<(), TxnError> {
        self.consumer.seek(positions)
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), TxnError> {
        self.consumer.pause(partitions)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), TxnError> {
        self.consumer.resume(partitions)
    }

    fn subscribe(&mut self, plan: &Plan) -> Result<(), ConsumerError> {
        let (topics, read) = plan.subscription();
        Ok(self.consumer.subscribe(&topics, &read)?)
    }

    fn forward(&mut self, partition: &TopicPartition, lane: usize) {
        self.consumer.forward(partition, lane);
    }

    fn statistics(&mut self) -> Option<ConsumerStatistics> {
        self.consumer.statistics()
    }

    fn wait(&mut self, timeout: Duration) {
        self.wake.wait(timeout);
    }

    fn close(&mut self, group: &mut dyn RebalanceHandler, limit: Duration) -> bool {
        self.consumer.close(group, limit)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// The group as the loop's measure of progress.
#[derive(Debug)]
pub struct KafkaProgress(pub Arc<Consumer>);

impl Progress for KafkaProgress {
    type Fence = GroupMetadata;

    fn fence(&self) -> Result<GroupMetadata, NotAMember> {
        self.0.membership()
    }
}

/// Who a client is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub application: Arc<str>,
    pub instance: Arc<str>,
}

/// How this process's members take part in the group.
#[derive(Clone, Debug)]
pub struct Membership {
    pub session_timeout: Duration,
    pub protocol: GroupProtocol,
    pub assignment: Assignment,
    pub static_membership: bool,
}

/// Group member `worker`. `user` are the user's properties, checked not to hold ours.
pub fn consumer_properties(
    id: &Identity,
    worker: usize,
    latency: Latency,
    membership: &Membership,
    user: &Properties,
) -> Properties {
    let mut p = Properties::new()
        .with("fetch.wait.max.ms", if latency == Latency::Low { "50" } else { "100" })
        // After a full queue librdkafka would not fetch for a second.
        .with("fetch.queue.backoff.ms", "5")
        // Prefetch is per partition here: this bounds memory (I9) and costs no throughput.
        .with("queued.min.messages", "2000")
        .with("queued.max.messages.kbytes", "8192")
        .with("retry.backoff.ms", "20")
        // For the lag: where fetching stands and where the logs end. It asks nothing of a broker.
        .with("statistics.interval.ms", "5000")
        // Each try to reach a leader that is gone also asks who leads now; librdkafka would wait up to 10 s between two.
        .with("reconnect.backoff.max.ms", "1000");
    user.iter().for_each(|(name, value)| p.set(name, value));
    let name = format!("{}/{}/{worker}", id.application, id.instance);
    p.set("client.id", format!("pelton-{name}"));
    if membership.static_membership {
        // Who comes back under this name within the session timeout gets its partitions without a rebalance.
        p.set("group.instance.id", &name);
    }
    match (membership.protocol, membership.assignment) {
        // The group's coordinator assigns; timeouts are the broker's.
        (GroupProtocol::Consumer, _) => p.set("group.protocol", "consumer"),
        (GroupProtocol::Classic, assignment) => {
            p.set("session.timeout.ms", membership.session_timeout.as_millis().to_string());
            // Several in a session, so that a stop of the world is not taken for death.
            let heartbeat = (membership.session_timeout / 4).min(Duration::from_secs(3));
            p.set("heartbeat.interval.ms", heartbeat.as_millis().max(1).to_string());
            let strategy = match assignment {
                // Revocations are incremental, and served by us before partitions move.
                Assignment::Cooperative => "cooperative-sticky",
                Assignment::Eager => "range,roundrobin",
            };
            p.set("partition.assignment.strategy", strategy);
        }
    }
    p.with("group.id", id.application.as_ref())
        // Positions are committed with their outputs, or not at all.
        .with("enable.auto.commit", "false")
        .with("enable.auto.offset.store", "false")
        // Aborted input must not be processed; this also makes committed positions wait for open transactions.
        .with("isolation.level", "read_committed")
        // Every partition is assigned with an explicit offset; a place that is lost must never be made up for silently.
        .with("auto.offset.reset", "error")
        .with("enable.partition.eof", "false")
        // A mistyped topic must fail, not appear.
        .with("allow.auto.create.topics", "false")
}

/// The producer of one lane.
pub fn producer_properties(
    id: &Identity,
    worker: usize,
    lane: usize,
    latency: Latency,
    delivery: &DeliveryPlan,
    user: &Properties,
) -> Properties {
    // A separator that neither name can contain: `a` + `b-c` must not be `a-b` + `c`, they would fence each other.
    let name = format!("{}/{}/{worker}/{lane}", id.application, id.instance);
    let mut p = Properties::new()
        .with("linger.ms", if latency == Latency::Low { "0" } else { "20" })
        .with("batch.size", "1000000")
        .with("batch.num.messages", "10000")
        .with("queue.buffering.max.messages", "200000")
        .with("queue.buffering.max.kbytes", "65536")
        // The coordinator asks to come back while it still writes the last transaction's markers.
        .with("retry.backoff.ms", "10")
        // As with consumers: records for a leader that is gone would time out before its successor is found.
        .with("reconnect.backoff.max.ms", "1000");
    user.iter().for_each(|(name, value)| p.set(name, value));
    p = p
        .with("client.id", format!("pelton-{name}"))
        .with("enable.idempotence", "true")
        .with("acks", "all")
        // Only failures are reported; a transaction counts them, so nothing else is needed.
        .with("delivery.report.only.error", "true")
        // Records without a key go by the input's partition, not by chance.
        .with("sticky.partitioning.linger.ms", "0")
        .with("allow.auto.create.topics", "false");
    if delivery.exactly_once {
        p = p
            // Stable, so that a restart at once ends what its predecessor left open.
            .with("transactional.id", name)
            .with("transaction.timeout.ms", delivery.transaction_timeout.as_millis().to_string())
            // A record that nobody takes fails before the coordinator gives up its transaction: the error then names the
            // topic, and the producer lives.
            .with("message.timeout.ms", (delivery.transaction_timeout.as_millis() * 2 / 3).to_string());
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transactional_id(application: &str, instance: &str) -> String {
        let id = Identity { application: application.into(), instance: instance.into() };
        let delivery = DeliveryPlan {
            exactly_once: true,
            commit_interval: Duration::from_millis(100),
            idle: None,
            rest: Duration::ZERO,
            max_records: 1,
            max_bytes: 1,
            transaction_timeout: Duration::from_secs(30),
            renew_in_doubt: true,
            drain_limit: Duration::from_secs(60),
        };
        let properties = producer_properties(&id, 0, 1, Latency::Balanced, &delivery, &Properties::new());
        properties.get("transactional.id").unwrap().to_owned()
    }

    #[test]
    fn two_applications_never_share_a_transactional_id() {
        assert_eq!(transactional_id("orders", "pod-0"), "orders/pod-0/0/1");
        assert_ne!(transactional_id("orders", "a-1"), transactional_id("orders-a", "1"));
    }

    #[test]
    fn what_the_loop_relies_on_wins_over_what_the_user_says() {
        let id = Identity { application: "orders".into(), instance: "a".into() };
        let user = Properties::new().with("isolation.level", "read_uncommitted").with("fetch.wait.max.ms", "7");
        let properties = consumer_properties(&id, 0, Latency::Balanced, &membership(), &user);
        assert_eq!(properties.get("isolation.level"), Some("read_committed"));
        assert_eq!(properties.get("fetch.wait.max.ms"), Some("7"));
    }

    fn membership() -> Membership {
        Membership {
            session_timeout: Duration::from_secs(10),
            protocol: GroupProtocol::Classic,
            assignment: Assignment::Cooperative,
            static_membership: false,
        }
    }

    #[test]
    fn each_way_of_membership_sets_what_its_protocol_takes() {
        let id = Identity { application: "orders".into(), instance: "a".into() };
        let of = |m: &Membership| consumer_properties(&id, 2, Latency::Balanced, m, &Properties::new());
        let classic = of(&membership());
        assert_eq!(classic.get("partition.assignment.strategy"), Some("cooperative-sticky"));
        assert_eq!(classic.get("heartbeat.interval.ms"), Some("2500"));
        assert_eq!(classic.get("group.instance.id"), None);
        let eager = of(&Membership { assignment: Assignment::Eager, static_membership: true, ..membership() });
        assert_eq!(eager.get("partition.assignment.strategy"), Some("range,roundrobin"));
        assert_eq!(eager.get("group.instance.id"), Some("orders/a/2"));
        // librdkafka refuses these three together with the new protocol.
        let new = of(&Membership { protocol: GroupProtocol::Consumer, ..membership() });
        assert_eq!(new.get("group.protocol"), Some("consumer"));
        for name in ["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"] {
            assert_eq!(new.get(name), None, "{name}");
        }
    }
}

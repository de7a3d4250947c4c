//! Kafka, as an application with this configuration finds it: who answers, how topics are stored, the state of the
//! group, whether transactions are allowed, the brokers' settings, and whether their clocks agree with ours.

use super::Finding;
use crate::config::{GroupProtocol, Guarantee, Loaded};
use crate::control::TLS_ADVICE;
use crate::dataplane::worker::Lack;
use crate::tools::{Cluster, ToolError, offsets};
use crate::wall::unix_ms;
use pelton_kafka::{
    AdminError, Broker, Cause, Layout, Producer, Properties, Refusal, Resource, TxnError, Unreached, probe,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long one broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where coordinators keep transactions; its replication is that of every commit.
const TRANSACTIONS: &str = "__transaction_state";
/// Clocks that are further apart than this make lags and `@TIME` wrong by as much.
const SKEW_MAX_MS: i64 = 1_000;

/// Somebody to ask.
pub(super) struct Clients<'a> {
    cluster: Cluster<'a>,
    pub brokers: Vec<Broker>,
}

// === Who answers ===

/// Each bootstrap server, and each broker that they name. Without clients, what is wrong with the configuration of them is
/// found elsewhere.
pub(super) fn servers(loaded: &Loaded) -> (Option<Clients<'_>>, Vec<Finding>) {
    let cluster = match Cluster::new(loaded) {
        Ok(cluster) => cluster,
        Err(ToolError::Config(_)) => return (None, vec![Finding::skip("server", "no Kafka client can be made")]),
        Err(error) => return (None, vec![of_tool("server", &error)]),
    };
    let servers: BTreeSet<String> =
        loaded.config.kafka.bootstrap_servers.as_str().split(',').map(|server| server.trim().to_owned()).collect();
    let asked = ask_all(cluster.producer(), &servers);
    let any = asked.iter().any(|(_, answer)| answer.is_ok());
    let mut brokers: Vec<Broker> =
        asked.iter().filter_map(|(_, answer)| answer.as_ref().ok()).flatten().cloned().collect();
    brokers.sort_by_key(|broker| broker.id);
    brokers.dedup();
    let over = cluster.producer().get("security.protocol").unwrap_or("plaintext").to_owned();
    let mut findings: Vec<Finding> = asked
        .iter()
        .map(|(server, answer)| match answer {
            Ok(_) => Finding::ok("server", format!("answers, over {over}")).about(server),
            // With one that is down clients still start by the others.
            Err(error) => unreached("server", error, any).about(server),
        })
        .collect();
    let advertised: BTreeSet<String> = brokers.iter().map(|broker| broker.address.clone()).collect();
    let asked = ask_all(cluster.producer(), &advertised.difference(&servers).cloned().collect());
    findings.extend(asked.iter().map(|(address, asked)| {
        let id = brokers.iter().find(|broker| broker.address == *address).map_or(-1, |broker| broker.id);
        match asked {
            Ok(_) => Finding::ok("broker", format!("broker {id} answers where it wants to be reached")).about(address),
            Err(error) => {
                let found = unreached("broker", error, false);
                let message =
                    format!("broker {id} wants to be reached there (`advertised.listeners`): {}", found.message);
                Finding { message, ..found }.about(address)
            }
        }
    }));
    (any.then_some(Clients { cluster, brokers }), findings)
}

type Asked = Vec<(String, Result<Vec<Broker>, Unreached>)>;

/// All at a time: each may use up its patience.
fn ask_all(properties: &Properties, servers: &BTreeSet<String>) -> Asked {
    std::thread::scope(|scope| {
        let ask = |server: &String| {
            let properties = properties.clone().with("bootstrap.servers", server);
            (server.clone(), scope.spawn(move || probe(&properties, PATIENCE)))
        };
        let asked: Vec<_> = servers.iter().map(ask).collect();
        let joined = asked.into_iter().map(|(server, thread)| Some((server, thread.join().ok()?)));
        joined.flatten().collect()
    })
}

/// `spare`: others answer.
fn unreached(point: &'static str, error: &Unreached, spare: bool) -> Finding {
    let (code, advice) = match error.cause() {
        Cause::Authentication => (
            "kafka.authentication",
            "look at `sasl.mechanism` and the credentials in `kafka.properties`, and at the broker's log",
        ),
        Cause::Tls => ("kafka.tls", TLS_ADVICE),
        Cause::Name => ("kafka.name", "no such name here: look at its spelling, and at the resolver of this machine"),
        Cause::Silence => {
            ("kafka.unreachable", "look at the address, the network, and `security.protocol` in `kafka.properties`")
        }
    };
    let status = if spare { Finding::warn } else { Finding::fail };
    status(point, code, error.to_string(), advice)
}

// === What is there ===

pub(super) fn examine(loaded: &Loaded, clients: &Clients<'_>) -> Vec<Finding> {
    let mut findings = settings(loaded, clients);
    findings.extend(replication(loaded, clients));
    findings.extend(group(clients));
    findings.extend(transactions(loaded, clients));
    findings
}

/// What a broker is set to. All are taken to be set alike.
fn settings(loaded: &Loaded, clients: &Clients<'_>) -> Vec<Finding> {
    const POINT: &str = "version";
    let Some(broker) = clients.brokers.first() else { return Vec::new() };
    let settings = match clients.cluster.admin.settings(Resource::Broker(broker.id)) {
        Ok(settings) => settings,
        Err(error) => return vec![unseen(POINT, &error, "DescribeConfigs on the cluster")],
    };
    let mut findings = vec![version(&settings)];
    let kafka = &loaded.config.kafka;
    match kafka.group_protocol {
        GroupProtocol::Consumer => findings.push(new_protocol(&settings)),
        GroupProtocol::Classic => findings.extend(session(kafka.session_timeout.duration(), &settings)),
    }
    findings
}

/// Brokers do not say their version to clients: those before 4.0 have a setting that follows it.
fn version(settings: &BTreeMap<String, String>) -> Finding {
    const POINT: &str = "version";
    let Some(version) = settings.get("inter.broker.protocol.version") else {
        return Finding::ok(POINT, "Kafka 4.0 or newer");
    };
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let known = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match known {
        (0 | 1, _) | (2, ..5) => Finding::fail(
            POINT,
            "kafka.version",
            format!(
                "inter.broker.protocol.version is {version}: before 2.5 a group does not fence its members' transactions"
            ),
            "upgrade the brokers to 2.5 or newer, and finish the upgrade",
        ),
        _ => Finding::ok(POINT, format!("inter.broker.protocol.version {version}")),
    }
}

fn new_protocol(settings: &BTreeMap<String, String>) -> Finding {
    const POINT: &str = "group_protocol";
    let protocols = settings.get("group.coordinator.rebalance.protocols").map_or("", String::as_str);
    if protocols.split(',').any(|protocol| protocol.trim() == "consumer") {
        return Finding::ok(POINT, "the coordinator knows KIP-848");
    }
    let message = "`kafka.group_protocol: consumer`, and the brokers do not offer it";
    let advice = "set `group.coordinator.rebalance.protocols` on the brokers (Kafka 4.0 has it on), or use `classic`";
    Finding::fail(POINT, "kafka.group_protocol", message, advice)
}

fn session(timeout: Duration, settings: &BTreeMap<String, String>) -> Option<Finding> {
    const POINT: &str = "session_timeout";
    let bound = |name: &str| settings.get(name).and_then(|value| value.parse::<u128>().ok());
    let (min, max) = (bound("group.min.session.timeout.ms")?, bound("group.max.session.timeout.ms")?);
    let ms = timeout.as_millis();
    if (min..=max).contains(&ms) {
        return Some(Finding::ok(POINT, format!("{ms} ms is within the brokers' {min} to {max} ms")));
    }
    let message = format!("`kafka.session_timeout` is {ms} ms, and the brokers take {min} to {max} ms");
    let advice = "change it, or `group.min.session.timeout.ms` and `group.max.session.timeout.ms` on the brokers";
    Some(Finding::fail(POINT, "kafka.session_timeout", message, advice))
}

// === How topics are kept ===

fn replication(loaded: &Loaded, clients: &Clients<'_>) -> Vec<Finding> {
    let transforms = loaded.config.transforms.values();
    let written = transforms.flat_map(|of| of.output.topics().chain(of.dead_letters())).map(|topic| topic.as_str());
    let mut written: BTreeSet<&str> = written.collect();
    if loaded.config.delivery.guarantee == Guarantee::ExactlyOnce {
        written.insert(TRANSACTIONS);
    }
    let mut findings = Vec::new();
    for topic in written {
        findings.extend(kept(topic, clients));
    }
    for topic in clients.cluster.inputs() {
        if let Ok(Layout { leaderless: 1.., .. }) = clients.cluster.admin.layout(topic.as_str()) {
            findings.push(leaderless().about(topic.as_str()));
        }
    }
    findings
}

fn leaderless() -> Finding {
    let advice = "look which brokers are down: `kafka-topics.sh --describe --unavailable-partitions`";
    Finding::fail("replication", "kafka.leaderless", "nobody leads some of its partitions: they stand still", advice)
}

fn kept(topic: &str, clients: &Clients<'_>) -> Option<Finding> {
    const POINT: &str = "replication";
    let admin = &clients.cluster.admin;
    let layout = match admin.layout(topic) {
        Ok(layout) => layout,
        // A topic that is missing is told already; this one is made by the first transaction.
        Err(_) if topic != TRANSACTIONS => return None,
        Err(error) => return Some(unseen(POINT, &error, "Describe on the topic").about(topic)),
    };
    let settings = match admin.settings(Resource::Topic(topic)) {
        Ok(settings) => settings,
        Err(error) => return Some(unseen(POINT, &error, "DescribeConfigs on the topic").about(topic)),
    };
    let min = settings.get("min.insync.replicas").and_then(|value| value.parse().ok()).unwrap_or(1);
    Some(judged(&layout, min).about(topic))
}

fn judged(layout: &Layout, min: usize) -> Finding {
    const POINT: &str = "replication";
    let Layout { replicas, in_sync, leaderless: lost, .. } = *layout;
    let told = format!("{replicas} replicas, {in_sync} in step, min.insync.replicas {min}");
    if lost > 0 {
        return leaderless();
    }
    if in_sync < min {
        let advice = "bring the brokers back that hold its replicas; until then nothing can be written";
        return Finding::fail(POINT, "kafka.min_insync", told, advice);
    }
    if replicas == 1 {
        let advice =
            "fine for trying things; else three replicas and min.insync.replicas 2, or a lost disk loses records";
        return Finding::warn(POINT, "kafka.replication", told, advice);
    }
    if min == 1 {
        let advice = "set min.insync.replicas to 2: what one broker alone has taken is lost with it";
        return Finding::warn(POINT, "kafka.replication", told, advice);
    }
    if min == replicas {
        let advice = "lower min.insync.replicas or add a replica: one broker that is down stops all writing";
        return Finding::warn(POINT, "kafka.replication", told, advice);
    }
    if in_sync < replicas {
        return Finding::warn(POINT, "kafka.replication", told, "a replica lags behind: look at its broker");
    }
    Finding::ok(POINT, told)
}

// === The group ===

fn group(clients: &Clients<'_>) -> Vec<Finding> {
    const POINT: &str = "group";
    let shown = match offsets::show(&clients.cluster) {
        Ok(shown) => shown,
        Err(ToolError::NoTopic(_)) => return vec![Finding::skip(POINT, "an input topic is missing")],
        Err(error) => return vec![of_tool(POINT, &error)],
    };
    let lag: i64 = shown.rows.iter().map(|row| row.lag).sum();
    let state = match (shown.group.members.len(), shown.rows.iter().any(|row| row.committed.is_some())) {
        (0, false) => "nobody has run yet".to_owned(),
        (0, true) => format!("nobody runs ({}); lag {lag}", shown.group.state),
        (1, _) => format!("1 member ({}); lag {lag}", shown.group.state),
        (members, _) => format!("{members} members ({}); lag {lag}", shown.group.state),
    };
    let mut findings = vec![Finding::ok(POINT, state)];
    for row in &shown.rows {
        let Some(committed) = row.committed else { continue };
        if committed > row.end {
            let message = format!("the group is at {committed}, and the partition ends at {}", row.end);
            let advice = "the topic was made anew or has lost records: decide where to begin, `pelton offsets reset`";
            findings.push(Finding::fail(POINT, "input.beyond_end", message, advice).about(row.partition.to_string()));
        } else if committed < row.low {
            let message = format!("the group is at {committed}, and the partition begins at {}", row.low);
            let advice = "records were deleted before they were read: lengthen the topic's retention";
            findings.push(Finding::warn(POINT, "input.deleted", message, advice).about(row.partition.to_string()));
        }
    }
    findings
}

// === Transactions and clocks ===

/// Takes over a transactional id that no process can have, because no instance can be called `@doctor`: nobody is fenced but
/// another doctor, whose work is done by then.
fn transactions(loaded: &Loaded, clients: &Clients<'_>) -> Vec<Finding> {
    const POINT: &str = "transactions";
    if loaded.config.delivery.guarantee != Guarantee::ExactlyOnce {
        return vec![Finding::skip(POINT, "`delivery.guarantee` is `at_least_once`: there are none")];
    }
    let timeout = loaded.config.kafka.transaction_timeout.duration();
    let properties = clients
        .cluster
        .producer()
        .clone()
        .with("enable.idempotence", "true")
        .with("transactional.id", format!("{}/@doctor", clients.cluster.application()))
        .with("transaction.timeout.ms", timeout.as_millis().to_string());
    let before = unix_ms();
    let producer = match Producer::new(&properties, &[]) {
        Ok(producer) => producer,
        Err(error) => return vec![of_tool(POINT, &ToolError::Client(error))],
    };
    if let Err(error) = producer.init(PATIENCE) {
        return vec![refused(&error)];
    }
    let after = unix_ms();
    let ms = timeout.as_millis();
    let ok = Finding::ok(POINT, format!("a producer id was given out, for transactions of up to {ms} ms"));
    vec![ok, clock(clients, before, after)]
}

fn refused(error: &TxnError) -> Finding {
    const POINT: &str = "transactions";
    let lack = Lack::of(error);
    let (code, advice) = match lack {
        Lack::Right => (
            lack.code(),
            "grant Write and Describe on transactional ids with the prefix `{application}/` \
             (and IdempotentWrite on the cluster before Kafka 2.8)",
        ),
        Lack::Timeout => (lack.code(), lack.advice()),
        _ => (
            "kafka.transactions",
            "look at the topic `__transaction_state` and its brokers: the coordinator does not answer for it",
        ),
    };
    Finding::fail(POINT, code, error.to_string(), advice)
}

/// The coordinator has just written that producer id down, by its own clock, between these two times of ours.
fn clock(clients: &Clients<'_>, before: i64, after: i64) -> Finding {
    const POINT: &str = "clock";
    let newest = clients.cluster.partitions(TRANSACTIONS).and_then(|all| Ok(clients.cluster.admin.newest(&all)?));
    match newest {
        Ok(Some(newest)) => skew(newest, before, after),
        Ok(None) => Finding::skip(POINT, format!("nothing is in `{TRANSACTIONS}` that it could be told by")),
        Err(_) => Finding::skip(POINT, format!("cannot be seen: it takes Describe on the topic `{TRANSACTIONS}`")),
    }
}

fn skew(newest: i64, before: i64, after: i64) -> Finding {
    const POINT: &str = "clock";
    let ahead = if newest > after { newest - after } else { newest.saturating_sub(before).min(0) };
    let message = match ahead {
        0 => return Finding::ok(POINT, "that of the coordinator goes with ours"),
        ahead if ahead > 0 => format!("that of the coordinator is {ahead} ms ahead of ours"),
        behind => format!("that of the coordinator is {} ms behind ours", -behind),
    };
    if ahead.abs() <= SKEW_MAX_MS {
        return Finding::ok(POINT, message);
    }
    let advice = "set both by NTP: lags in seconds and `@TIME` are wrong by as much, and retention may be";
    Finding::warn(POINT, "kafka.clock", message, advice)
}

// === Errors ===

fn of_tool(point: &'static str, error: &ToolError) -> Finding {
    Finding::fail(point, error.code(), error.to_string(), error.advice())
}

/// What needs a right that nothing else needs is no failure.
fn unseen(point: &'static str, error: &AdminError, right: &str) -> Finding {
    match error.refusal() {
        Refusal::Denied => Finding::skip(point, format!("cannot be seen: it takes {right}")),
        _ => Finding::skip(point, format!("cannot be seen: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::doctor::Status;
    use pelton_kafka::Reason;

    fn settings(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn why_a_broker_does_not_answer_decides_what_to_do() {
        let code = |name: &str, text: &str, spare| {
            let reason = Reason { name: name.to_owned(), text: text.to_owned() };
            let finding = unreached("server", &Unreached::Reasons(vec![reason]), spare);
            (finding.status, finding.code.unwrap())
        };
        assert_eq!(code("_AUTHENTICATION", "SASL authentication error", false), (Status::Fail, "kafka.authentication"));
        assert_eq!(code("_SSL", "certificate verify failed", false), (Status::Fail, "kafka.tls"));
        assert_eq!(code("_TRANSPORT", "SSL handshake failed: Disconnected", false), (Status::Fail, "kafka.tls"));
        assert_eq!(code("_RESOLVE", "Name or service not known", true), (Status::Warn, "kafka.name"));
        assert_eq!(code("_TRANSPORT", "Connection refused", true), (Status::Warn, "kafka.unreachable"));
    }

    #[test]
    fn brokers_that_do_not_fence_groups_are_too_old() {
        let status = |version: &str| super::version(&settings(&[("inter.broker.protocol.version", version)])).status;
        for (version, expected) in
            [("0.11.0", Status::Fail), ("2.4-IV1", Status::Fail), ("2.5-IV0", Status::Ok), ("3.9-IV0", Status::Ok)]
        {
            assert_eq!(status(version), expected, "{version}");
        }
        assert_eq!(super::version(&settings(&[])).status, Status::Ok, "4.0 has no such setting");
    }

    #[test]
    fn timeouts_and_protocols_are_held_against_the_brokers() {
        let bounds = [("group.min.session.timeout.ms", "6000"), ("group.max.session.timeout.ms", "1800000")];
        let status = |ms| session(Duration::from_millis(ms), &settings(&bounds)).unwrap().status;
        assert_eq!(
            [5_999, 6_000, 1_800_000, 1_800_001].map(status),
            [Status::Fail, Status::Ok, Status::Ok, Status::Fail]
        );
        assert_eq!(session(Duration::from_secs(10), &settings(&[])), None);
        let protocols = |value| new_protocol(&settings(&[("group.coordinator.rebalance.protocols", value)])).status;
        assert_eq!(["classic", "classic,consumer"].map(protocols), [Status::Fail, Status::Ok]);
    }

    #[test]
    fn replication_is_judged_by_what_one_lost_broker_does() {
        let status = |replicas, in_sync, min| {
            let finding = judged(&Layout { partitions: 4, replicas, in_sync, leaderless: 0 }, min);
            (finding.status, finding.code)
        };
        assert_eq!(status(3, 3, 2), (Status::Ok, None));
        assert_eq!(status(3, 2, 2), (Status::Warn, Some("kafka.replication")));
        assert_eq!(status(3, 1, 2), (Status::Fail, Some("kafka.min_insync")));
        for (replicas, min) in [(1, 1), (3, 1), (3, 3)] {
            assert_eq!(status(replicas, replicas, min), (Status::Warn, Some("kafka.replication")), "{replicas} {min}");
        }
        let lost = judged(&Layout { partitions: 4, replicas: 3, in_sync: 2, leaderless: 1 }, 2);
        assert_eq!((lost.status, lost.code), (Status::Fail, Some("kafka.leaderless")));
    }

    #[test]
    fn a_clock_is_off_by_what_it_lies_outside_of_the_two_times_that_bound_it() {
        let (before, after) = (100_000, 100_400);
        let told = |newest| {
            let finding = skew(newest, before, after);
            (finding.status, finding.message)
        };
        assert!(told(100_200).1.contains("goes with ours"));
        assert_eq!(told(100_900), (Status::Ok, "that of the coordinator is 500 ms ahead of ours".into()));
        assert_eq!(told(107_400).0, Status::Warn);
        assert_eq!(told(90_000), (Status::Warn, "that of the coordinator is 10000 ms behind ours".into()));
    }
}

//! What the scenarios share: names of their own, configurations, records in numbers.

use pelton_integration::broker::{self, Broker};
use pelton_integration::kafka::{self, Reader, Record};
use pelton_integration::{eventually, guest};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// For everything that only a stuck system would not reach.
pub const LONG: Duration = Duration::from_secs(180);

/// One test's corner of the broker.
pub struct Scene {
    pub broker: &'static Broker,
    pub name: String,
}

impl Scene {
    /// Makes the topics, with this test's name before theirs.
    pub fn new(test: &str, topics: &[(&str, i32)]) -> Self {
        Self::on(broker::shared(), test, topics)
    }

    /// The same on a broker of the test's own.
    pub fn on(broker: &'static Broker, test: &str, topics: &[(&str, i32)]) -> Self {
        let unique = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() % 1_000_000_000;
        let scene = Scene { broker, name: format!("{test}-{unique}") };
        let names: Vec<String> = topics.iter().map(|(topic, _)| scene.topic(topic)).collect();
        let topics: Vec<(&str, i32)> = names.iter().map(String::as_str).zip(topics.iter().map(|t| t.1)).collect();
        kafka::create_topics(&broker.bootstrap, &topics).unwrap();
        scene
    }

    pub fn topic(&self, topic: &str) -> String {
        format!("{}.{topic}", self.name)
    }

    pub fn produce(&self, topic: &str, records: &[Record]) {
        kafka::produce(&self.broker.bootstrap, &self.topic(topic), "none", records).unwrap();
    }

    pub fn produce_in_transaction(&self, topic: &str, records: &[Record]) {
        kafka::produce_in_transaction(&self.broker.bootstrap, &self.topic(topic), records).unwrap();
    }

    pub fn reader(&self, topic: &str) -> Reader {
        Reader::new(&self.broker.bootstrap, &self.topic(topic)).unwrap()
    }

    pub fn committed(&self, topic: &str, partitions: i32) -> Vec<i64> {
        kafka::committed(&self.broker.bootstrap, &self.name, &self.topic(topic), partitions).unwrap()
    }

    /// A configuration with these transforms; `settings` are further top-level sections.
    pub fn config(&self, settings: &str, transforms: &[Step<'_>]) -> String {
        let mut config = format!("application: {}\nworkers: 1\nadmin: off\n{settings}\n", self.name);
        if !settings.contains("kafka:") {
            let _ = write!(config, "{}", self.kafka(""));
        }
        config.push_str("transforms:\n");
        for step in transforms {
            // A user's transform, or one that only tests want.
            let module = match step.guest {
                "marker" | "tester" => guest::test_module(step.guest),
                ready => guest::module(ready),
            };
            let also: Vec<String> = step.also.iter().map(|t| self.topic(t)).collect();
            let _ = write!(
                config,
                "  {}:\n    module: {}\n    input: {{ topics: [{}] }}\n    output: {{ topic: {}, also: [{}] }}\n",
                step.name,
                module.display(),
                self.topic(step.input),
                self.topic(step.output),
                also.join(", "),
            );
            if !step.settings.is_empty() {
                let settings = step.settings.replace("TOPIC:", &format!("{}.", self.name));
                let _ = writeln!(config, "    settings: {{ {settings} }}");
            }
            if let Some(dead) = step.dead_letters {
                let _ = writeln!(config, "    on_error: {{ then: dead_letter, topic: {} }}", self.topic(dead));
            }
        }
        config
    }

    /// The section `kafka`, with short timeouts: these tests kill processes.
    pub fn kafka(&self, more: &str) -> String {
        format!(
            "kafka:\n  bootstrap_servers: {}\n  session_timeout: 6s\n  transaction_timeout: 10s\n{more}",
            self.broker.bootstrap
        )
    }
}

/// One transform of a configuration.
#[derive(Clone, Copy, Default)]
pub struct Step<'a> {
    pub name: &'a str,
    pub guest: &'a str,
    pub input: &'a str,
    pub output: &'a str,
    pub also: &'a [&'a str],
    pub settings: &'a str,
    pub dead_letters: Option<&'a str>,
}

pub const IDENTITY: Step<'_> = Step {
    name: "identity",
    guest: "identity",
    input: "in",
    output: "out",
    also: &[],
    settings: "",
    dead_letters: None,
};

/// `from..to`, each with a key of a thousand and its own number as value.
pub fn numbered(from: usize, to: usize) -> Vec<Record> {
    (from..to)
        .map(|i| Record {
            partition: -1,
            key: Some(format!("key-{}", i % 1000).into_bytes()),
            value: Some(i.to_string().into_bytes()),
            ..Record::default()
        })
        .collect()
}

/// The numbers that a reader saw.
pub fn numbers(records: &[Record]) -> Vec<usize> {
    records.iter().map(|r| r.text().parse().unwrap()).collect()
}

pub const MARKER: Step<'_> = Step { name: "marker", guest: "marker", settings: "mark: a", ..IDENTITY };

/// Does what its records ask for, reads `asked`.
pub const TESTER: Step<'_> = Step {
    name: "tester",
    guest: "tester",
    input: "asked",
    output: "left",
    also: &["right", "narrow"],
    settings: "",
    dead_letters: Some("dead"),
};

/// Every number once (I1), and each key's numbers in their order (I3).
pub fn assert_each_once_in_order(records: &[Record], count: usize) {
    let mut seen = numbers(records);
    seen.sort_unstable();
    let doubled: Vec<usize> = seen.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect();
    assert!(doubled.is_empty(), "{} doubled, such as {:?}", doubled.len(), &doubled[..doubled.len().min(5)]);
    assert_eq!(seen, (0..count).collect::<Vec<_>>(), "lost or foreign records");
    let mut last = std::collections::BTreeMap::new();
    for (record, number) in records.iter().zip(numbers(records)) {
        if let Some(before) = last.insert(record.key.clone(), number) {
            assert!(before < number, "key {:?}: {before} before {number}", record.key);
        }
    }
}

/// The configuration with an admin server on this port.
pub fn observed(config: &str, port: u16) -> String {
    config.replace("admin: off", &format!("admin: {{ listen: \"127.0.0.1:{port}\" }}"))
}

/// The configuration with statistics that need not be waited for.
pub fn with_quick_statistics(config: &str) -> String {
    config.replace("kafka:\n", "kafka:\n  consumer: { properties: { statistics.interval.ms: 200 } }\n")
}

/// A configuration with a Unix socket, which takes orders.
pub fn with_socket(scene: &Scene, socket: &std::path::Path, step: Step<'_>, more: &str) -> String {
    let admin = format!("admin: {{ listen: \"127.0.0.1:0\", socket: {} }}", socket.display());
    scene.config("reload_on_change: false", &[step]).replace("admin: off", &admin) + more
}

/// `pelton ARGS` against the process of this configuration: exit code, and the answer.
pub fn ask(config: &str, args: &[&str]) -> (i32, serde_json::Value) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config.yaml");
    std::fs::write(&file, config).unwrap();
    let output = std::process::Command::new(pelton_integration::process::binary())
        .args(args)
        .args(["--output", "json", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    let answer = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), answer)
}

pub fn last_mark(out: &mut Reader, mark: &str) {
    eventually(&format!("mark {mark} is seen"), LONG, || {
        out.poll(Duration::from_millis(50)).unwrap();
        out.records.last().is_some_and(|r| r.header("mark").as_deref() == Some(mark)).then_some(())
    });
}

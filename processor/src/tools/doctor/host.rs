//! What this machine or container allows the process: open files and memory, compared with what the configuration may
//! come to use. Both are upper bounds (I9): a process that has room for them never runs out.

use super::Finding;
use crate::cgroup;
use crate::config::{Config, Transform};
use crate::control::prepare;
use crate::dataplane::sink::UNCOUNTED_MAX;
use rustix::process::{Resource, getrlimit};

/// For the process itself: code, librdkafka, the admin server.
const ITSELF: u64 = 60 << 20;
/// librdkafka's properties, where nobody has set them: see `dataplane/kafka.rs`.
const PREFETCH_KBYTES: u64 = 8192;
const QUEUE_KBYTES: u64 = 65536;
const QUEUE_MESSAGES: u64 = 200_000;
/// What librdkafka keeps of a queued message besides its bytes (`rd_kafka_msg_t` and malloc's own).
const MESSAGE: u64 = 200;
const LANES: u64 = 2;

/// `partitions`: of all input topics, which one process alone has to itself.
pub(super) fn examine(config: &Config, brokers: usize, partitions: Option<u64>) -> Vec<Finding> {
    let group = cgroup::memory_limit();
    let compile = prepare::compile_memory(&config.sandbox, group);
    let limit = group.map(|limit| (limit, "the limit of its control group"));
    let limit = limit.or_else(|| Some((installed()?, "this machine's memory")));
    vec![open_files(config, brokers, getrlimit(Resource::Nofile).current), memory(config, partitions, compile, limit)]
}

// === Open files ===

/// Each client holds a socket to each broker, one more while it looks for a coordinator, and four to wake its threads by.
fn open_files_needed(config: &Config, brokers: usize) -> u64 {
    let clients = prepare::workers(config) * (1 + LANES as usize);
    let sockets = clients * (brokers + 5);
    // Port and socket of the admin server take 128 connections each; logs, modules, watches.
    (sockets + 2 * 128 + 64) as u64
}

/// `None`: no limit.
fn open_files(config: &Config, brokers: usize, limit: Option<u64>) -> Finding {
    const POINT: &str = "open_files";
    let needed = open_files_needed(config, brokers);
    match limit {
        Some(limit) if limit < needed => Finding::warn(
            POINT,
            "host.open_files",
            format!("{limit} may be open, and up to {needed} can come to be"),
            "raise it: `ulimit -n`, `LimitNOFILE=` of systemd, `ulimits` of the container; or lower `workers`",
        ),
        Some(limit) => Finding::ok(POINT, format!("{limit} may be open, at most {needed} will be")),
        None => Finding::ok(POINT, format!("any number may be open, at most {needed} will be")),
    }
}

// === Memory ===

/// What the configuration can come to use, in bytes, besides compiling: prefetched input of each partition, queued output of
/// each lane (values, and what librdkafka's queue does not count), the instances of each transform in each worker, twice as many
/// while another version is tried. Where partitions are not known, one for each worker.
fn memory_needed(config: &Config, partitions: Option<u64>) -> u64 {
    let number = |of: &crate::config::ClientProperties, name: &str, usual: u64| {
        let set = of.properties.get(name).or_else(|| config.kafka.properties.get(name));
        set.and_then(|value| value.reveal().ok()?.parse::<u64>().ok()).unwrap_or(usual)
    };
    let kbytes = |of: &crate::config::ClientProperties, name: &str, usual: u64| number(of, name, usual) << 10;
    let workers = prepare::workers(config) as u64;
    let partitions = partitions.unwrap_or(workers);
    let workers = workers.clamp(1, partitions.max(1));
    let prefetch = kbytes(&config.kafka.consumer, "queued.max.messages.kbytes", PREFETCH_KBYTES);
    let queue = kbytes(&config.kafka.producer, "queue.buffering.max.kbytes", QUEUE_KBYTES);
    let instances = |transform: &Transform| {
        let tried = transform.rollout.shadow.is_some() || transform.rollout.canary.is_some();
        let versions = 1 + u64::from(tried);
        versions * u64::from(transform.parallelism) * transform.limits.memory.get()
    };
    let instances: u64 = config.transforms.values().map(instances).sum();
    let messages = number(&config.kafka.producer, "queue.buffering.max.messages", QUEUE_MESSAGES);
    let queue = queue + UNCOUNTED_MAX as u64 + messages * MESSAGE;
    ITSELF + partitions * prefetch + workers * (LANES * queue + instances)
}

/// `compile`: what the compiler may take.
fn memory(config: &Config, partitions: Option<u64>, compile: u64, limit: Option<(u64, &str)>) -> Finding {
    const POINT: &str = "memory";
    const CODE: &str = "host.memory";
    const ADVICE: &str = "give it more, or lower `workers`, `limits.memory` or `queue.buffering.max.kbytes` in \
                          `kafka.producer.properties`";
    let needed = memory_needed(config, partitions);
    let Some((limit, whose)) = limit else {
        return Finding::skip(POINT, "how much there is cannot be seen");
    };
    let [limit_mib, needed_mib, compile_mib] = [limit, needed, compile].map(|bytes| bytes >> 20);
    let alone = partitions.map(|count| format!(" if this process has all {count} partitions")).unwrap_or_default();
    let used = format!("records can come to use {needed_mib} MiB{alone}, and a compiler {compile_mib} MiB besides");
    if limit < needed {
        return Finding::warn(POINT, CODE, format!("{whose} is {limit_mib} MiB; {used}"), ADVICE);
    }
    if limit < needed + compile {
        let message = format!("{whose} is {limit_mib} MiB; {used}: a reload may not fit beside a full load");
        return Finding::warn(POINT, CODE, message, ADVICE);
    }
    Finding::ok(POINT, format!("{whose} is {limit_mib} MiB; {used}"))
}

fn installed() -> Option<u64> {
    let info = rustix::system::sysinfo();
    info.totalram.checked_mul(info.mem_unit.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::doctor::Status;
    use std::fs;

    fn config(more: &str) -> Config {
        let yaml = format!(
            "application: a\nkafka: {{ bootstrap_servers: x, producer: {{ properties: {{ queue.buffering.max.kbytes: 1024 }} }} }}\n\
             transforms: {{ t: {{ module: m.wasm, input: {{ topics: [i] }}, output: {{ topic: o }}, on_error: {{ then: stop }}, limits: {{ memory: 16MiB }} }} }}\n{more}\n"
        );
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("c.yaml"), yaml).unwrap();
        let sources = crate::config::Sources { files: vec![dir.path().join("c.yaml")], ..Default::default() };
        crate::config::load(&sources).unwrap().config
    }

    #[test]
    fn memory_is_held_against_what_can_be_used() {
        let config = config("workers: 2");
        // Two workers: 8 MiB prefetched, two lanes of 1 and 32 MiB and their messages, an instance of 16 MiB; and the process
        // itself.
        let lane = (33 << 20) + 200_000 * 200;
        let needed = (60 << 20) + 2 * ((8 << 20) + 2 * lane + (16 << 20));
        assert_eq!(memory_needed(&config, None), needed);
        assert_eq!(memory_needed(&config, Some(10)), needed + ((8 * 8) << 20), "each partition is prefetched");
        assert_eq!(
            memory_needed(&config, Some(1)),
            (60 << 20) + (8 << 20) + 2 * lane + (16 << 20),
            "a worker without a partition has nothing"
        );
        let mut parallel = config.clone();
        for transform in parallel.transforms.values_mut() {
            transform.parallelism = 4;
        }
        assert_eq!(
            memory_needed(&parallel, None),
            needed + ((2 * 3 * 16) << 20),
            "three more instances for each worker"
        );
        for transform in parallel.transforms.values_mut() {
            transform.rollout.canary = Some(serde_json::from_str(r#"{ "partitions": "10%", "for": "1m" }"#).unwrap());
        }
        assert_eq!(memory_needed(&parallel, None), needed + ((2 * 7 * 16) << 20), "and as many that are on trial");
        let compile = config.sandbox.compile_memory.get();
        let status = |limit| memory(&config, None, compile, Some((limit, "it"))).status;
        assert_eq!(status(needed - 1), Status::Warn);
        assert_eq!(status(needed), Status::Warn, "no room for a compiler");
        assert_eq!(status(needed + compile - 1), Status::Warn, "nobody halves it where there is no control group");
        assert_eq!(status(needed + compile), Status::Ok);
        assert_eq!(memory(&config, None, compile, None).status, Status::Skip);
    }

    #[test]
    fn open_files_grow_with_workers_and_brokers() {
        let (few, many) = (config("workers: 1"), config("workers: 100"));
        assert_eq!(open_files(&few, 3, Some(1024)).status, Status::Ok);
        assert_eq!(open_files(&few, 3, None).status, Status::Ok);
        assert_eq!(open_files(&many, 3, Some(1024)).status, Status::Warn);
        assert!(open_files_needed(&few, 50) > open_files_needed(&few, 3));
    }
}

//! Every metric: its name, kind, unit and labels, what it means, and when to look at it. The names are a contract with
//! dashboards and alerts: a change of one is a change for every operator, and goes into the changelog.

/// What a metric does over time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    Histogram,
}

impl Kind {
    /// As Prometheus says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(PartialEq, Eq, Debug)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    /// In UCUM's words, as OTLP wants it: `s`, `By`, `1`, or a thing in braces.
    pub unit: &'static str,
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
    /// For the reference: what one should know to read it right, and when to look at it.
    pub notes: &'static str,
}

macro_rules! definitions {
    ($($id:ident: $name:literal $kind:ident $unit:literal [$($label:literal),*] $help:literal $notes:literal)*) => {
        $(pub static $id: Definition = Definition {
            name: $name, kind: Kind::$kind, unit: $unit, labels: &[$($label),*], help: $help, notes: $notes,
        };)*

        /// All of them, in the order in which they are written.
        pub static ALL: &[&Definition] = &[$(&$id),*];
    };
}

definitions! {
    BUILD_INFO: "pelton_build_info" Gauge "1" ["version", "librdkafka"]
        "Which Pelton this is; always 1."
        "To see that a rollout is complete."
    READY: "pelton_ready" Gauge "1" []
        "1 when records can flow, as /readyz says, else 0."
        "0 for longer than a start or a rebalance takes: ask /readyz for the reasons."
    RECORDS_RECEIVED: "pelton_records_received_total" Counter "{record}" ["worker"]
        "Input records taken, once each however many transforms read them."
        "Its rate is the throughput. Records that are read again after a rollback count again."
    RECORDS_SENT: "pelton_records_sent_total" Counter "{record}" ["worker"]
        "Output records written; dead letters are not among them."
        "Against what is received: how much a transform filters or multiplies."
    BYTES_RECEIVED: "pelton_bytes_received_total" Counter "By" ["worker"]
        "Bytes of keys and values of the records taken."
        "For sizing. Headers and the protocol are not in it."
    BYTES_SENT: "pelton_bytes_sent_total" Counter "By" ["worker"]
        "Bytes of keys and values of the output records written."
        "For sizing. Before compression."
    OUTCOMES: "pelton_outcomes_total" Counter "{record}" ["transform", "outcome"]
        "Outcomes of records: kept, dropped, emitted, rejected (by the guest's own word) or failed (for any other reason)."
        "One per record and transform. A rising share of `rejected` is bad input, of `failed` a bad transform. All five are there from the start, so alerts on increases see the first."
    FAULTS: "pelton_faults_total" Counter "{record}" ["transform", "code"]
        "Failed records by code."
        "When `failed` rises: the codes and what to do are in docs/guide/operating.md. A code appears with its first record; their sum is the outcome `failed`."
    DEAD_LETTERS: "pelton_dead_letters_total" Counter "{record}" ["transform"]
        "Rejected or failed records written to the dead-letter topic."
        "Any increase is somebody's record that did not get through."
    SKIPPED: "pelton_skipped_total" Counter "{record}" ["transform"]
        "Rejected or failed records left out because the policy is skip."
        "As with dead letters, but these are gone."
    TRANSACTIONS: "pelton_transactions_total" Counter "{transaction}" ["worker", "result"]
        "Transactions that ended: committed or aborted."
        "A few aborts come with broker failures and rebalances; a steady rate of them means that work is done twice."
    RENEWALS: "pelton_producer_renewals_total" Counter "{renewal}" ["worker"]
        "Producers replaced because the answer to a request of a committed transaction was lost."
        "A steady rate means a network or a coordinator that loses answers."
    LEFT_BEHIND: "pelton_calls_left_behind" Gauge "{call}" ["worker"]
        "Transactional calls that do not return and were left behind, now."
        "Above 0 for minutes: a broker does not answer. The process ends at the fifth of one worker."
    REBALANCES: "pelton_rebalances_total" Counter "{rebalance}" ["worker"]
        "Assignments and revocations that the worker has served."
        "A steady rate without deployments: members lose their sessions."
    PARTITIONS: "pelton_assigned_partitions" Gauge "{partition}" ["worker"]
        "Partitions that the worker has."
        "0 while others have many: more workers than partitions, or a member that is not let in."
    LAG_RECORDS: "pelton_lag_records" Gauge "{record}" ["topic"]
        "Offsets between the committed positions and the ends of the partitions that this process has."
        "Sum over processes for the group. The ends are as of the last fetch, looked at every five seconds, for read_committed readers: what an open transaction wrote does not count, and a partition that is paused or whose leader is away stands still. A partition appears once its end is known. With `observe.partition_metrics` there is one series for each partition, with the label `partition`: sum them by topic."
    LAG_SECONDS: "pelton_lag_seconds" Gauge "s" ["topic"]
        "Age of the last committed record of the partition that is furthest behind; 0 when nothing is left to read."
        "The time from the timestamp of the last record that was committed to now, as long as there are records that are not: what is waited for may be this old. It grows with the clock while nothing is committed. Not there while records wait and none was committed since the assignment. Timestamps are the producers' (or the topic's, with LogAppendTime)."
    PROCESS_DURATION: "pelton_process_duration_seconds" Histogram "s" ["transform"]
        "Time in the guest for one batch, of all instances that share it together; writing what came of it is not in it."
        "Against `pelton_batch_records`: seconds per record are the quotient of the two sums."
    BATCH_RECORDS: "pelton_batch_records" Histogram "{record}" ["transform"]
        "Records of the batches given to the guest, 128 at most."
        "Small batches under load: records are slow, or one partition's traffic is thin."
    LATENCY: "pelton_end_to_end_latency_seconds" Histogram "s" []
        "Time from a record's timestamp to its commit, when its outputs become visible."
        "Every committed record counts; those of one partition that one batch brings together have the timestamp of the first of them, so it is rather over- than underestimated. While a backlog is read it shows the backlog's age. Clocks of producers count: a record from the future counts as 0."
    COMMIT_DURATION: "pelton_commit_duration_seconds" Histogram "s" []
        "Time from the end of a transaction's records to the report that it is committed."
        "Its usual value is the brokers' (2 to 10 ms); it bounds a single partition's throughput."
    BUSY: "pelton_worker_busy_seconds_total" Counter "s" ["worker"]
        "Time in which the worker did not wait: fetching, transforming, writing."
        "Its rate is the utilization: near 1, the worker is the bottleneck; add workers, processes or partitions."
    BACKPRESSURE: "pelton_worker_backpressure_seconds_total" Counter "s" ["worker"]
        "Time in which the worker could not go on because of the brokers: no room in a producer's queue, or every lane that has partitions busy with a commit."
        "A rate near 1 with a low utilization: the brokers are the bottleneck, or one partition waits for its own commits."
    PAUSED: "pelton_transform_paused" Gauge "1" ["transform", "cause"]
        "1 when the transform's input topics are paused: it has used up its budget of failures (budget), or somebody paused it (hand); else 0."
        "1 needs a person: docs/guide/operating.md, `transform.paused`. Both at once is told as budget."
    HELD_BACK: "pelton_transform_held_back" Gauge "1" ["transform"]
        "1 when the configuration asks for a version that was rolled back, and the one before goes on instead; else 0."
        "1: put the old module back before a process is started again, which would take the new one."
    GENERATION: "pelton_generation_info" Gauge "1" ["transform", "generation", "digest"]
        "The generation of each transform that workers go by from their next transactions on, and the first 12 digits of its module's SHA-256; always 1."
        "To see that a reload has reached every process."
    RELOADS: "pelton_reloads_total" Counter "{reload}" ["result"]
        "Reloads: applied, refused (something was wrong, or cannot change; nothing changed), or failed (a defect; nothing changed)."
        "`refused` after a rollout: its new configuration or module is not in use. Those that found nothing changed do not count."
    LAST_RELOAD: "pelton_last_reload_successful" Gauge "1" []
        "1 when the last reload was applied or found nothing changed, and before the first; 0 when it was refused or failed."
        "0: what runs is not what the configuration says, and a process that starts may refuse it."
    COMPILED_CACHE: "pelton_compiled_cache_total" Counter "{module}" ["result"]
        "Modules whose compiled form was in the cache (hit) or was made (miss)."
        "Misses at every start: the cache directory does not survive, see `cache_dir`."
    EXPORTED: "pelton_telemetry_items_total" Counter "{item}" ["signal", "result"]
        "Spans and log records that a collector took (sent), or that were given up (dropped): the queue was full, or the collector did not take them."
        "Only of signals that are pushed. `dropped` rises: the collector is away or slow, or more is followed than one thread can push; sample less, or raise `OTEL_BSP_MAX_QUEUE_SIZE`. Records never wait for either."
    MEMORY: "pelton_guest_memory_bytes" Gauge "By" ["transform"]
        "Linear memory of the transform's instances in all workers, as of their last batches."
        "Growing towards `limits.memory` times the workers: state that grows, or a leak."
    FUEL: "pelton_guest_fuel_total" Counter "{instruction}" ["transform"]
        "Fuel burnt, about one for each WebAssembly instruction; the toll for host calls is not in it."
        "Per record it is the cost of a transform whatever the machine: compare it before and after a change."
    PROCESS_START: "process_start_time_seconds" Gauge "s" []
        "When the process started, in seconds since 1970."
        "Changes at each restart: `changes(process_start_time_seconds[1h])` counts them where no Kubernetes does."
    PROCESS_CPU: "process_cpu_seconds_total" Counter "s" []
        "CPU time of all threads, in user and kernel mode."
        "Its rate against the CPUs that the process may use; divided by the records received it is what a record costs."
    PROCESS_RESIDENT: "process_resident_memory_bytes" Gauge "By" []
        "Memory that is really there."
        "Against the limit of the container: above it the process is killed, which costs a restart and no record."
    PROCESS_VIRTUAL: "process_virtual_memory_bytes" Gauge "By" []
        "Address space, used or not."
        "Large by design: the sandbox reserves addresses around each guest's memory, which cost nothing."
    PROCESS_THREADS: "process_threads" Gauge "{thread}" []
        "Threads."
        "Of the workers, their lanes and librdkafka; there is none for a transform, a partition or a record, so it does not grow with them."
    PROCESS_OPEN_FDS: "process_open_fds" Gauge "{descriptor}" []
        "File descriptors that are open."
        "Connections to brokers, above all. Near `process_max_fds` connections fail."
    PROCESS_MAX_FDS: "process_max_fds" Gauge "{descriptor}" []
        "File descriptors that may be open (the soft limit)."
        "Not there where it is unlimited."
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What `promtool check metrics` wants, and a few rules of our own, so that they hold where there is no promtool.
    #[test]
    fn names_follow_prometheus() {
        let mut names = BTreeSet::new();
        for definition in ALL {
            let Definition { name, kind, unit, labels, help, notes } = definition;
            assert!(names.insert(name), "{name} twice");
            assert!(name.starts_with("pelton_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(!["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)), "{name}");
            let suffix = name.trim_end_matches("_total");
            match *unit {
                "s" => assert!(suffix.ends_with("_seconds"), "{name}"),
                "By" => assert!(suffix.ends_with("_bytes") || name.starts_with("pelton_bytes_"), "{name}"),
                "1" => {}
                unit => assert!(unit.starts_with('{') && unit.ends_with('}'), "{name}"),
            }
            assert!(labels.iter().all(|label| !label.starts_with('_') && *label != "le" && *label != "quantile"));
            for text in [help, notes] {
                assert!(text.ends_with('.') && !text.contains('\n') && !text.contains('|'), "{name}: {text}");
            }
        }
    }
}

//! Every metric: its name, kind, unit and labels, what it means, and when to look at it. The names are a contract with
//! dashboards and alerts: changing one affects every operator and goes into the changelog.

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
    /// Prometheus' name for it.
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
    /// In UCUM notation, as OTLP wants it: `s`, `By`, `1`, or a noun in braces.
    pub unit: &'static str,
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
    /// For the reference: what one needs to know to read it correctly, and when to look at it.
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
        "The versions of Pelton and librdkafka; always 1."
        "Shows whether a rollout is complete."
    READY: "pelton_ready" Gauge "1" []
        "1 when records can flow, as /readyz says, else 0."
        "If 0 for longer than a start or a rebalance takes, /readyz has the reasons."
    RECORDS_RECEIVED: "pelton_records_received_total" Counter "{record}" ["worker"]
        "Input records taken, each counted once however many transforms read it."
        "Its rate is the throughput. Records that are read again after a rollback count again."
    RECORDS_SENT: "pelton_records_sent_total" Counter "{record}" ["worker"]
        "Output records written, not counting dead letters."
        "Compared with the records received: how much a transform filters or multiplies."
    BYTES_RECEIVED: "pelton_bytes_received_total" Counter "By" ["worker"]
        "Bytes of keys and values of the records taken."
        "For sizing. Headers and protocol overhead are not included."
    BYTES_SENT: "pelton_bytes_sent_total" Counter "By" ["worker"]
        "Bytes of keys and values of the output records written."
        "For sizing. Before compression."
    OUTCOMES: "pelton_outcomes_total" Counter "{record}" ["transform", "outcome"]
        "Outcomes of records: kept, dropped, emitted, rejected (by the guest itself) or failed (for any other reason)."
        "One per record and transform. A rising share of `rejected` points to bad input, of `failed` to a bad transform. All five exist from the start, so alerts on increases see the first."
    FAULTS: "pelton_faults_total" Counter "{record}" ["transform", "code"]
        "Failed records by code."
        "When `failed` rises: docs/guide/operating.md lists the codes and what to do. A code appears with its first record; their sum is the outcome `failed`."
    DEAD_LETTERS: "pelton_dead_letters_total" Counter "{record}" ["transform"]
        "Rejected or failed records written to the dead-letter topic."
        "Any increase means that somebody's record did not get through."
    SKIPPED: "pelton_skipped_total" Counter "{record}" ["transform"]
        "Rejected or failed records skipped because the policy is skip."
        "As with dead letters, but these are lost."
    TRANSACTIONS: "pelton_transactions_total" Counter "{transaction}" ["worker", "result"]
        "Transactions that ended: committed or aborted."
        "A few aborts are normal with broker failures and rebalances; a steady rate means that work is done twice."
    RENEWALS: "pelton_producer_renewals_total" Counter "{renewal}" ["worker"]
        "Producers replaced because the answer to a request of a committed transaction was lost."
        "A steady rate means a network or a coordinator that loses answers."
    LEFT_BEHIND: "pelton_calls_left_behind" Gauge "{call}" ["worker"]
        "Transactional calls that have not returned and were left behind, at present."
        "Above 0 for minutes: a broker does not answer. The fifth of one worker ends the process."
    REBALANCES: "pelton_rebalances_total" Counter "{rebalance}" ["worker"]
        "Assignments and revocations that the worker has handled."
        "A steady rate without deployments: members lose their sessions."
    PARTITIONS: "pelton_assigned_partitions" Gauge "{partition}" ["worker"]
        "Partitions assigned to the worker."
        "0 while others have many: more workers than partitions, or a member that cannot join the group."
    WITHOUT_POSITION: "pelton_partitions_without_position" Gauge "{partition}" ["worker"]
        "Assigned partitions that are not read yet, because it is not known where to begin."
        "Above 0 for minutes: a partition without a leader, a coordinator that does not answer, or another producer's transaction that hangs. The log names the partition after 30 seconds (`input.no_position`). Such a partition has no lag."
    LAG_RECORDS: "pelton_lag_records" Gauge "{record}" ["topic"]
        "Offsets between the committed positions and the ends of the partitions that this process has."
        "For the whole group, sum over processes. The ends are those of the last fetch, read every five seconds, for read_committed readers: what an open transaction wrote does not count, and the value of a partition that is paused or without a leader stands still. A partition appears once its end is known. With `observe.partition_metrics` there is one series for each partition, with the label `partition`: sum them by topic."
    LAG_SECONDS: "pelton_lag_seconds" Gauge "s" ["topic"]
        "Age of the last committed record of the partition that is furthest behind; 0 when nothing is left to read."
        "The time from the timestamp of the last committed record to now, as long as uncommitted records remain: what readers wait for may be this old. It grows with the clock while nothing is committed. Absent while records wait and none has been committed since the assignment. Timestamps are the producers' (or the topic's, with LogAppendTime)."
    PROCESS_DURATION: "pelton_process_duration_seconds" Histogram "s" ["transform"]
        "Time in the guest for one batch, summed over all instances that share it, without writing the results."
        "Together with `pelton_batch_records`: the quotient of the two sums is the seconds per record."
    BATCH_RECORDS: "pelton_batch_records" Histogram "{record}" ["transform"]
        "Records of the batches given to the guest, 128 at most."
        "Small batches under load: records are slow to process, or a partition has little traffic."
    LATENCY: "pelton_end_to_end_latency_seconds" Histogram "s" []
        "Time from a record's timestamp to its commit, when its outputs become visible."
        "Every committed record counts. Records of one partition in one batch share the timestamp of the first, so the value is over- rather than underestimated. While a backlog is read it shows the backlog's age. Producers' clocks matter: a record from the future counts as 0."
    COMMIT_DURATION: "pelton_commit_duration_seconds" Histogram "s" []
        "Time from the end of a transaction's records to the confirmation of its commit."
        "Its usual value depends on the brokers (2 to 10 ms); it limits a single partition's throughput."
    BUSY: "pelton_worker_busy_seconds_total" Counter "s" ["worker"]
        "Time that the worker spent working rather than waiting: fetching, transforming, writing."
        "Its rate is the utilization: near 1, the worker is the bottleneck; add workers, processes or partitions."
    BACKPRESSURE: "pelton_worker_backpressure_seconds_total" Counter "s" ["worker"]
        "Time that the worker was held up by the brokers: no room in a producer's queue, or every lane that has partitions busy with a commit."
        "A rate near 1 with a low utilization: the brokers are the bottleneck, or one partition waits for its own commits."
    PAUSED: "pelton_transform_paused" Gauge "1" ["transform", "cause"]
        "1 when the transform's input topics are paused: it has used up its failure budget (budget), or somebody paused it (hand); else 0."
        "1 needs a person: docs/guide/operating.md, `transform.paused`. If both apply, it is reported as budget."
    HELD_BACK: "pelton_transform_held_back" Gauge "1" ["transform"]
        "1 when the configuration asks for a version that was rolled back, and the previous one runs instead; else 0."
        "1: put the old module back before restarting a process, which would load the new one."
    GENERATION: "pelton_generation_info" Gauge "1" ["transform", "generation", "digest"]
        "The generation of each transform that workers use from their next transaction on, and the first 12 digits of its module's SHA-256; always 1."
        "Shows whether a reload has reached every process."
    RELOADS: "pelton_reloads_total" Counter "{reload}" ["result"]
        "Reloads: applied, refused (something is wrong or cannot be changed; nothing changed), or failed (a bug; nothing changed)."
        "`refused` after a rollout: its new configuration or module is not in use. Reloads that find nothing changed do not count."
    LAST_RELOAD: "pelton_last_reload_successful" Gauge "1" []
        "1 when the last reload was applied or found nothing changed, and before the first; 0 when it was refused or failed."
        "0: what runs is not what the configuration says, and a restarted process may refuse it. A version that is held back does not make it 0; `pelton_transform_held_back` shows that."
    COMPILED_CACHE: "pelton_compiled_cache_total" Counter "{module}" ["result"]
        "Modules whose compiled form was found in the cache (hit) or had to be compiled (miss)."
        "Misses at every start: the cache directory does not survive restarts, see `cache_dir`."
    EXPORTED: "pelton_telemetry_items_total" Counter "{item}" ["signal", "result"]
        "Spans and log records that a collector accepted (sent), or that were dropped because the queue was full or the collector did not accept them (dropped)."
        "Only for signals that are pushed. If `dropped` rises, the collector is down or slow, or more is traced than one thread can push; sample less, or raise `OTEL_BSP_MAX_QUEUE_SIZE`. Records never wait for either."
    MEMORY: "pelton_guest_memory_bytes" Gauge "By" ["transform"]
        "Linear memory of the transform's instances in all workers, as of their last batches."
        "Growth towards `limits.memory` times the workers: growing state, or a leak."
    FUEL: "pelton_guest_fuel_total" Counter "{instruction}" ["transform"]
        "Fuel burnt, about one for each WebAssembly instruction; the toll for host calls is not included."
        "Per record it is a transform's cost on any machine: compare it before and after a change."
    PROCESS_START: "process_start_time_seconds" Gauge "s" []
        "When the process started, in seconds since 1970."
        "Changes at each restart: `changes(process_start_time_seconds[1h])` counts them where Kubernetes does not."
    PROCESS_CPU: "process_cpu_seconds_total" Counter "s" []
        "CPU time of all threads, in user and kernel mode."
        "Compare its rate with the CPUs that the process may use; divided by the records received it is the cost of a record."
    PROCESS_RESIDENT: "process_resident_memory_bytes" Gauge "By" []
        "Resident memory."
        "Compare it with the container's limit: above it the process is killed, which costs a restart but no record."
    PROCESS_VIRTUAL: "process_virtual_memory_bytes" Gauge "By" []
        "Address space, used or not."
        "Large by design: the sandbox reserves address space around each guest's memory, which costs nothing."
    PROCESS_THREADS: "process_threads" Gauge "{thread}" []
        "Threads."
        "Workers, their lanes and librdkafka; no partition or record has one, and a transform only those of its `parallelism`."
    PROCESS_OPEN_FDS: "process_open_fds" Gauge "{descriptor}" []
        "Open file descriptors."
        "Mostly connections to brokers. Near `process_max_fds`, connections fail."
    PROCESS_MAX_FDS: "process_max_fds" Gauge "{descriptor}" []
        "Maximum number of open file descriptors (the soft limit)."
        "Absent if unlimited."
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What `promtool check metrics` wants, and a few rules of our own, so that they hold without promtool too.
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

//! All names of attributes and operations in spans: OpenTelemetry's conventions for messaging, in the version that
//! [`SCHEMA_URL`] names, and our own under `pelton.`. Those conventions still change; a collector translates by the
//! schema, and a newer version is adopted here and nowhere else.

/// Goes with every push of spans.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

pub const SYSTEM: &str = "messaging.system";
pub const OPERATION_NAME: &str = "messaging.operation.name";
pub const OPERATION_TYPE: &str = "messaging.operation.type";
pub const DESTINATION: &str = "messaging.destination.name";
pub const PARTITION: &str = "messaging.destination.partition.id";
pub const OFFSET: &str = "messaging.kafka.offset";
pub const GROUP: &str = "messaging.consumer.group.name";
pub const MESSAGE_COUNT: &str = "messaging.batch.message_count";
pub const ERROR_TYPE: &str = "error.type";

/// The transform's name, and the generation that settled the record.
pub const TRANSFORM: &str = "pelton.transform.name";
pub const GENERATION: &str = "pelton.transform.generation";
/// `kept`, `dropped`, `emitted`, `rejected` or `failed`, as in the metrics.
pub const OUTCOME: &str = "pelton.outcome";
/// `committed` or `aborted`, as in the metrics.
pub const RESULT: &str = "pelton.transaction.result";
pub const WORKER: &str = "pelton.worker";
pub const LANE: &str = "pelton.lane";

pub const KAFKA: &str = "kafka";

/// Operations: their names, and their types.
pub const RECEIVE: [&str; 2] = ["receive", "receive"];
pub const PROCESS: [&str; 2] = ["process", "process"];
pub const SEND: [&str; 2] = ["send", "send"];
pub const COMMIT: [&str; 2] = ["commit", "settle"];
/// Not messaging's: it holds the others together.
pub const TRANSACTION: &str = "transaction";

//! The data plane: the life of a record, top to bottom. Read the files in this order:
//!
//! 1. [`plan`]: what is fixed before the first record: topics, transforms, policies, limits.
//! 2. [`ports`]: the three things that the loop needs from the world: [`Source`](ports::Source), [`Sink`](ports::Sink),
//!    [`Progress`](ports::Progress).
//! 3. [`worker`]: the loop: poll, fetch, process, produce, seal, wait.
//! 4. [`process`]: one batch through its transforms: records in, one outcome each. What the worker has of one transform is
//!    in `runner.rs`; [`parallel`] shares a batch among several instances.
//! 5. [`outcome`]: what one outcome leads to: outputs, a dead letter, or the end.
//! 6. [`dead_letter`]: the headers that a rejected record gets.
//! 7. [`lanes`]: open transactions, sealing them, taking their results, and the duty to finish before a revocation.
//!    One lane's own state is in `lane.rs`.
//! 8. [`assignment`]: which partition belongs to which lane, and where reading continues after a rollback.
//! 9. [`pace`]: when a transaction is due and how many records fit a batch.
//! 10. [`isolation`]: finding the record that makes its transactions fail.
//! 11. [`breaker`], [`pauses`]: how much of the others' time and patience a transform may take, and who is paused.
//! 12. [`desired`]: the plan that workers take up at their next transaction boundary. [`trial`], [`samples`]: how the next
//!     generation of a transform is tried first.
//! 13. [`counters`], [`histogram`], [`lag`], [`utilization`], [`rejects`]: metrics of all that; a worker's state, in
//!     `reporting.rs`. [`recent`]: how often something happened lately.
//!     [`tap`]: copies of records for somebody who views them.
//! 14. [`traced`], [`propagation`]: traced records, and how their outputs carry the trace on.
//! 15. [`sink`]: a lane as its worker sees it, and how a call that never returns is left behind.
//! 16. [`committer`]: the thread that ends transactions, and repairs a lane when one fails.
//! 17. [`kafka`]: the ports over `pelton-kafka`, and the librdkafka properties that the loop relies on.
//!
//! One worker is one plain thread with a group member of its own; workers share nothing but counters and breakers.

pub mod assignment;
pub mod breaker;
pub mod committer;
pub mod counters;
pub mod dead_letter;
pub mod desired;
pub mod histogram;
pub mod isolation;
pub mod kafka;
pub mod lag;
mod lane;
pub mod lanes;
pub mod outcome;
pub mod pace;
pub mod parallel;
pub mod pauses;
pub mod plan;
pub mod ports;
pub mod process;
pub mod propagation;
pub mod recent;
pub mod rejects;
mod reporting;
mod runner;
pub mod samples;
pub mod sink;
pub mod tap;
pub mod traced;
pub mod trial;
pub mod utilization;
pub mod worker;

#[cfg(test)]
mod tests;

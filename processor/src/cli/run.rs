//! `pelton run`: from a checked configuration to a running service, and from how that ended to an exit code.

use super::{Exit, Global};
use pelton_kafka::ConsumerError;

use crate::config::{ConfigError, ConfigErrors, Loaded};
use crate::control::{self, Ended, Parts};
use crate::dataplane::worker::{Lack, WorkerError};

/// Processes records until told to stop, or until it cannot continue.
pub(super) fn run(global: &Global, loaded: &Loaded, parts: &impl Parts) -> Exit {
    match control::run(loaded, &global.sources(true), parts) {
        Ended::Drained => Exit::Ok,
        Ended::Refused(errors) => global.refuse_to_run(&ConfigErrors(errors)),
        // The log has told code, cause and advice.
        Ended::Failed(error) => exit(&error),
        Ended::Broken(what) => {
            tracing::error!(code = "process.broken", advice = "report it with the log; nothing is lost", "{what}");
            Exit::Internal
        }
    }
}

/// What only the cluster and the engine can tell: that topics exist and modules fit.
pub(super) fn check_environment(loaded: &Loaded) -> Vec<ConfigError> {
    control::check_environment(loaded)
}

fn exit(error: &WorkerError) -> Exit {
    match error {
        WorkerError::Policy { .. }
        | WorkerError::Budget { .. }
        | WorkerError::DeadLetter { .. }
        | WorkerError::Refused { .. } => Exit::Failed,
        WorkerError::Lane(error) => match Lack::of(error) {
            Lack::Right | Lack::Credentials => Exit::Auth,
            Lack::Timeout | Lack::Version => Exit::Config,
            Lack::Client => Exit::Temporary,
            Lack::Defect => Exit::Internal,
        },
        WorkerError::Consumer(ConsumerError::Refused { .. }) => Exit::Auth,
        // Somebody must decide where to begin.
        WorkerError::Consumer(ConsumerError::BeyondEnd { .. }) => Exit::Config,
        WorkerError::IdentityClash(_) => Exit::Config,
        WorkerError::Instance { .. } => Exit::Internal,
        WorkerError::Consumer(_)
        | WorkerError::Seek(_)
        | WorkerError::KeepsFailing { .. }
        | WorkerError::Stuck(_)
        | WorkerError::Drain { .. }
        | WorkerError::Aborted => Exit::Temporary,
    }
}

//! The plan that the workers should follow. The control plane puts a new one here; each worker takes it up by itself,
//! at its next transaction boundary: a transaction uses one generation of each transform (I7).

use super::plan::Plan;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
pub struct Desired {
    /// Grows with each plan; looked at by every worker in every round.
    version: AtomicU64,
    plan: Mutex<Arc<Plan>>,
}

impl Desired {
    pub fn new(plan: Arc<Plan>) -> Self {
        Desired { version: AtomicU64::new(0), plan: Mutex::new(plan) }
    }

    /// From now on this plan is wanted. Plans that no worker has taken up by then never are.
    pub fn set(&self, plan: Arc<Plan>) {
        let mut desired = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        *desired = plan;
        self.version.fetch_add(1, Ordering::Release);
    }

    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The plan, and its version.
    pub fn get(&self) -> (u64, Arc<Plan>) {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        (self.version(), Arc::clone(&plan))
    }
}

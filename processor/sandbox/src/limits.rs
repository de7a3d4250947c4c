//! Owns what a transform may take, and the limiter that enforces the memory part inside wasmtime. Promises that a
//! refusal is remembered until asked for, so that running out of memory can be distinguished from a panic. Fuel and
//! time are enforced in `drive`, outputs in `frame`, logs in `logs`.

use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::drive;

/// What growing costs the host (a system call or two), in what a guest could compute meanwhile.
const FUEL_PER_GROWTH: u64 = 30_000;

/// What one transform may take. The defaults are those of the configuration reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Per record: CPU time while its code runs plus wall time while it waits (in WASI).
    pub deadline: Duration,
    /// Per record, in wasmtime's units (10 to 17 million a millisecond). Exact to about one tenth; see `drive`.
    pub fuel: u64,
    /// Linear memory of an instance, in bytes, all its memories together.
    pub memory: u64,
    /// Output records of one input record.
    pub outputs: u32,
    /// Bytes of output frames of one input record.
    pub output_bytes: u32,
    /// Outcomes of a batch that the host holds outside guest memory. Not the guest's fault when reached: the batch is
    /// cut there and the rest runs afterwards.
    pub batch_output_bytes: u32,
    /// Guest log text per second, all instances of the transform together; a line counts 128 bytes more than its text.
    pub log_bytes_per_second: u32,
    /// For instantiation and `configure` together; they have no fuel limit of their own.
    pub configure_deadline: Duration,
    /// Elements of all tables of an instance.
    pub table_elements: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(5),
            fuel: 500_000_000,
            memory: 16 << 20,
            outputs: 1_000,
            output_bytes: 1 << 20,
            batch_output_bytes: 8 << 20,
            log_bytes_per_second: 16 << 10,
            configure_deadline: Duration::from_secs(1),
            table_elements: 100_000,
        }
    }
}

impl Limits {
    /// The largest input frame, and the largest batch of them, that a guest of this memory is given: an eighth, so that
    /// it can hold the batch, a copy of it and what it makes of it.
    pub(crate) fn input_bytes(&self) -> usize {
        usize::try_from(self.memory / 8).unwrap_or(usize::MAX)
    }
}

/// Memories and tables of one store. Core instances and memories per component are the pool's business.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_limit: usize,
    memory: usize,
    table_limit: usize,
    tables: usize,
    last_growth: usize,
    refused: bool,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory_limit: usize::try_from(limits.memory).unwrap_or(usize::MAX),
            memory: 0,
            table_limit: limits.table_elements as usize,
            tables: 0,
            last_growth: 0,
            refused: false,
        }
    }

    /// Bytes of linear memory that the store holds now.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Whether memory was refused since `forget`.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    pub(crate) fn forget(&mut self) {
        self.refused = false;
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        drive::charge(FUEL_PER_GROWTH);
        let growth = desired.saturating_sub(current);
        let granted = self.memory.saturating_add(growth) <= self.memory_limit;
        if granted {
            self.memory += growth;
            self.last_growth = growth;
        }
        self.refused |= !granted;
        Ok(granted)
    }

    /// Granted here, refused by the pool or by the memory's own maximum.
    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory = self.memory.saturating_sub(std::mem::take(&mut self.last_growth));
        self.refused = true;
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        drive::charge(FUEL_PER_GROWTH + desired.saturating_sub(current) as u64);
        let growth = desired.saturating_sub(current);
        let granted = self.tables.saturating_add(growth) <= self.table_limit;
        if granted {
            self.tables += growth;
        }
        self.refused |= !granted;
        Ok(granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 64 << 10;

    #[test]
    fn memories_of_a_store_share_one_limit_and_a_refusal_is_remembered() {
        let mut limiter = Limiter::new(&Limits { memory: 4 * PAGE as u64, ..Limits::default() });
        assert!(limiter.memory_growing(0, 3 * PAGE, None).unwrap());
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert!(!limiter.refused());
        assert!(!limiter.memory_growing(PAGE, 2 * PAGE, None).unwrap());
        assert!(limiter.refused());
        assert_eq!(limiter.memory(), 4 * PAGE);
        limiter.forget();
        assert!(!limiter.refused());
    }

    #[test]
    fn growth_that_failed_after_all_is_given_back() {
        let mut limiter = Limiter::new(&Limits { memory: 4 * PAGE as u64, ..Limits::default() });
        assert!(limiter.memory_growing(0, 4 * PAGE, None).unwrap());
        limiter.memory_grow_failed(wasmtime::format_err!("the pool says no")).unwrap();
        assert!(limiter.refused());
        assert_eq!(limiter.memory(), 0);
    }

    #[test]
    fn tables_are_counted_in_elements() {
        let mut limiter = Limiter::new(&Limits { table_elements: 10, ..Limits::default() });
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.refused());
        assert!(!limiter.table_growing(10, 11, None).unwrap());
        assert!(limiter.refused());
    }

    #[test]
    fn growth_costs_fuel_and_that_of_tables_by_the_element() {
        let mut limiter = Limiter::new(&Limits { table_elements: 10, ..Limits::default() });
        drive::charge_start();
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert_eq!(drive::charged(), FUEL_PER_GROWTH);
        drive::charge_start();
        assert!(limiter.table_growing(3, 10, None).unwrap());
        assert_eq!(drive::charged(), FUEL_PER_GROWTH + 7);
    }
}

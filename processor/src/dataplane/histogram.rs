//! A histogram that one thread adds to with relaxed stores and anybody may read: fixed buckets in whole units (nanoseconds,
//! milliseconds, records), so that no floating point is computed where records flow. A reading may be torn between a bucket
//! and the sum by one observation, never within the buckets: their total is the count.

use super::counters::Counter;

/// What a histogram measures, and where its buckets end.
#[derive(Debug)]
pub struct Scale {
    /// Inclusive upper ends in the unit that is observed, ascending.
    pub bounds: &'static [u64],
    /// Observed units in one exported unit: 1e9 where nanoseconds are observed and seconds exported.
    pub units: f64,
}

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// Calls of guests: from one cheap record to a batch that took its time. Observed in nanoseconds.
pub static PROCESS: Scale = Scale {
    bounds: &[
        2 * US,
        5 * US,
        10 * US,
        25 * US,
        50 * US,
        100 * US,
        250 * US,
        500 * US,
        MS,
        2_500 * US,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        S,
        5 * S,
    ],
    units: 1e9,
};

/// Records of a batch, of which there are 128 at most.
pub static BATCH: Scale = Scale { bounds: &[1, 2, 4, 8, 16, 32, 64, 128], units: 1.0 };

/// Ends of transactions. Observed in nanoseconds.
pub static COMMIT: Scale = Scale {
    bounds: &[
        MS,
        2_500 * US,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        S,
        2_500 * MS,
        5 * S,
        10 * S,
        30 * S,
        60 * S,
    ],
    units: 1e9,
};

/// From a record's timestamp to its commit: from a quiet topic to a backlog of a day. Observed in milliseconds.
pub static LATENCY: Scale = Scale {
    bounds: &[
        5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000,
        21_600_000, 86_400_000,
    ],
    units: 1e3,
};

/// See the module.
#[derive(Debug)]
pub struct Histogram {
    scale: &'static Scale,
    /// One for each bound, and one for what is above the last.
    buckets: Box<[Counter]>,
    sum: Counter,
}

/// What a [`Histogram`] held when it was read, in exported units; several of one scale can be added up.
#[derive(Clone, PartialEq, Debug)]
pub struct Reading {
    pub bounds: Vec<f64>,
    /// Of each bucket by itself, not cumulated; one more than there are bounds.
    pub buckets: Vec<u64>,
    pub sum: f64,
}

impl Histogram {
    pub fn new(scale: &'static Scale) -> Self {
        Histogram {
            scale,
            buckets: (0..=scale.bounds.len()).map(|_| Counter::default()).collect(),
            sum: Counter::default(),
        }
    }

    /// `value` was observed `times` times. By one thread only.
    pub fn observe(&self, value: u64, times: u64) {
        let bucket = self.scale.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].add(times);
        self.sum.add(value.saturating_mul(times));
    }

    pub fn read(&self) -> Reading {
        Reading {
            bounds: self.scale.bounds.iter().map(|bound| *bound as f64 / self.scale.units).collect(),
            buckets: self.buckets.iter().map(Counter::get).collect(),
            sum: self.sum.get() as f64 / self.scale.units,
        }
    }
}

impl Reading {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What came after an earlier reading of the same histogram.
    #[must_use]
    pub fn since(mut self, earlier: &Reading) -> Reading {
        debug_assert_eq!(self.bounds, earlier.bounds);
        self.buckets.iter_mut().zip(&earlier.buckets).for_each(|(now, then)| *now = now.saturating_sub(*then));
        self.sum = (self.sum - earlier.sum).max(0.0);
        self
    }

    /// What this share (0 to 1) of all values does not exceed: the end of their bucket, so too large rather than too small.
    /// `None`: there are no values, or it is above the last bound.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = (self.count() as f64 * share).ceil().max(1.0);
        let mut seen = 0;
        let within = self.buckets.iter().position(|count| {
            seen += count;
            seen as f64 >= wanted
        });
        self.bounds.get(within?).copied()
    }

    /// Adds another of the same scale.
    pub fn add(&mut self, other: &Reading) {
        debug_assert_eq!(self.bounds, other.bounds);
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(a, b)| *a += b);
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_that_reaches_it() {
        let histogram = Histogram::new(&BATCH);
        for value in [0, 1, 2, 3, 4, 128] {
            histogram.observe(value, 1);
        }
        histogram.observe(129, 10);
        let reading = histogram.read();
        assert_eq!(reading.bounds, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]);
        assert_eq!(reading.buckets, [2, 1, 2, 0, 0, 0, 0, 1, 10]);
        assert_eq!(reading.count(), 16);
        assert_eq!(reading.sum, 138.0 + 1290.0);
    }

    #[test]
    fn a_quantile_is_the_end_of_the_bucket_that_reaches_it_and_may_be_of_what_came_since() {
        let histogram = Histogram::new(&BATCH);
        assert_eq!(histogram.read().quantile(0.99), None, "there is nothing");
        histogram.observe(3, 99);
        histogram.observe(60, 1);
        let earlier = histogram.read();
        assert_eq!(
            (earlier.quantile(0.5), earlier.quantile(0.99), earlier.quantile(1.0)),
            (Some(4.0), Some(4.0), Some(64.0))
        );
        histogram.observe(1, 5);
        let since = histogram.read().since(&earlier);
        assert_eq!((since.count(), since.quantile(0.99)), (5, Some(1.0)));
        histogram.observe(1_000, 1_000);
        assert_eq!(histogram.read().quantile(0.99), None, "above the last bound");
    }

    #[test]
    fn what_is_observed_in_nanoseconds_is_read_in_seconds() {
        let histogram = Histogram::new(&PROCESS);
        histogram.observe(1_500_000, 2);
        let mut reading = histogram.read();
        assert!((reading.sum - 0.003).abs() < 1e-12);
        let bucket = reading.buckets.iter().position(|n| *n == 2).unwrap();
        assert_eq!(reading.bounds[bucket], 0.0025);
        reading.add(&histogram.read());
        assert_eq!(reading.count(), 4);
    }

    #[test]
    fn the_bounds_of_every_scale_ascend() {
        for scale in [&PROCESS, &BATCH, &COMMIT, &LATENCY] {
            assert!(scale.bounds.is_sorted_by(|a, b| a < b), "{scale:?}");
        }
    }
}

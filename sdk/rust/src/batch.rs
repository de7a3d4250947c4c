//! Runs a function over a batch of frames, into the window. The same code in a guest and in a native test.

use crate::output::Outputs;
use crate::record::Record;
use crate::settings::Topics;
use crate::transform::{Outcome, Reject};
use crate::window::{EMIT, KEEP, Window};

/// Settles every record of `batch`, in order.
#[inline]
pub(crate) fn run<'a>(
    mut batch: &'a [u8],
    topics: &'a Topics,
    window: &mut Window,
    mut process: impl FnMut(&Record<'_>, &mut Outputs<'_>) -> Result<Outcome, Reject>,
) {
    window.begin_batch();
    while let Some(record) = Record::next(&mut batch, topics) {
        window.begin_record();
        let mut out = Outputs { window, topics, emitted: 0, error: None };
        let outcome = process(&record, &mut out);
        let (emitted, error) = (out.emitted, out.error);
        match (outcome, error) {
            (Err(reject), _) => window.reject(reject.reason()),
            (Ok(_), Some(error)) => window.reject(&error),
            (Ok(Outcome::Emit), None) => window.settle(EMIT),
            // Silently losing what was emitted would be worse.
            (Ok(_), None) if emitted > 0 => window.reject("the transform emitted, and then returned keep or drop"),
            (Ok(Outcome::Keep), None) => window.settle(KEEP),
            (Ok(Outcome::Drop), None) => window.drop_record(),
        }
    }
}

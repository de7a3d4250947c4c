//! Where to begin with a partition: the group's committed position, else the topic's start.
//!
//! librdkafka can do this by itself, but not exactly once: while another producer's transaction is undecided the
//! group's coordinator answers UNSTABLE_OFFSET_COMMIT; librdkafka asks a few more times, then treats the missing offset
//! as never committed and begins at `auto.offset.reset` (decision 9). So every partition is assigned with an explicit
//! offset, found here, and `auto.offset.reset` is `error`.

use crate::admin;
use crate::consumer::Start;
use crate::error::{Fate, TxnError, classify, text_of};
use crate::list::List;
use crate::position::{Position, TopicPartition};
use rdkafka_sys as sys;
use std::ffi::CString;
use std::time::{Duration, Instant};
use sys::rd_kafka_resp_err_t as Code;

/// The group's committed position of each partition, `None` where it has none, or why that cannot be said now: for one
/// partition, or for all.
pub(crate) fn committed(
    rk: *mut sys::rd_kafka_t,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> Result<Vec<Result<Option<Position>, TxnError>>, TxnError> {
    let failed = |code| classify("committed", code, text_of(code), false, true);
    let list = List::new(partitions.iter().map(|p| (p, i64::from(sys::RD_KAFKA_OFFSET_INVALID), -1)));
    // SAFETY: a live handle and list.
    let code = unsafe { sys::rd_kafka_committed(rk, list.0, timeout.as_millis() as i32) };
    if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(failed(code));
    }
    let found = list.entries();
    Ok(partitions.iter().map(|wanted| position(&found, wanted).map_err(failed)).collect())
}

/// How the group's positions are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// All together, waiting for those that are undecided: most are decided within milliseconds.
    Waiting,
    /// What is decided now. While one is undecided the other way has no answer for any of them.
    Now,
}

/// The same without waiting: that a position is undecided is an error of its partition alone.
fn committed_now(
    rk: *mut sys::rd_kafka_t,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> Result<Vec<Result<Option<Position>, TxnError>>, TxnError> {
    let failed = |code| classify("committed", code, text_of(code), false, true);
    let found = admin::positions_now(rk, partitions, timeout).map_err(failed)?;
    Ok(partitions.iter().map(|wanted| position(&found, wanted).map_err(failed)).collect())
}

fn position(found: &[(TopicPartition, i64, Code)], wanted: &TopicPartition) -> Result<Option<Position>, Code> {
    match found.iter().find(|(p, ..)| p == wanted) {
        Some((_, _, code)) if *code != Code::RD_KAFKA_RESP_ERR_NO_ERROR => Err(*code),
        Some((_, offset, _)) if *offset >= 0 => Ok(Some(Position(*offset))),
        _ => Ok(None),
    }
}

/// No partition's ends are waited for longer, so that one without a leader does not use up the time of the others.
const ENDS_MAX: Duration = Duration::from_millis(300);

/// What is known of where to begin with a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    At(Position),
    /// Not yet. `near`: an offset that the log has, where that much is known: its end, where there is little to read, or a
    /// committed one. `leaderless`: nobody says where the log begins and ends; else the group's position is not known.
    Unknown {
        near: Option<Position>,
        leaderless: bool,
    },
    /// The group has committed more than the log holds: a new leader does not show all of it yet, or the topic was cut
    /// off or made anew.
    BeyondEnd {
        committed: Position,
        end: Position,
    },
    /// The group's positions are not for this principal.
    Refused(String),
}

/// Where to begin with each partition. Blocks up to `limit`.
pub(crate) fn locate(
    rk: *mut sys::rd_kafka_t,
    partitions: &[(TopicPartition, Start)],
    ask: Ask,
    limit: Duration,
) -> Vec<Place> {
    let deadline = Instant::now() + limit;
    let names: Vec<TopicPartition> = partitions.iter().map(|(p, _)| p.clone()).collect();
    // Half of the time is kept for the second question.
    let committed = match ask {
        Ask::Waiting => committed(rk, &names, limit / 2),
        Ask::Now => committed_now(rk, &names, limit / 2),
    };
    let committed = committed.unwrap_or_else(|error| {
        tracing::debug!(%error, "the group's positions cannot be looked up now");
        partitions.iter().map(|_| Err(error.clone())).collect()
    });
    let place = |((partition, start), committed): (&(TopicPartition, Start), Result<Option<Position>, TxnError>)| {
        if let Err(error) = &committed
            && error.fate == Fate::Stop
        {
            return Place::Refused(error.to_string());
        }
        let left = deadline.saturating_duration_since(Instant::now()).min(ENDS_MAX);
        let Some((low, end)) = (if left.is_zero() { None } else { ends(rk, partition, left) }) else {
            // Its leader is away. A committed position is where it will begin, most likely: a good place to park.
            return Place::Unknown { near: committed.ok().flatten(), leaderless: true };
        };
        match (committed, start) {
            (Err(_), _) => Place::Unknown { near: Some(end), leaderless: false },
            (Ok(None), Start::Earliest) => Place::At(low),
            (Ok(None), Start::Latest) => Place::At(end),
            (Ok(Some(position)), _) if position < low => {
                tracing::error!(
                    %partition, %position, %low, code = "input.deleted",
                    "records were deleted by the topic's retention before they were read: going on at the first that is left"
                );
                Place::At(low)
            }
            (Ok(Some(committed)), _) if committed > end => Place::BeyondEnd { committed, end },
            (Ok(Some(position)), _) => Place::At(position),
        }
    };
    partitions.iter().zip(committed).map(place).collect()
}

/// The first offset of the partition and its end for read_committed readers.
fn ends(rk: *mut sys::rd_kafka_t, partition: &TopicPartition, timeout: Duration) -> Option<(Position, Position)> {
    let topic = CString::new(partition.topic.as_bytes()).ok()?;
    let (mut low, mut high) = (0, 0);
    let timeout = timeout.max(Duration::from_millis(1)).as_millis() as i32;
    // SAFETY: a live handle and string; two out parameters.
    let code = unsafe {
        sys::rd_kafka_query_watermark_offsets(
            rk,
            topic.as_ptr(),
            partition.partition,
            &raw mut low,
            &raw mut high,
            timeout,
        )
    };
    (code == Code::RD_KAFKA_RESP_ERR_NO_ERROR).then_some((Position(low), Position(high)))
}

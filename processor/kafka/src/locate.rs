//! Where to begin with a partition: the group's committed position, else the topic's start.
//!
//! librdkafka can do this by itself, but not exactly once: while another producer's transaction is undecided the
//! group's coordinator answers UNSTABLE_OFFSET_COMMIT; librdkafka asks a few more times, then treats the missing offset
//! as never committed and begins at `auto.offset.reset` (decision 9). So every partition is assigned with an explicit
//! offset, found here, and `auto.offset.reset` is `error`.

use crate::consumer::Start;
use crate::error::{Fate, TxnError, classify, name_of, text_of};
use crate::list::List;
use crate::position::{Position, TopicPartition};
use rdkafka_sys as sys;
use std::ffi::CString;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
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

fn position(found: &[(TopicPartition, i64, Code)], wanted: &TopicPartition) -> Result<Option<Position>, Code> {
    match found.iter().find(|(p, ..)| p == wanted) {
        Some((_, _, code)) if *code != Code::RD_KAFKA_RESP_ERR_NO_ERROR => Err(*code),
        Some((_, offset, _)) if *offset >= 0 => Ok(Some(Position(*offset))),
        _ => Ok(None),
    }
}

/// How the group's positions are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask<'a> {
    /// All together, waiting for those that are undecided: most are decided within milliseconds.
    Together,
    /// Together for a short while, then each by itself: while one is undecided librdkafka has an answer for none of those that
    /// are asked for with it. Ends early where the flag is set.
    Singly(&'a AtomicBool),
}

/// What the group's coordinator says of a partition.
enum Answer {
    Committed(Option<Position>),
    Failed(TxnError),
    /// There was no time for it.
    NotAsked,
}

/// A single question gets at most this part of the time: those that hang must leave some for the others.
const SINGLE_PART: u32 = 3;

fn ask_together(rk: *mut sys::rd_kafka_t, partitions: &[TopicPartition], limit: Duration) -> Vec<Answer> {
    match committed(rk, partitions, limit) {
        Ok(answers) => {
            answers.into_iter().map(|answer| answer.map_or_else(Answer::Failed, Answer::Committed)).collect()
        }
        Err(error) => {
            tracing::debug!(%error, "the group's positions cannot be looked up now");
            partitions.iter().map(|_| Answer::Failed(error.clone())).collect()
        }
    }
}

fn ask_singly(
    rk: *mut sys::rd_kafka_t,
    partitions: &[TopicPartition],
    limit: Duration,
    given_up: &AtomicBool,
) -> Vec<Answer> {
    let deadline = Instant::now() + limit;
    let single_max = limit / SINGLE_PART;
    let together = ask_together(rk, partitions, single_max);
    let timed_out = name_of(Code::RD_KAFKA_RESP_ERR__TIMED_OUT);
    let in_vain = |answer: &Answer| matches!(answer, Answer::Failed(error) if error.name == timed_out);
    if partitions.len() == 1 || !together.iter().all(in_vain) {
        return together;
    }
    let single = |partition: &TopicPartition| {
        let left = deadline.saturating_duration_since(Instant::now()).min(single_max);
        if left.as_millis() == 0 || given_up.load(Ordering::Relaxed) {
            return Answer::NotAsked;
        }
        ask_together(rk, slice::from_ref(partition), left).remove(0)
    };
    partitions.iter().map(single).collect()
}

/// No partition's ends are waited for longer than this part of the whole time: one without a leader must leave some for the
/// others.
const ENDS_PART: u32 = 10;

/// What is known of where to begin with a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    At(Position),
    /// Not yet. `near`: an offset that the log has, where that much is known: its end, where there is little to read, or a
    /// committed one.
    Unknown {
        near: Option<Position>,
        why: Why,
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

/// Why a place is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// The group's position is not: a transaction is undecided, or the coordinator does not answer.
    Undecided,
    /// Nobody says where the log begins and ends.
    Leaderless,
    /// The time was used up by others.
    NotAsked,
}

/// Where to begin with each partition. Blocks up to `limit`.
pub(crate) fn locate(
    rk: *mut sys::rd_kafka_t,
    partitions: &[(TopicPartition, Start)],
    ask: Ask<'_>,
    limit: Duration,
) -> Vec<Place> {
    let deadline = Instant::now() + limit;
    let names: Vec<TopicPartition> = partitions.iter().map(|(p, _)| p.clone()).collect();
    // Half of the time is kept for the second question.
    let answers = match ask {
        Ask::Together => ask_together(rk, &names, limit / 2),
        Ask::Singly(given_up) => ask_singly(rk, &names, limit / 2, given_up),
    };
    let is_parked = matches!(ask, Ask::Singly(_));
    let given_up = || matches!(ask, Ask::Singly(given_up) if given_up.load(Ordering::Relaxed));
    let place = |((partition, start), answer): (&(TopicPartition, Start), Answer)| {
        let known = match &answer {
            Answer::Failed(error) if error.fate == Fate::Stop => return Place::Refused(error.to_string()),
            Answer::Committed(position) => *position,
            // Where it is parked already, nobody asks for an offset near by.
            Answer::Failed(_) if is_parked => return Place::Unknown { near: None, why: Why::Undecided },
            Answer::NotAsked if is_parked => return Place::Unknown { near: None, why: Why::NotAsked },
            Answer::Failed(_) | Answer::NotAsked => None,
        };
        let left = deadline.saturating_duration_since(Instant::now()).min(limit / ENDS_PART);
        if left.as_millis() == 0 || given_up() {
            return Place::Unknown { near: known, why: Why::NotAsked };
        }
        let Some((low, end)) = ends(rk, partition, left) else {
            // Its leader is away. A committed position is where it will begin, most likely: a good place to park.
            return Place::Unknown { near: known, why: Why::Leaderless };
        };
        match (answer, start) {
            (Answer::Failed(_), _) => Place::Unknown { near: Some(end), why: Why::Undecided },
            (Answer::NotAsked, _) => Place::Unknown { near: Some(end), why: Why::NotAsked },
            (Answer::Committed(None), Start::Earliest) => Place::At(low),
            (Answer::Committed(None), Start::Latest) => Place::At(end),
            (Answer::Committed(Some(position)), _) if position < low => {
                tracing::error!(
                    %partition, %position, %low, code = "input.deleted",
                    advice = "raise the topic's retention above the longest time that this group may stand still",
                    "records were deleted by the topic's retention before they were read: going on at the first that is left"
                );
                Place::At(low)
            }
            (Answer::Committed(Some(committed)), _) if committed > end => Place::BeyondEnd { committed, end },
            (Answer::Committed(Some(position)), _) => Place::At(position),
        }
    };
    partitions.iter().zip(answers).map(place).collect()
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

//! What operators ask of a cluster: where partitions begin and end, how far a group is and who is in it; and the only
//! thing that is written outside a transaction: a group's positions while it has no members.
//!
//! Every call blocks: for at most the patience that the [`Admin`] was made with, and for three times that where a
//! coordinator is being made, which is asked again. What a broker refuses is sorted into the few kinds that an operator's
//! tool can act on ([`Refusal`]). The broker itself refuses positions for a group with members, so a member that joins
//! between the check and the write loses nothing.

use crate::client::Queue;
use crate::error::{ClientError, name_of, text_of};
use crate::list::{List, entries};
use crate::metadata::{Cluster, TopicInfo};
use crate::position::{Position, TopicPartition};
use crate::properties::Properties;
use rdkafka_sys as sys;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::time::{Duration, Instant};
use sys::rd_kafka_admin_op_t as Op;
use sys::rd_kafka_resp_err_t as Code;

/// A short-lived client for questions about offsets and groups.
#[derive(Debug)]
pub struct Admin {
    pub(crate) cluster: Cluster,
    pub(crate) patience: Duration,
}

/// A place in a partition that only the broker knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// The oldest record that is still there.
    Low,
    /// The end, as read_committed readers see it: before the first transaction that is still open.
    End,
    /// The first record whose timestamp (milliseconds since 1970) is this or later.
    Time(i64),
}

/// A group as its coordinator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupInfo {
    /// Kafka's word: `Stable`, `Empty`, `Dead`, `PreparingRebalance`, …
    pub state: String,
    pub members: Vec<Member>,
}

/// One member of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub id: String,
    pub client: String,
    pub host: String,
    pub partitions: Vec<TopicPartition>,
}

/// Why an answer is missing, as far as that decides what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No broker answered in time.
    Unreachable,
    /// A right is missing.
    Denied,
    /// The group has members.
    Active,
    Other,
}

/// A question was not answered, or a write was refused.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{call}{}: {text} ({name})", .partition.as_ref().map(|p| format!(" of {p}")).unwrap_or_default())]
    Refused { refusal: Refusal, call: &'static str, partition: Option<TopicPartition>, name: String, text: String },
}

impl AdminError {
    /// Sorted; see [`Refusal`].
    pub fn refusal(&self) -> Refusal {
        match self {
            AdminError::Client(_) => Refusal::Other,
            AdminError::Refused { refusal, .. } => *refusal,
        }
    }

    pub(crate) fn of(call: &'static str, partition: Option<TopicPartition>, code: Code) -> Self {
        AdminError::Refused { refusal: sorted(code), call, partition, name: name_of(code), text: text_of(code) }
    }
}

fn sorted(code: Code) -> Refusal {
    match code {
        Code::RD_KAFKA_RESP_ERR__TRANSPORT
        | Code::RD_KAFKA_RESP_ERR__TIMED_OUT
        | Code::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE
        | Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
        | Code::RD_KAFKA_RESP_ERR__RESOLVE
        | Code::RD_KAFKA_RESP_ERR__WAIT_COORD
        | Code::RD_KAFKA_RESP_ERR__DESTROY
        | Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT
        | Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
        | Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
        | Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR
        | Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE => Refusal::Unreachable,
        Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        | Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
        | Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
        | Code::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED
        | Code::RD_KAFKA_RESP_ERR__AUTHENTICATION => Refusal::Denied,
        // A commit without a member id to a group that has members.
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID
        | Code::RD_KAFKA_RESP_ERR_NON_EMPTY_GROUP
        | Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION
        | Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS => Refusal::Active,
        _ => Refusal::Other,
    }
}

/// A coordinator that moves or starts answers soon: worth the same question again.
fn passes(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
            | Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
            | Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR
            | Code::RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT
    )
}

/// How long to wait before the same question again.
const PAUSE: Duration = Duration::from_millis(50);

impl Admin {
    /// Does not wait for a connection. `patience` bounds each call. `properties` are a consumer's and need a `group.id`,
    /// which is not joined: asked through a producer, this librdkafka crashes when a coordinator answers that it is none
    /// (`rd_kafka_handle_OffsetFetch` wants to tell the client's own group of it).
    pub fn new(properties: &Properties, patience: Duration) -> Result<Self, ClientError> {
        Ok(Admin { cluster: Cluster::of_consumer(properties)?, patience })
    }

    /// Does the topic exist, and with how many partitions? That it may not be seen is an error.
    pub fn topic(&self, topic: &str) -> Result<TopicInfo, AdminError> {
        let refused = |refusal, call, name, text| AdminError::Refused { refusal, call, partition: None, name, text };
        match self.cluster.topic(topic, self.patience) {
            Ok(TopicInfo::Denied) => {
                let code = Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
                let text = format!("topic `{topic}`: {}", text_of(code));
                Err(refused(sorted(code), "metadata", name_of(code), text))
            }
            Ok(info) => Ok(info),
            Err(ClientError::Call { call, name, text }) => Err(refused(Refusal::Unreachable, call, name, text)),
            Err(other) => Err(other.into()),
        }
    }

    /// In the order asked for. `None`: there is no such record ([`At::Time`] only).
    pub fn offsets(&self, partitions: &[TopicPartition], at: At) -> Result<Vec<Option<Position>>, AdminError> {
        const CALL: &str = "list offsets";
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let spec = match at {
            At::Low => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i64,
            At::End => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64,
            // Negative numbers are words of the protocol.
            At::Time(ms) => ms.max(0),
        };
        let list = List::new(partitions.iter().map(|p| (p, spec, -1)));
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS);
        // SAFETY: live options.
        done(unsafe {
            sys::rd_kafka_AdminOptions_set_isolation_level(
                options.0,
                sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
            )
        });
        // SAFETY: live handle, list, options and queue; the list is copied.
        let event = self.ask(CALL, |rk, queue| unsafe { sys::rd_kafka_ListOffsets(rk, list.0, options.0, queue) })?;
        let mut found = Vec::new();
        // SAFETY: an event of this kind, live as long as what is read from it.
        unsafe {
            let result = sys::rd_kafka_event_ListOffsets_result(event.0);
            let mut count = 0;
            let infos = sys::rd_kafka_ListOffsets_result_infos(result, &mut count);
            for index in 0..count {
                let entry = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(index));
                let name = CStr::from_ptr(entry.topic).to_string_lossy();
                found.push((name.into_owned(), entry.partition, entry.offset, entry.err));
            }
        }
        partitions
            .iter()
            .map(|wanted| {
                let found = found.iter().find(|(topic, p, ..)| **topic == *wanted.topic && *p == wanted.partition);
                match found {
                    Some((_, _, offset, Code::RD_KAFKA_RESP_ERR_NO_ERROR)) => {
                        Ok((*offset >= 0).then_some(Position(*offset)))
                    }
                    Some((.., code)) => Err(AdminError::of(CALL, Some(wanted.clone()), *code)),
                    None => Err(AdminError::of(CALL, Some(wanted.clone()), Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)),
                }
            })
            .collect()
    }

    /// The group's state and members. A group that nobody knows has none and is `Dead`. Asked again while the coordinator is
    /// not there yet: in a new cluster the first question makes it.
    pub fn group(&self, group: &str) -> Result<GroupInfo, AdminError> {
        const CALL: &str = "describe group";
        let name = c_name(group)?;
        self.until_passed(CALL, || Ok(self.describe(CALL, &name)?.map_err(|code| (code, None))))
    }

    fn describe(&self, call: &'static str, group: &CStr) -> Result<Result<GroupInfo, Code>, AdminError> {
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS);
        let event = self.ask(call, |rk, queue| {
            let mut names = [group.as_ptr()];
            // SAFETY: live handle, one live name (copied), options and queue.
            unsafe { sys::rd_kafka_DescribeConsumerGroups(rk, names.as_mut_ptr(), 1, options.0, queue) }
        })?;
        // SAFETY: an event of this kind, live as long as what is read from it; of no error the code is that of none.
        unsafe {
            let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.0);
            let mut count = 0;
            let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
            if count == 0 {
                return Ok(Err(Code::RD_KAFKA_RESP_ERR__FAIL));
            }
            let description = *groups;
            Ok(match sys::rd_kafka_error_code(sys::rd_kafka_ConsumerGroupDescription_error(description)) {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(info(description)),
                Code::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND => {
                    Ok(GroupInfo { state: "Dead".into(), members: Vec::new() })
                }
                code => Err(code),
            })
        }
    }

    /// The group's committed positions, in the order asked for. `stable`: waits for transactions that are about to
    /// decide them; without it their outcome is not seen.
    pub fn committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        stable: bool,
    ) -> Result<Vec<Option<Position>>, AdminError> {
        const CALL: &str = "list group offsets";
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let name = c_name(group)?;
        let list = List::new(partitions.iter().map(|p| (p, i64::from(sys::RD_KAFKA_OFFSET_INVALID), -1)));
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);
        // SAFETY: live options.
        done(unsafe { sys::rd_kafka_AdminOptions_set_require_stable_offsets(options.0, c_int::from(stable)) });
        let found = self.group_offsets(CALL, |rk, queue| {
            // SAFETY: live handle, name, list, options and queue; all are copied, the request is destroyed once.
            unsafe {
                let mut request = [sys::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), list.0)];
                sys::rd_kafka_ListConsumerGroupOffsets(rk, request.as_mut_ptr(), 1, options.0, queue);
                sys::rd_kafka_ListConsumerGroupOffsets_destroy(request[0]);
            }
        })?;
        let position = |wanted: &TopicPartition| {
            let (_, offset) = found.iter().find(|(partition, _)| partition == wanted)?;
            (*offset >= 0).then_some(Position(*offset))
        };
        Ok(partitions.iter().map(position).collect())
    }

    /// Sets the group's positions, which must have no members.
    pub fn set_committed(&self, group: &str, positions: &[(TopicPartition, Position)]) -> Result<(), AdminError> {
        const CALL: &str = "alter group offsets";
        if positions.is_empty() {
            return Ok(());
        }
        let name = c_name(group)?;
        let list = List::new(positions.iter().map(|(partition, position)| (partition, position.0, -1)));
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS);
        self.group_offsets(CALL, |rk, queue| {
            // SAFETY: live handle, name, list, options and queue; all are copied, the request is destroyed once.
            unsafe {
                let mut request = [sys::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), list.0)];
                sys::rd_kafka_AlterConsumerGroupOffsets(rk, request.as_mut_ptr(), 1, options.0, queue);
                sys::rd_kafka_AlterConsumerGroupOffsets_destroy(request[0]);
            }
        })
        .map(drop)
    }

    /// Both calls about a group's positions answer alike. Asked again while the coordinator is not there yet.
    fn group_offsets(
        &self,
        call: &'static str,
        send: impl Fn(*mut sys::rd_kafka_t, *mut sys::rd_kafka_queue_t),
    ) -> Result<Vec<(TopicPartition, i64)>, AdminError> {
        self.until_passed(call, || {
            let event = self.ask(call, &send)?;
            // SAFETY: an event of one of the two kinds, whose results are the same; live while it is read.
            let (code, found) = unsafe { group_result(&event) };
            let bad = found.iter().find(|(_, _, code)| *code != Code::RD_KAFKA_RESP_ERR_NO_ERROR);
            Ok(match (code, bad) {
                (Code::RD_KAFKA_RESP_ERR_NO_ERROR, None) => {
                    Ok(found.into_iter().map(|(partition, offset, _)| (partition, offset)).collect())
                }
                (Code::RD_KAFKA_RESP_ERR_NO_ERROR, Some((partition, _, code))) => Err((*code, Some(partition.clone()))),
                (code, _) => Err((code, None)),
            })
        })
    }

    /// Asks until the answer is none that [`passes`], or until patience is over. An answer is of a whole, or of a partition.
    fn until_passed<T>(
        &self,
        call: &'static str,
        attempt: impl Fn() -> Result<Result<T, (Code, Option<TopicPartition>)>, AdminError>,
    ) -> Result<T, AdminError> {
        let deadline = Instant::now() + self.patience;
        loop {
            match attempt()? {
                Ok(found) => return Ok(found),
                Err((code, _)) if passes(code) && Instant::now() < deadline => std::thread::park_timeout(PAUSE),
                Err((code, partition)) => return Err(AdminError::of(call, partition, code)),
            }
        }
    }

    pub(crate) fn options(&self, op: Op) -> Options {
        // SAFETY: a live handle; the options are owned by us.
        let options = Options(unsafe { sys::rd_kafka_AdminOptions_new(self.cluster.raw(), op) });
        let mut text = [0 as c_char; 128];
        let ms = self.patience.as_millis().try_into().unwrap_or(c_int::MAX);
        // SAFETY: live options; at most `text.len()` bytes are written. It refuses only what is out of its range, and
        // keeps its default then.
        unsafe { sys::rd_kafka_AdminOptions_set_request_timeout(options.0, ms, text.as_mut_ptr(), text.len()) };
        options
    }

    /// Sends and waits for the one event that answers.
    pub(crate) fn ask(
        &self,
        call: &'static str,
        send: impl Fn(*mut sys::rd_kafka_t, *mut sys::rd_kafka_queue_t),
    ) -> Result<Event, AdminError> {
        let deadline = Instant::now() + self.patience;
        loop {
            // SAFETY: a live handle; the queue is ours.
            let queue = Queue::own(unsafe { sys::rd_kafka_queue_new(self.cluster.raw()) });
            send(self.cluster.raw(), queue.raw());
            // The request has a timeout of its own: this is a little longer, so that its error is what is seen.
            let wait = self.patience.saturating_add(Duration::from_secs(2)).as_millis();
            // SAFETY: a live queue; a returned event is ours.
            let event = unsafe { sys::rd_kafka_queue_poll(queue.raw(), wait.try_into().unwrap_or(c_int::MAX)) };
            if event.is_null() {
                return Err(AdminError::of(call, None, Code::RD_KAFKA_RESP_ERR__TIMED_OUT));
            }
            let event = Event(event);
            // SAFETY: a live event.
            match unsafe { sys::rd_kafka_event_error(event.0) } {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => return Ok(event),
                code if passes(code) && Instant::now() < deadline => std::thread::park_timeout(PAUSE),
                code => {
                    // SAFETY: a live event; its text is NUL-terminated or null.
                    let text = unsafe {
                        let text = sys::rd_kafka_event_error_string(event.0);
                        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
                    };
                    let text = text.unwrap_or_else(|| text_of(code));
                    let (refusal, name) = (sorted(code), name_of(code));
                    return Err(AdminError::Refused { refusal, call, partition: None, name, text });
                }
            }
        }
    }
}

/// # Safety
/// `event` holds the result of a call about a group's positions.
unsafe fn group_result(event: &Event) -> (Code, Vec<(TopicPartition, i64, Code)>) {
    let mut count = 0;
    // SAFETY: of the two accessors, that of the other kind returns null, and the result is null only where neither fits;
    // what is read lives as long as the event.
    unsafe {
        let listed = sys::rd_kafka_event_ListConsumerGroupOffsets_result(event.0);
        let altered = sys::rd_kafka_event_AlterConsumerGroupOffsets_result(event.0);
        let groups = if !listed.is_null() {
            sys::rd_kafka_ListConsumerGroupOffsets_result_groups(listed, &mut count)
        } else if !altered.is_null() {
            sys::rd_kafka_AlterConsumerGroupOffsets_result_groups(altered, &mut count)
        } else {
            ptr::null_mut()
        };
        if groups.is_null() || count == 0 {
            return (Code::RD_KAFKA_RESP_ERR__FAIL, Vec::new());
        }
        let group = *groups;
        let error = sys::rd_kafka_group_result_error(group);
        let code = if error.is_null() { Code::RD_KAFKA_RESP_ERR_NO_ERROR } else { sys::rd_kafka_error_code(error) };
        (code, entries(sys::rd_kafka_group_result_partitions(group)))
    }
}

/// # Safety
/// `description` is live.
unsafe fn info(description: *const sys::rd_kafka_ConsumerGroupDescription_t) -> GroupInfo {
    // SAFETY: the caller's promise; all strings are NUL-terminated.
    unsafe {
        let state = sys::rd_kafka_ConsumerGroupDescription_state(description);
        let state = CStr::from_ptr(sys::rd_kafka_consumer_group_state_name(state)).to_string_lossy().into_owned();
        let count = sys::rd_kafka_ConsumerGroupDescription_member_count(description);
        let member = |index| {
            let member = sys::rd_kafka_ConsumerGroupDescription_member(description, index);
            let assignment = sys::rd_kafka_MemberDescription_assignment(member);
            let partitions = if assignment.is_null() {
                Vec::new()
            } else {
                entries(sys::rd_kafka_MemberAssignment_partitions(assignment)).into_iter().map(|(p, ..)| p).collect()
            };
            Member {
                id: text(sys::rd_kafka_MemberDescription_consumer_id(member)),
                client: text(sys::rd_kafka_MemberDescription_client_id(member)),
                host: text(sys::rd_kafka_MemberDescription_host(member)),
                partitions,
            }
        };
        GroupInfo { state, members: (0..count).map(member).collect() }
    }
}

/// # Safety
/// `raw` is null or a live NUL-terminated string.
pub(crate) unsafe fn text(raw: *const c_char) -> String {
    if raw.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned()
}

pub(crate) fn c_name(group: &str) -> Result<CString, ClientError> {
    CString::new(group).map_err(|_| ClientError::ZeroByte(group.into()))
}

/// Options refuse only what does not fit their call, which is fixed here.
fn done(error: *mut sys::rd_kafka_error_t) {
    if !error.is_null() {
        // SAFETY: owned by us, destroyed once.
        unsafe { sys::rd_kafka_error_destroy(error) };
    }
}

pub(crate) struct Options(pub(crate) *mut sys::rd_kafka_AdminOptions_t);

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: owned by us, destroyed once; requests have copied it.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0) }
    }
}

pub(crate) struct Event(pub(crate) *mut sys::rd_kafka_event_t);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: owned by us, destroyed once.
        unsafe { sys::rd_kafka_event_destroy(self.0) }
    }
}

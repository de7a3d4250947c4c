//! The consumer group's fence in a transaction. The broker refuses offsets of a stale member only if the member says who
//! it is: with generation -1 and no member id it accepts them unchecked. So such metadata is never handed out by a
//! consumer; a group that nobody joins has to be asked for by its own name.

use crate::error::ClientError;
use rdkafka_sys as sys;
use std::ffi::{CStr, CString};

/// Proof of membership at one moment; goes into `send_offsets_to_transaction`.
#[derive(Debug)]
pub struct GroupMetadata {
    raw: *mut sys::rd_kafka_consumer_group_metadata_t,
}

// SAFETY: a plain heap object without thread affinity, and never mutated after creation.
unsafe impl Send for GroupMetadata {}

/// This consumer is not a member of its group right now: nothing may be committed in its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a member of the consumer group (generation {generation})")]
pub struct NotAMember {
    pub generation: i32,
}

impl GroupMetadata {
    /// What `consumer` knows of itself now, unless that would not fence anything.
    pub(crate) fn of(consumer: *mut sys::rd_kafka_t) -> Result<Self, NotAMember> {
        // SAFETY: a live consumer handle; the result is null or owned by us.
        let raw = unsafe { sys::rd_kafka_consumer_group_metadata(consumer) };
        if raw.is_null() {
            return Err(NotAMember { generation: -1 });
        }
        let metadata = GroupMetadata { raw };
        // SAFETY: reads of a live object; the member id is NUL-terminated and never null.
        let (generation, member) = unsafe {
            (
                sys::rd_kafka_consumer_group_metadata_generation_id(raw),
                CStr::from_ptr(sys::rd_kafka_consumer_group_metadata_member_id(raw)),
            )
        };
        if generation < 0 || member.is_empty() { Err(NotAMember { generation }) } else { Ok(metadata) }
    }

    /// For a group without members, whose positions only one transactional id ever commits: that id is the fence, and
    /// nothing else is. Whoever uses it looks up positions *after* it has taken the id over.
    pub fn without_members(group: &str) -> Result<Self, ClientError> {
        let name = CString::new(group).map_err(|_| ClientError::ZeroByte(group.into()))?;
        // SAFETY: a live string, copied; the object is ours. It says generation -1 and no member.
        let raw = unsafe { sys::rd_kafka_consumer_group_metadata_new(name.as_ptr()) };
        if raw.is_null() {
            return Err(ClientError::Create { text: format!("`{group}` is no name for a group") });
        }
        Ok(GroupMetadata { raw })
    }

    pub(crate) fn raw(&self) -> *const sys::rd_kafka_consumer_group_metadata_t {
        self.raw
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: owned by us, destroyed once.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.raw) }
    }
}

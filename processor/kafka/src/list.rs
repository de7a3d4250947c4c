//! librdkafka's partition lists, owned: partitions with offsets and leader epochs in, offsets and errors out.

use crate::position::{PartitionProgress, TopicPartition};
use rdkafka_sys as sys;
use std::ffi::{CStr, CString};
use std::sync::Arc;
use sys::rd_kafka_resp_err_t as Code;

/// A partition list of ours.
pub(crate) struct List(pub(crate) *mut sys::rd_kafka_topic_partition_list_t);

impl List {
    pub(crate) fn of_progress(progress: &[PartitionProgress]) -> Self {
        Self::new(progress.iter().map(|p| (&p.partition, p.position.0, p.leader_epoch)))
    }

    /// Entries are (partition, offset, leader epoch or -1).
    pub(crate) fn new<'a>(entries: impl Iterator<Item = (&'a TopicPartition, i64, i32)>) -> Self {
        // SAFETY: a fresh list, owned by us.
        let list = List(unsafe { sys::rd_kafka_topic_partition_list_new(0) });
        for (partition, offset, epoch) in entries {
            let Ok(topic) = CString::new(partition.topic.as_bytes()) else { continue };
            // SAFETY: a live list and string; the added element is live until the next addition.
            unsafe {
                let entry = sys::rd_kafka_topic_partition_list_add(list.0, topic.as_ptr(), partition.partition);
                (*entry).offset = offset;
                if epoch >= 0 {
                    sys::rd_kafka_topic_partition_set_leader_epoch(entry, epoch);
                }
            }
        }
        list
    }

    pub(crate) fn entries(&self) -> Vec<(TopicPartition, i64, Code)> {
        // SAFETY: a live list.
        unsafe { entries(self.0) }
    }

    pub(crate) fn errors(&self) -> Vec<(TopicPartition, Code)> {
        let failed = |(partition, _, code)| (code != Code::RD_KAFKA_RESP_ERR_NO_ERROR).then_some((partition, code));
        self.entries().into_iter().filter_map(failed).collect()
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: owned by us, destroyed once.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0) }
    }
}

/// # Safety
/// `raw` is null or a live list.
pub(crate) unsafe fn entries(raw: *const sys::rd_kafka_topic_partition_list_t) -> Vec<(TopicPartition, i64, Code)> {
    if raw.is_null() {
        return Vec::new();
    }
    // SAFETY: `cnt` live elements with NUL-terminated topic names.
    unsafe {
        (0..(*raw).cnt as usize)
            .map(|i| {
                let entry = &*(*raw).elems.add(i);
                let topic = Arc::from(CStr::from_ptr(entry.topic).to_string_lossy().as_ref());
                (TopicPartition { topic, partition: entry.partition }, entry.offset, entry.err)
            })
            .collect()
    }
}

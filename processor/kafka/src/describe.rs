//! How a cluster is set up, as far as an installation can get it wrong: where a topic's replicas are, how brokers and
//! topics are configured, and how new the newest record is. Read-only.

use crate::admin::{Admin, AdminError, c_name, text};
use crate::list::List;
use crate::position::TopicPartition;
use rdkafka_sys as sys;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::ptr;
use sys::rd_kafka_admin_op_t as Op;
use sys::rd_kafka_resp_err_t as Code;

/// What has a configuration of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource<'a> {
    Topic(&'a str),
    /// By its id.
    Broker(i32),
}

/// Where a topic's records are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    pub partitions: usize,
    /// Of the partition that has the fewest.
    pub replicas: usize,
    /// Replicas that are in step with their leader, of the partition that has the fewest.
    pub in_sync: usize,
    /// Partitions that nobody leads: nothing can be read from them or written to them.
    pub leaderless: usize,
}

impl Admin {
    /// The topic must exist: else an error `UNKNOWN_TOPIC_OR_PART`.
    pub fn layout(&self, topic: &str) -> Result<Layout, AdminError> {
        const CALL: &str = "metadata";
        let name = CString::new(topic).map_err(|_| crate::ClientError::ZeroByte(topic.into()))?;
        let mut metadata: *const sys::rd_kafka_metadata = ptr::null();
        let patience = self.patience.as_millis().try_into().unwrap_or(i32::MAX);
        // SAFETY: the topic's handle lives through the call and is destroyed after it; `metadata` is freed below.
        let code = unsafe {
            let topic = sys::rd_kafka_topic_new(self.cluster.raw(), name.as_ptr(), ptr::null_mut());
            let code = sys::rd_kafka_metadata(self.cluster.raw(), 0, topic, &mut metadata, patience);
            sys::rd_kafka_topic_destroy(topic);
            code
        };
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(AdminError::of(CALL, None, code));
        }
        // SAFETY: on success `metadata` is live, with as many topics and partitions as it says; freed once.
        unsafe {
            let all = &*metadata;
            let found = if all.topic_cnt == 0 {
                Err(AdminError::of(CALL, None, Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART))
            } else {
                layout(&*all.topics).map_err(|code| AdminError::of(CALL, None, code))
            };
            sys::rd_kafka_metadata_destroy(metadata);
            found
        }
    }

    /// Every setting that has a value which may be shown, by name. Needs DescribeConfigs.
    pub fn settings(&self, of: Resource<'_>) -> Result<BTreeMap<String, String>, AdminError> {
        const CALL: &str = "describe configs";
        let (kind, name) = match of {
            Resource::Topic(topic) => (sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, c_name(topic)?),
            Resource::Broker(id) => (sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_BROKER, c_name(&id.to_string())?),
        };
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
        let event = self.ask(CALL, |rk, queue| {
            // SAFETY: live handle, name, options and queue; the resource is copied, and destroyed once.
            unsafe {
                let mut resources = [sys::rd_kafka_ConfigResource_new(kind, name.as_ptr())];
                sys::rd_kafka_DescribeConfigs(rk, resources.as_mut_ptr(), 1, options.0, queue);
                sys::rd_kafka_ConfigResource_destroy(resources[0]);
            }
        })?;
        // SAFETY: an event of this kind, live as long as what is read from it.
        unsafe {
            let result = sys::rd_kafka_event_DescribeConfigs_result(event.0);
            let mut count = 0;
            let resources = sys::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
            if count == 0 {
                return Err(AdminError::of(CALL, None, Code::RD_KAFKA_RESP_ERR__FAIL));
            }
            match sys::rd_kafka_ConfigResource_error(*resources) {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(settings(*resources)),
                code => Err(AdminError::of(CALL, None, code)),
            }
        }
    }

    /// The latest timestamp (milliseconds since 1970) of any record in these partitions; `None` where there is no record.
    pub fn newest(&self, partitions: &[TopicPartition]) -> Result<Option<i64>, AdminError> {
        const CALL: &str = "list offsets";
        if partitions.is_empty() {
            return Ok(None);
        }
        let spec = sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_MAX_TIMESTAMP as i64;
        let list = List::new(partitions.iter().map(|p| (p, spec, -1)));
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS);
        // SAFETY: live handle, list, options and queue; the list is copied.
        let event = self.ask(CALL, |rk, queue| unsafe { sys::rd_kafka_ListOffsets(rk, list.0, options.0, queue) })?;
        // SAFETY: an event of this kind, live as long as what is read from it.
        unsafe {
            let result = sys::rd_kafka_event_ListOffsets_result(event.0);
            let mut count = 0;
            let infos = sys::rd_kafka_ListOffsets_result_infos(result, &mut count);
            let mut newest = None;
            for index in 0..count {
                let info = *infos.add(index);
                match (*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(info)).err {
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR => {
                        newest = newest.max(Some(sys::rd_kafka_ListOffsetsResultInfo_timestamp(info)));
                    }
                    code => return Err(AdminError::of(CALL, None, code)),
                }
            }
            Ok(newest.filter(|timestamp| *timestamp >= 0))
        }
    }
}

/// # Safety
/// `topic` is live, with as many partitions as it says.
unsafe fn layout(topic: &sys::rd_kafka_metadata_topic) -> Result<Layout, Code> {
    if topic.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(topic.err);
    }
    let count = topic.partition_cnt.max(0) as usize;
    if count == 0 {
        return Ok(Layout::default());
    }
    // SAFETY: the caller's promise; with at least one partition the pointer is not null.
    let partitions = unsafe { std::slice::from_raw_parts(topic.partitions, count) };
    let fewest = |of: fn(&sys::rd_kafka_metadata_partition) -> i32| partitions.iter().map(of).min().unwrap_or(0).max(0);
    Ok(Layout {
        partitions: count,
        replicas: fewest(|partition| partition.replica_cnt) as usize,
        in_sync: fewest(|partition| partition.isr_cnt) as usize,
        leaderless: partitions.iter().filter(|partition| partition.leader < 0).count(),
    })
}

/// # Safety
/// `resource` is live.
unsafe fn settings(resource: *const sys::rd_kafka_ConfigResource_t) -> BTreeMap<String, String> {
    let mut count = 0;
    // SAFETY: the caller's promise; names and values are NUL-terminated or null, and live as long as the resource.
    unsafe {
        let entries = sys::rd_kafka_ConfigResource_configs(resource, &mut count);
        (0..count)
            .filter_map(|index| {
                let entry = *entries.add(index);
                let value = sys::rd_kafka_ConfigEntry_value(entry);
                let shown = !value.is_null() && sys::rd_kafka_ConfigEntry_is_sensitive(entry) == 0;
                shown.then(|| {
                    let value = CStr::from_ptr(value).to_string_lossy().into_owned();
                    (text(sys::rd_kafka_ConfigEntry_name(entry)), value)
                })
            })
            .collect()
    }
}

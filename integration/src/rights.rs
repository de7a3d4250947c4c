//! Users of a secured broker and what they may do, set by whoever may do everything. librdkafka's own calls, because the Rust
//! wrapper has none for these.

#![allow(unsafe_code, reason = "the wrapper has no calls for rights and passwords")]

use crate::kafka::client;
use anyhow::{Context, Result, bail};
use rdkafka::admin::AdminClient;
use rdkafka::bindings as sys;
use rdkafka::client::DefaultClientContext;
use std::ffi::{CStr, CString};
use std::ptr;

pub use sys::rd_kafka_AclOperation_t as Operation;
pub use sys::rd_kafka_ResourceType_t as Resource;

const LIMIT_MS: i32 = 30_000;

/// Lets `user` do each of these, to everything whose name begins so.
pub fn allow(bootstrap: &str, user: &str, rights: &[(Resource, &str, Operation)]) -> Result<()> {
    let (principal, host) = (CString::new(format!("User:{user}"))?, CString::new("*")?);
    let mut bindings = Vec::new();
    for (resource, name, operation) in rights {
        let name = CString::new(*name)?;
        // SAFETY: texts that live for the call, and no room for an error's text.
        bindings.push(unsafe {
            sys::rd_kafka_AclBinding_new(
                *resource,
                name.as_ptr(),
                sys::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_PREFIXED,
                principal.as_ptr(),
                host.as_ptr(),
                *operation,
                sys::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
                ptr::null_mut(),
                0,
            )
        });
    }
    let event = ask(bootstrap, |rk, queue| {
        // SAFETY: a live client and queue; the bindings are copied, and freed below.
        unsafe { sys::rd_kafka_CreateAcls(rk, bindings.as_mut_ptr(), bindings.len(), ptr::null(), queue) }
    })?;
    let mut count = 0;
    // SAFETY: the event is live and of this kind; its results live as long.
    unsafe {
        bindings.into_iter().for_each(|binding| sys::rd_kafka_AclBinding_destroy(binding));
        let results = sys::rd_kafka_CreateAcls_result_acls(sys::rd_kafka_event_CreateAcls_result(event.0), &mut count);
        (0..count).try_for_each(|i| well(sys::rd_kafka_acl_result_error(*results.add(i))))
    }
}

/// Makes a user who logs in by SCRAM-SHA-512.
pub fn make_user(bootstrap: &str, user: &str, password: &str) -> Result<()> {
    let user = CString::new(user)?;
    let mechanism = sys::rd_kafka_ScramMechanism_t::RD_KAFKA_SCRAM_MECHANISM_SHA_512;
    // SAFETY: texts that live for the call; the salt is librdkafka's.
    let mut change = unsafe {
        let (text, length) = (password.as_ptr(), password.len());
        sys::rd_kafka_UserScramCredentialUpsertion_new(user.as_ptr(), mechanism, 4096, text, length, ptr::null(), 0)
    };
    let event = ask(bootstrap, |rk, queue| {
        // SAFETY: a live client and queue; the change is copied, and freed below.
        unsafe { sys::rd_kafka_AlterUserScramCredentials(rk, &mut change, 1, ptr::null(), queue) }
    })?;
    let mut count = 0;
    // SAFETY: the event is live and of this kind; its responses live as long.
    unsafe {
        sys::rd_kafka_UserScramCredentialAlteration_destroy(change);
        let result = sys::rd_kafka_event_AlterUserScramCredentials_result(event.0);
        let responses = sys::rd_kafka_AlterUserScramCredentials_result_responses(result, &mut count);
        (0..count)
            .try_for_each(|i| well(sys::rd_kafka_AlterUserScramCredentials_result_response_error(*responses.add(i))))
    }
}

/// A result, freed at the end.
struct Event(*mut sys::rd_kafka_event_t);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { sys::rd_kafka_event_destroy(self.0) };
    }
}

fn ask(bootstrap: &str, ask: impl FnOnce(*mut sys::rd_kafka_t, *mut sys::rd_kafka_queue_t)) -> Result<Event> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let rk = admin.inner().native_ptr();
    // SAFETY: a live client, and a queue of our own that is freed after its only event was taken.
    unsafe {
        let queue = sys::rd_kafka_queue_new(rk);
        ask(rk, queue);
        let event = sys::rd_kafka_queue_poll(queue, LIMIT_MS);
        sys::rd_kafka_queue_destroy(queue);
        if event.is_null() {
            bail!("the broker did not answer within {LIMIT_MS} ms");
        }
        let event = Event(event);
        if sys::rd_kafka_event_error(event.0) != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            let text = CStr::from_ptr(sys::rd_kafka_event_error_string(event.0));
            bail!("{}", text.to_string_lossy());
        }
        Ok(event)
    }
}

/// # Safety
/// Null, or an error that lives for the call.
unsafe fn well(error: *const sys::rd_kafka_error_t) -> Result<()> {
    // SAFETY: as promised; of none the code is that of no error.
    if unsafe { sys::rd_kafka_error_code(error) } == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    // SAFETY: as promised.
    let text = unsafe { CStr::from_ptr(sys::rd_kafka_error_string(error)) };
    Err(anyhow::anyhow!("{}", text.to_string_lossy())).context("the broker refused")
}

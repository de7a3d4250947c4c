//! The end of a process that still has clients.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]
#![allow(unsafe_code, reason = "atexit and OpenSSL have no safe wrapper for this")]

use pelton_kafka::{Producer, Properties};
use std::process::Command;

const CHILD: &str = "PELTON_KAFKA_TEST_CHILD";
const CLEANED_UP: i32 = 3;

/// Registered before the client is made, so it runs after what was registered since.
extern "C" fn last() {
    // SAFETY: no options; 0 says that OpenSSL has been cleaned up.
    if unsafe { openssl_sys::OPENSSL_init_ssl(0, std::ptr::null()) } == 0 {
        // SAFETY: ends the process.
        unsafe { libc::_exit(CLEANED_UP) }
    }
}

/// One exit of a hundred ended with SIGSEGV or SIGABRT, over TLS and with a client left behind: OpenSSL's cleanup freed what
/// librdkafka's threads still used.
#[test]
fn openssl_is_not_cleaned_up_under_threads_that_use_it() {
    if std::env::var_os(CHILD).is_some() {
        // SAFETY: a function of this program.
        unsafe { libc::atexit(last) };
        let properties = Properties::new().with("bootstrap.servers", "127.0.0.1:1").with("security.protocol", "ssl");
        std::mem::forget(Producer::new(&properties, &["out".into()]).unwrap());
        return;
    }
    let name = "openssl_is_not_cleaned_up_under_threads_that_use_it";
    let child =
        Command::new(std::env::current_exe().unwrap()).args(["--exact", name]).env(CHILD, "1").status().unwrap();
    assert_eq!(child.code(), Some(0));
}

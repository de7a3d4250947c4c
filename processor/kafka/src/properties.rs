//! librdkafka's configuration under its own names, passed on unchanged; shown without its secrets.

use crate::error::ClientError;
use rdkafka_sys as sys;
use std::ffi::{CStr, CString, c_char};

/// Properties for one client, in order: a later one of the same name wins.
#[derive(Clone, Default)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// The value of `name` that is in force.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// Would librdkafka take these? Names the first property that it refuses.
    pub fn check(&self) -> Result<(), ClientError> {
        self.native().map(drop)
    }

    pub(crate) fn native(&self) -> Result<NativeConf, ClientError> {
        // Before librdkafka does: this way OpenSSL frees nothing when the process exits. Threads of librdkafka's that are
        // still there would crash on it, which one exit of a hundred did that left clients behind on TLS.
        openssl::init();
        // SAFETY: allocates a configuration object that `NativeConf` owns from here on.
        let conf = NativeConf(unsafe { sys::rd_kafka_conf_new() });
        let mut text = [0 as c_char; 512];
        for (name, value) in &self.0 {
            let c_name = CString::new(name.as_str()).map_err(|_| ClientError::ZeroByte(name.clone()))?;
            let c_value = CString::new(value.as_str()).map_err(|_| ClientError::ZeroByte(name.clone()))?;
            // SAFETY: live object and strings; at most `text.len()` bytes are written to `text`, NUL included.
            let result = unsafe {
                sys::rd_kafka_conf_set(conf.0, c_name.as_ptr(), c_value.as_ptr(), text.as_mut_ptr(), text.len())
            };
            if result != sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                // SAFETY: librdkafka NUL-terminates what it writes.
                let text = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned();
                let value = if is_secret(name) { "***".into() } else { value.clone() };
                return Err(ClientError::Property { name: name.clone(), value, text });
            }
        }
        Ok(conf)
    }
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(n, v)| (n, if is_secret(n) { "***" } else { v }))).finish()
    }
}

/// Values that must never be shown.
fn is_secret(name: &str) -> bool {
    ["pass", "secret", "jaas", "key.pem", "oauthbearer.config", "username"].iter().any(|part| name.contains(part))
}

/// An `rd_kafka_conf_t` until a client takes it over.
pub(crate) struct NativeConf(pub(crate) *mut sys::rd_kafka_conf_t);

impl Drop for NativeConf {
    fn drop(&mut self) {
        // SAFETY: still owned by us: `Client::new` forgets the wrapper once librdkafka has had the object.
        unsafe { sys::rd_kafka_conf_destroy(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_property_is_named_and_a_secret_is_not_shown() {
        let error = Properties::new().with("linger.ms", "5").with("no.such.thing", "1").check().unwrap_err();
        assert!(error.to_string().contains("no.such.thing"), "{error}");
        for secret in ["sasl.password", "sasl.oauthbearer.config", "sasl.oauthbearer.assertion.private.key.passphrase"]
        {
            let properties = Properties::new().with(secret, "hunter2");
            let shown =
                format!("{properties:?} {}", properties.check().err().map(|e| e.to_string()).unwrap_or_default());
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn tls_and_sasl_are_compiled_in() {
        Properties::new()
            .with("security.protocol", "sasl_ssl")
            .with("sasl.mechanism", "SCRAM-SHA-512")
            .with("sasl.username", "u")
            .with("sasl.password", "p")
            .check()
            .unwrap();
    }

    #[test]
    fn a_later_value_wins() {
        assert_eq!(Properties::new().with("a", "1").with("a", "2").get("a"), Some("2"));
    }
}

//! The formats of texts that the schema names, each checked by parsing it into its type.
//!
//! One place knows both the names in the schema and the types behind them, so that schema and types cannot drift.

use std::net::SocketAddr;
use std::str::FromStr;

use super::types::{
    Application, BootstrapServers, Bytes, CacheDir, EnvironmentName, GuestPath, Instance, Millis, Percent, Sha256,
    Topic, TransformName,
};

/// # Errors
/// What is wrong with the text, as the end of a sentence.
pub fn check(format: &str, text: &str) -> Result<(), String> {
    match format {
        "pelton-duration" => parses::<Millis>(text),
        "pelton-size" => parses::<Bytes>(text),
        "pelton-percent" => parses::<Percent>(text),
        "pelton-application" => parses::<Application>(text),
        "pelton-instance" => parses::<Instance>(text),
        "pelton-topic" => parses::<Topic>(text),
        "pelton-transform" => parses::<TransformName>(text),
        "pelton-environment" => parses::<EnvironmentName>(text),
        "pelton-guest-path" => parses::<GuestPath>(text),
        "pelton-sha256" => parses::<Sha256>(text),
        "pelton-servers" => parses::<BootstrapServers>(text),
        "pelton-address" => text
            .parse::<SocketAddr>()
            .map(drop)
            .map_err(|_| "write an IP address and a port, such as `127.0.0.1:9640` or `[::1]:9640`".to_owned()),
        "pelton-path" => parses::<CacheDir>(text)
            .and_then(|()| if text.contains('\0') { Err("a path has no NUL".to_owned()) } else { Ok(()) }),
        _ => Ok(()),
    }
}

fn parses<T: FromStr<Err = String>>(text: &str) -> Result<(), String> {
    text.parse::<T>().map(drop)
}

/// What a text of this format is.
pub fn name(format: &str) -> &'static str {
    match format {
        "pelton-duration" => "a duration",
        "pelton-size" => "a size",
        "pelton-percent" => "a share",
        "pelton-application" => "a name for an application",
        "pelton-instance" => "a name for an instance",
        "pelton-topic" => "a name for a topic",
        "pelton-transform" => "a name for a transform",
        "pelton-environment" => "a name of an environment variable",
        "pelton-guest-path" => "a path in a guest",
        "pelton-sha256" => "a SHA-256",
        "pelton-servers" => "a list of brokers",
        "pelton-address" => "an address",
        "pelton-path" => "a path",
        _ => "allowed here",
    }
}

/// Whether a duration or a size is within bounds that are written like it. Other formats have none.
pub fn within(format: &str, text: &str, least: Option<&str>, most: Option<&str>) -> bool {
    let amount = |text: &str| match format {
        "pelton-duration" => text.parse().ok().map(Millis::as_millis),
        "pelton-size" => text.parse().ok().map(Bytes::get),
        "pelton-percent" => text.parse().ok().map(|percent: Percent| u64::from(percent.hundredths())),
        _ => None,
    };
    let Some(n) = amount(text) else { return true };
    least.and_then(amount).is_none_or(|least| n >= least) && most.and_then(amount).is_none_or(|most| n <= most)
}

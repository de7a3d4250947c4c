//! librdkafka's properties: those Pelton owns are refused with the reason, misspelt ones are found, and each must be
//! where a client reads it.

use super::value;
use crate::config::check::MOST_ERRORS;
use crate::config::error::{Code, ConfigError};
use crate::config::librdkafka::{self, Side};
use crate::config::suggest;
use crate::config::tree::{Entry, Node};

pub fn check(tree: &Node) -> Vec<ConfigError> {
    let sections: [(&[&str], Side); 3] = [
        (&["kafka", "properties"], Side::Both),
        (&["kafka", "consumer", "properties"], Side::Consumer),
        (&["kafka", "producer", "properties"], Side::Producer),
    ];
    let all = sections.into_iter().flat_map(|(path, client)| {
        let map = tree.at(path).and_then(Node::as_map);
        map.into_iter().flat_map(|map| map.iter()).filter_map(move |entry| property(&path.join("."), entry, client))
    });
    all.chain(membership(tree)).take(MOST_ERRORS).collect()
}

/// A member that is known by its name must have one that lasts.
fn membership(tree: &Node) -> Option<ConfigError> {
    let (wanted, at) = value::<bool>(tree, &["kafka", "static_membership"])?;
    let random = tree.get("instance").and_then(Node::as_text) == Some("random");
    (wanted && random).then(|| {
        let message = "static membership needs an identity that is the same after a restart, this one is random";
        ConfigError::new(Code::Conflict, "kafka.static_membership", &at.origin, message)
            .help("set `instance` to a stable name, such as `{ env: HOSTNAME }` of a StatefulSet's pod")
    })
}

fn property(section: &str, entry: &Entry, client: Side) -> Option<ConfigError> {
    let name = entry.key.as_str();
    let error = |code, message| ConfigError::new(code, format!("{section}.{name}"), &entry.key_origin, message);
    if let Some(reason) = librdkafka::owned_property(name) {
        return Some(error(Code::OwnedProperty, format!("`{name}` is set by Pelton")).help(reason));
    }
    let Some(side) = librdkafka::side(name) else {
        let message = format!("librdkafka {} has no property `{name}`", librdkafka::VERSION);
        let passed_on = librdkafka::names().filter(|name| librdkafka::owned_property(name).is_none());
        let error = error(Code::UnknownProperty, message).suggest(suggest::meant(name, passed_on));
        return Some(error.help("properties have librdkafka's own names, see its CONFIGURATION.md; not those of Java"));
    };
    let (there, here) = match (client, side) {
        (Side::Consumer, Side::Producer) => ("producer", "consumers"),
        (Side::Producer, Side::Consumer) => ("consumer", "producers"),
        _ => return None,
    };
    let message = format!("{here} do not know `{name}`");
    Some(error(Code::UnknownProperty, message).help(format!("put it under `kafka.{there}.properties`")))
}

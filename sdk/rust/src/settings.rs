//! What `configure` receives: the operator's settings and the transform's topics.

use std::fmt::Display;
use std::str::FromStr;

/// The `settings` of the transform in the operator's configuration, in order.
#[derive(Debug, Clone, Default)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// Settings from names and values, for tests.
    pub fn new<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The value of `name`, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name`, or an error that names it if it is not set.
    pub fn require(&self, name: &str) -> Result<&str, String> {
        self.get(name).ok_or_else(|| format!("the setting `{name}` is missing"))
    }

    /// The value of `name`, parsed, or an error that names it if it is not set or does not parse.
    pub fn parse<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, String> {
        // not the value itself: it may be a secret, and this ends up in logs
        self.require(name)?.parse().map_err(|error| format!("the setting `{name}` does not parse: {error}"))
    }

    /// The value of `name` as a list: comma-separated, trimmed, without empty items. Empty if it is not set.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let items = self.get(name).unwrap_or_default().split(',');
        items.map(str::trim).filter(|item| !item.is_empty()).collect()
    }

    /// All settings, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// The topics that the transform reads and may write.
#[derive(Debug, Clone, Default)]
pub struct Topics {
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
}

impl Topics {
    /// Topics by name, the default output first; for tests.
    pub fn new<'a>(inputs: impl IntoIterator<Item = &'a str>, outputs: impl IntoIterator<Item = &'a str>) -> Self {
        let owned = |names: &mut dyn Iterator<Item = &'a str>| names.map(str::to_owned).collect();
        Self { inputs: owned(&mut inputs.into_iter()), outputs: owned(&mut outputs.into_iter()) }
    }

    /// What the transform reads.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// What the transform may write; the first is the default.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Looks up an output topic once, so that naming it for each record costs nothing. The error names a topic that is
    /// not granted.
    pub fn output(&self, name: &str) -> Result<Topic, String> {
        let index = self.outputs.iter().position(|output| output == name);
        index.map(|index| Topic(index as u32)).ok_or_else(|| self.unknown(name))
    }

    pub(crate) fn unknown(&self, name: &str) -> String {
        format!("`{name}` is not an output topic of this transform; it has {}", self.outputs.join(", "))
    }
}

/// An output topic that is known to exist. `Topic::default()` is the default one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Topic(pub(crate) u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_and_missing_ones_are_named() {
        let settings = Settings::new([("limit", "12"), ("fields", " a, b ,,c"), ("bad", "x")]);
        assert_eq!(settings.parse("limit"), Ok(12));
        assert_eq!(settings.list("fields"), ["a", "b", "c"]);
        assert!(settings.list("nothing").is_empty());
        assert!(settings.require("nothing").unwrap_err().contains("`nothing`"));
        assert!(settings.parse::<u32>("bad").unwrap_err().contains("`bad`"));
    }

    #[test]
    fn topics_are_looked_up_by_name() {
        let topics = Topics::new(["in"], ["out", "audit"]);
        assert_eq!(topics.output("audit"), Ok(Topic(1)));
        assert!(topics.output("other").unwrap_err().contains("out, audit"));
    }
}

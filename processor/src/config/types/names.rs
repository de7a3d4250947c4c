//! Names that must be legal somewhere else: at the broker, in a transactional id, in an environment.
//!
//! Each type can only be made by parsing, so whoever holds one need not check again.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An application's name: 1 to 100 letters, digits, `.`, `_` and `-`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("format" = "pelton-application", "pattern" = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"))]
pub struct Application(String);

/// A Kafka topic: 1 to 249 letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("format" = "pelton-topic", "pattern" = "^[A-Za-z0-9._-]{1,249}$"))]
pub struct Topic(String);

/// A transform's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("format" = "pelton-transform", "pattern" = "^[a-z][a-z0-9_-]{0,62}$"))]
pub struct TransformName(String);

/// The name of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("format" = "pelton-environment", "pattern" = "^[A-Za-z_][A-Za-z0-9_]*$"))]
pub struct EnvironmentName(String);

/// A directory as the guest sees it: absolute, `/lookup`, without `.` and `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("format" = "pelton-guest-path", "pattern" = "^/"))]
pub struct GuestPath(String);

/// An instance's name, with the same rules as an application's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceName(String);

/// A SHA-256 in hexadecimal, 64 digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("format" = "pelton-sha256", "pattern" = "^[0-9a-fA-F]{64}$"))]
pub struct Sha256([u8; 32]);

/// What every name can do. A macro, because a function cannot write an `impl`.
macro_rules! names {
    ($($name:ident: $rule:path;)*) => {$(
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                $rule(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    Application: label;
    EnvironmentName: environment;
    GuestPath: guest_path;
    InstanceName: label;
    Topic: topic;
    TransformName: transform;
}

/// Applications and instances: both end up in a transactional id.
fn label(text: &str) -> Result<(), String> {
    bounded(text, 100)?;
    only(text, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'), "letters, digits, `.`, `_` and `-`")?;
    begins(text, |c| c.is_ascii_alphanumeric(), "a letter or a digit")
}

/// As `org.apache.kafka.common.internals.Topic.validate` has it.
fn topic(text: &str) -> Result<(), String> {
    bounded(text, 249)?;
    only(text, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'), "letters, digits, `.`, `_` and `-`")?;
    if matches!(text, "." | "..") { Err("a topic cannot be called `.` or `..`".to_owned()) } else { Ok(()) }
}

fn transform(text: &str) -> Result<(), String> {
    bounded(text, 63)?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    only(text, allowed, "lower-case letters, digits, `_` and `-`")?;
    begins(text, |c| c.is_ascii_lowercase(), "a lower-case letter")
}

fn environment(text: &str) -> Result<(), String> {
    bounded(text, 255)?;
    only(text, |c| c.is_ascii_alphanumeric() || c == '_', "letters, digits and `_`")?;
    begins(text, |c| !c.is_ascii_digit(), "a letter or `_`")
}

fn guest_path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        Err("the guest's side of a directory is absolute, such as `/lookup`".to_owned())
    } else if text.contains('\0') || text.split('/').any(|part| matches!(part, "." | "..")) {
        Err("it must not contain `.`, `..` or a NUL".to_owned())
    } else {
        Ok(())
    }
}

fn bounded(text: &str, longest: usize) -> Result<(), String> {
    match text.chars().count() {
        0 => Err("it must not be empty".to_owned()),
        n if n > longest => Err(format!("it has {n} characters, at most {longest} are allowed")),
        _ => Ok(()),
    }
}

fn only(text: &str, allowed: impl Fn(char) -> bool, what: &str) -> Result<(), String> {
    match text.chars().find(|c| !allowed(*c)) {
        Some(c) => Err(format!("`{}` is not allowed in it: only {what}", c.escape_default())),
        None => Ok(()),
    }
}

fn begins(text: &str, allowed: impl Fn(char) -> bool, what: &str) -> Result<(), String> {
    if text.starts_with(allowed) { Ok(()) } else { Err(format!("it must begin with {what}")) }
}

impl Sha256 {
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl FromStr for Sha256 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("a SHA-256 is 64 hexadecimal digits, this has {}", text.chars().count());
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            let pair = &text[at..at + 2];
            let digits = pair.bytes().all(|b| b.is_ascii_hexdigit());
            *byte = u8::from_str_radix(pair, 16)
                .ok()
                .filter(|_| digits)
                .ok_or_else(|| format!("`{pair}` is not hexadecimal"))?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(hash: Sha256) -> Self {
        hash.to_string()
    }
}

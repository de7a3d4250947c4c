//! Durations, sizes and shares as they are written: a number and a unit, `5ms`, `16MiB`, `10%`.
//!
//! Promises that text and value convert both ways (`parse(x.to_string()) == x`). Refuses bare numbers: too often has
//! `timeout: 30` been read as seconds by one and as milliseconds by another.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A duration in whole milliseconds, written with a unit: `5ms`, `1.5s`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("format" = "pelton-duration", "pattern" = r"^\d+(\.\d+)?(ms|s|m|h)$"))]
pub struct Millis(u64);

/// A number of bytes, written with a unit: `512B`, `64KiB`, `16MiB`, `1GiB`, or in powers of ten `500KB`, `1MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("format" = "pelton-size", "pattern" = r"^\d+(\.\d+)?([KMGkmg][iI]?)?[bB]$"))]
pub struct Bytes(u64);

/// A share, in hundredths of a percent, written with its sign: `10%`, `0.5%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("format" = "pelton-percent", "pattern" = r"^\d+(\.\d+)?%$"))]
pub struct Percent(u32);

const DURATIONS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Millis {
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    pub const fn from_secs(s: u64) -> Self {
        Self(s * 1_000)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl Bytes {
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

impl Percent {
    pub const fn whole(percent: u32) -> Self {
        Self(percent * 100)
    }

    pub const fn of_hundredths(hundredths: u32) -> Self {
        Self(hundredths)
    }

    /// 0.25 of 25%.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// In hundredths of a percent.
    pub const fn hundredths(self) -> u32 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(number) = text.strip_suffix('%') else {
            return Err(format!("a share needs its sign: `{text}%`"));
        };
        let hundredths = scaled(number, 100).and_then(|n| u32::try_from(n).ok());
        hundredths.map(Self).ok_or_else(|| "not a share in hundredths of a percent, such as `0.5%`".to_owned())
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match rest {
            0 => write!(f, "{whole}%"),
            rest => write!(f, "{}%", format!("{whole}.{rest:02}").trim_end_matches('0')),
        }
    }
}

impl TryFrom<String> for Percent {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Percent> for String {
    fn from(value: Percent) -> Self {
        value.to_string()
    }
}

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let Some((_, factor)) = DURATIONS.iter().find(|(name, _)| *name == unit) else {
            return Err(match unit {
                "" => format!("a duration needs a unit: `{text}ms` or `{text}s`"),
                "us" | "ns" => "durations are whole milliseconds: `1ms` is the shortest".to_owned(),
                _ => format!("`{unit}` is not a unit of time: use `ms`, `s`, `m` or `h`"),
            });
        };
        scaled(number, *factor).map(Self).ok_or_else(|| "not a whole number of milliseconds, such as `5ms`".to_owned())
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let Some((_, factor)) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
            return Err(match unit {
                "" => format!("a size needs a unit: `{text}B`, `{text}KiB` or `{text}MiB`"),
                _ => format!("`{unit}` is not a unit of size: use `B`, `KiB`, `MiB`, `GiB` (or `KB`, `MB`, `GB`)"),
            });
        };
        scaled(number, *factor).map(Self).ok_or_else(|| "not a whole number of bytes, such as `16MiB`".to_owned())
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms > 0 && ms % 1_000 == 0 => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |factor: &u64| self.0 >= *factor && self.0.is_multiple_of(*factor);
        let (unit, factor) = SIZES.iter().find(|(_, factor)| whole(factor)).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl TryFrom<String> for Millis {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Millis> for String {
    fn from(value: Millis) -> Self {
        value.to_string()
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Bytes> for String {
    fn from(value: Bytes) -> Self {
        value.to_string()
    }
}

/// `"1.5s"` to `("1.5", "s")`.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

/// `number` times `factor`, where that is a whole number that fits; the number may have decimals.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = digits(whole)?;
    let places = 10_u128.checked_pow(u32::try_from(decimals.len()).ok()?)?;
    let parts = u128::from(digits(decimals)?) * u128::from(factor);
    if !parts.is_multiple_of(places) {
        return None;
    }
    whole.checked_mul(factor)?.checked_add(u64::try_from(parts / places).ok()?)
}

fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

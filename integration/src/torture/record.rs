//! The records of a run: what each asks of the guest, the text that carries it, and where in the input it is. The text:
//! `{what} {partition} {seq} {key} {padding}`. The place is the record's identity: under faults the input may
//! have a record more than once, and each is to be processed.

use std::fmt::{Display, Formatter, Result as Written, Write as _};

/// What a record asks of the guest (`integration/guests/tester`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Ask {
    None,
    Left,
    Right,
    Both,
    Trap,
    Spin,
    /// An output that its topic refuses.
    Big,
}

/// The topics that outcomes go to, as bits of a set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Outlet {
    Left = 1,
    Right = 2,
    /// Takes small records only.
    Narrow = 4,
    Dead = 8,
}

impl Outlet {
    pub const ALL: [Outlet; 4] = [Outlet::Left, Outlet::Right, Outlet::Narrow, Outlet::Dead];

    pub fn name(self) -> &'static str {
        match self {
            Outlet::Left => "left",
            Outlet::Right => "right",
            Outlet::Narrow => "narrow",
            Outlet::Dead => "dead",
        }
    }
}

impl Ask {
    const ALL: [Ask; 7] = [Ask::None, Ask::Left, Ask::Right, Ask::Both, Ask::Trap, Ask::Spin, Ask::Big];

    pub fn word(self) -> &'static str {
        match self {
            Ask::None => "none",
            Ask::Left => "left",
            Ask::Right => "right",
            Ask::Both => "both",
            Ask::Trap => "trap",
            Ask::Spin => "spin",
            Ask::Big => "big",
        }
    }

    /// Where exactly its outcome must be seen: a set of [`Outlet`]s.
    pub fn outlets(self) -> u8 {
        match self {
            Ask::None => 0,
            Ask::Left => Outlet::Left as u8,
            Ask::Right => Outlet::Right as u8,
            Ask::Both => Outlet::Left as u8 | Outlet::Right as u8,
            Ask::Trap | Ask::Spin | Ask::Big => Outlet::Dead as u8,
        }
    }

    /// What most records ask, by a random number: a filter, two routes and a fan-out.
    pub fn ordinary(random: u8) -> Self {
        match random % 8 {
            0 => Ask::None,
            1..=3 => Ask::Left,
            4 => Ask::Right,
            _ => Ask::Both,
        }
    }
}

/// One input record, as sent: the generator numbers those of a partition by `seq`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Input {
    pub ask: Ask,
    pub partition: i32,
    pub seq: i64,
    pub key: u32,
}

impl Input {
    pub fn key_text(self) -> String {
        format!("key-{}", self.key)
    }

    /// `into` becomes the record's value.
    pub fn write(self, into: &mut String) {
        into.clear();
        let Input { ask, partition, seq, key } = self;
        let _ = write!(into, "{} {partition} {seq} {key} ", ask.word());
        // Lengths differ, contents too: a value that is not what it was is seen.
        let padding = (seq as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        for _ in 0..1 + padding % 8 {
            let _ = write!(into, "{padding:06x}");
        }
    }

    /// `None` for a value that [`Input::write`] did not make.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut words = text.split(' ');
        let word = words.next()?;
        let input = Input {
            ask: Ask::ALL.into_iter().find(|ask| ask.word() == word)?,
            partition: words.next()?.parse().ok()?,
            seq: words.next()?.parse().ok()?,
            key: words.next()?.parse().ok()?,
        };
        let mut expected = String::with_capacity(text.len());
        input.write(&mut expected);
        (expected == text).then_some(input)
    }
}

/// Where in the input a record is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Source {
    pub partition: i32,
    pub offset: i64,
}

impl Source {
    /// The guest's header: `{partition}:{offset}`, and nothing else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (partition, offset) = text.split_once(':')?;
        let source = Source { partition: partition.parse().ok()?, offset: offset.parse().ok()? };
        (source.to_string() == text).then_some(source)
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_as_it_is_written() {
        let source = Source { partition: 3, offset: 41 };
        assert_eq!(Source::parse(source.to_string().as_bytes()), Some(source));
        for other in ["", "3", "3:", "3:41 ", "03:41", "3:+41", "x:41"] {
            assert_eq!(Source::parse(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn a_value_carries_the_record_and_a_changed_one_is_none() {
        for (seq, ask) in Ask::ALL.into_iter().enumerate() {
            let input = Input { ask, partition: 3, seq: seq as i64, key: 999 };
            let mut value = String::new();
            input.write(&mut value);
            assert_eq!(Input::parse(value.as_bytes()), Some(input));
            value.push('0');
            assert_eq!(Input::parse(value.as_bytes()), None);
        }
        assert_eq!(Input::parse(b"left 1"), None);
        assert_eq!(Input::parse(b"\xff"), None);
    }
}

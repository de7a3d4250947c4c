//! Where a group should continue: what can be asked for, and which position that is in one partition. Pure: the
//! brokers' answers come in, a position and a remark come out.

use super::instant;
use crate::config::Millis;
use pelton_kafka::Position;

/// Where to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// At the oldest record that is still there.
    Earliest,
    /// After everything that read_committed readers can see.
    Latest,
    /// At the first record from this time on, in milliseconds since 1970.
    Time(i64),
    /// So many offsets on from the committed position, or back.
    By(i64),
}

/// What is known of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partition {
    pub committed: Option<Position>,
    pub low: Position,
    pub end: Position,
    /// The first record from the time asked for, where a time was asked for and there is one.
    pub since: Option<Position>,
}

/// Why a partition does not go exactly where it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remark {
    /// The place would be before the oldest record.
    AtLow,
    /// The place would be after the end.
    AtEnd,
    /// There is no position to count from.
    NoPosition,
    /// No record is that young.
    NoneSince,
}

impl Remark {
    pub const fn text(self) -> &'static str {
        match self {
            Remark::AtLow => "clamped to the oldest record",
            Remark::AtEnd => "clamped to the end",
            Remark::NoPosition => "no position to count from: left alone",
            Remark::NoneSince => "no record since then: the end",
        }
    }
}

impl Target {
    /// `earliest`, `latest`, `@TIME`, `+N` or `-N`. `TIME` is RFC 3339, milliseconds since 1970, or so long before now:
    /// `@-1h`.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str, now_ms: i64) -> Result<Self, String> {
        let wrong = || format!("`{text}` is none of `earliest`, `latest`, `@TIME`, `+N`, `-N`");
        match text {
            "earliest" => return Ok(Target::Earliest),
            "latest" => return Ok(Target::Latest),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            return time_of(time, now_ms).map(Target::Time);
        }
        let digits = text.strip_prefix(['+', '-']).ok_or_else(wrong)?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        text.parse().map(Target::By).map_err(|_| wrong())
    }

    /// The position of one partition. `None`: it is left as it is.
    pub fn place(self, partition: &Partition) -> (Option<Position>, Option<Remark>) {
        let Partition { committed, low, end, since } = *partition;
        match self {
            Target::Earliest => (Some(low), None),
            Target::Latest => (Some(end), None),
            Target::Time(_) => match since {
                Some(position) => clamped(position.0, low, end),
                None => (Some(end), Some(Remark::NoneSince)),
            },
            Target::By(distance) => match committed {
                Some(position) => clamped(position.0.saturating_add(distance), low, end),
                None => (None, Some(Remark::NoPosition)),
            },
        }
    }
}

fn clamped(wanted: i64, low: Position, end: Position) -> (Option<Position>, Option<Remark>) {
    match wanted {
        wanted if wanted < low.0 => (Some(low), Some(Remark::AtLow)),
        wanted if wanted > end.0 => (Some(end), Some(Remark::AtEnd)),
        wanted => (Some(Position(wanted)), None),
    }
}

fn time_of(text: &str, now_ms: i64) -> Result<i64, String> {
    if let Some(before) = text.strip_prefix('-') {
        let before: Millis = before.parse()?;
        let before = i64::try_from(before.as_millis()).map_err(|_| format!("`{text}` is too long ago"))?;
        return Ok(now_ms.saturating_sub(before).max(0));
    }
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let ms = if digits { text.parse().map_err(|_| format!("`{text}` is too large"))? } else { instant::parse(text)? };
    if ms < 0 { Err("Kafka knows no time before 1970".to_owned()) } else { Ok(ms) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_700_000_000_000;

    fn partition(committed: Option<i64>, low: i64, end: i64, since: Option<i64>) -> Partition {
        let position = |n: Option<i64>| n.map(Position);
        Partition { committed: position(committed), low: Position(low), end: Position(end), since: position(since) }
    }

    #[test]
    fn what_can_be_asked_for() {
        for (text, target) in [
            ("earliest", Target::Earliest),
            ("latest", Target::Latest),
            ("+10", Target::By(10)),
            ("-3", Target::By(-3)),
            ("@1699999999000", Target::Time(NOW - 1_000)),
            ("@-1h", Target::Time(NOW - 3_600_000)),
            ("@-1.5s", Target::Time(NOW - 1_500)),
            ("@2023-11-14T22:13:20Z", Target::Time(NOW)),
        ] {
            assert_eq!(Target::parse(text, NOW), Ok(target), "{text}");
        }
        for text in ["", "10", "+", "-", "+x", "++1", "@", "@-", "@-5", "@soon", "@1969-01-01T00:00:00Z", "Latest"] {
            assert!(Target::parse(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn each_target_in_one_partition() {
        let p = partition(Some(50), 10, 100, Some(70));
        assert_eq!(Target::Earliest.place(&p), (Some(Position(10)), None));
        assert_eq!(Target::Latest.place(&p), (Some(Position(100)), None));
        assert_eq!(Target::Time(0).place(&p), (Some(Position(70)), None));
        assert_eq!(Target::By(5).place(&p), (Some(Position(55)), None));
        assert_eq!(Target::By(-5).place(&p), (Some(Position(45)), None));
    }

    #[test]
    fn beyond_either_end_it_stops_there_and_says_so() {
        let p = partition(Some(50), 10, 100, None);
        assert_eq!(Target::By(-41).place(&p), (Some(Position(10)), Some(Remark::AtLow)));
        assert_eq!(Target::By(-40).place(&p), (Some(Position(10)), None));
        assert_eq!(Target::By(51).place(&p), (Some(Position(100)), Some(Remark::AtEnd)));
        assert_eq!(Target::By(50).place(&p), (Some(Position(100)), None));
        assert_eq!(Target::Time(1).place(&p), (Some(Position(100)), Some(Remark::NoneSince)));
        // Retention has taken what the group had not read: its own position is before the oldest record.
        assert_eq!(Target::By(-1).place(&partition(Some(5), 10, 100, None)), (Some(Position(10)), Some(Remark::AtLow)));
    }

    #[test]
    fn without_a_position_there_is_nothing_to_count_from() {
        let p = partition(None, 10, 100, None);
        assert_eq!(Target::By(1).place(&p), (None, Some(Remark::NoPosition)));
        assert_eq!(Target::Earliest.place(&p), (Some(Position(10)), None));
    }

    proptest! {
        #[test]
        fn no_target_leaves_the_partition(by: i64, committed in 0_i64.., low in 0_i64..1_000, more in 0_i64..1_000) {
            let (place, _) = Target::By(by).place(&partition(Some(committed), low, low + more, None));
            prop_assert!(place.is_some_and(|p| (low..=low + more).contains(&p.0)));
        }
    }
}

//! Reading event times: RFC 3339 text, whole milliseconds, decimal seconds.
//!
//! A fraction of a millisecond is dropped towards the past. Never here: a clock, or a guess at a
//! time without an offset.

use crate::units::EventTime;

/// Latest event time, the last millisecond of the year 9999; the earliest is as far before the
/// epoch. Microseconds or nanoseconds handed in as milliseconds lie beyond it and are refused.
pub const EVENT_TIME_MAX_MS: i64 = 253_402_300_799_999;

/// The time `millis` after the epoch, unless no calendar reaches it.
#[must_use]
pub fn from_millis(millis: i64) -> Option<EventTime> {
    let in_range = (-EVENT_TIME_MAX_MS..=EVENT_TIME_MAX_MS).contains(&millis);
    in_range.then(|| EventTime::from_millis(millis))
}

/// The time that RFC 3339 `text` means.
#[must_use]
pub fn parse(text: &str) -> Option<EventTime> {
    if let Some(millis) = parse_utc(text.as_bytes()) {
        return Some(EventTime::from_millis(millis));
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    from_millis(i64::try_from(time.as_nanosecond().div_euclid(1_000_000)).ok()?)
}

/// `YYYY-MM-DDTHH:MM:SS[.fraction]Z` and nothing else: what nearly every record has.
fn parse_utc(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_first_chunk::<11>()?;
    let (clock, rest) = rest.split_first_chunk::<8>()?;
    let marks = [date[4], date[7], date[10], clock[2], clock[5]];
    if &marks != b"--T::" {
        return None;
    }
    let year = digits(&date[..4])?;
    let (month, day) = (digits(&date[5..7])?, digits(&date[8..10])?);
    let (hour, minute) = (digits(&clock[..2])?, digits(&clock[3..5])?);
    let second = digits(&clock[6..])?;
    // A leap second is left to the calendar below the fast path.
    let known = (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    if !known || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let fraction_ms = match rest {
        b"Z" => 0,
        [b'.', fraction @ .., b'Z'] if (1..=9).contains(&fraction.len()) => {
            let value = digits(fraction)?;
            let scale = 10_i64.pow(u32::try_from(fraction.len()).ok()?);
            value * 1000 / scale
        }
        _ => return None,
    };
    let seconds = days_from_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1000 + fraction_ms)
}

/// At most nine decimal digits.
fn digits(text: &[u8]) -> Option<i64> {
    let mut value = 0_i64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, counted in years that begin in March
/// so that a leap day comes last.
const fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(text: &str) -> Option<i64> {
        parse(text).map(EventTime::millis)
    }

    #[test]
    fn a_time_may_have_a_fraction_and_any_offset() {
        assert_eq!(millis("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(millis("2026-04-01T09:33:42.123Z"), Some(1_775_036_022_123));
        assert_eq!(millis("2026-04-01T11:33:42.123+02:00"), Some(1_775_036_022_123));
        assert_eq!(millis("2026-04-01T09:33:42.1239999Z"), Some(1_775_036_022_123));
        assert_eq!(millis("1969-12-31T23:59:59.9995Z"), Some(-1));
        assert_eq!(millis("1969-12-31T23:59:59.9995+00:00"), Some(-1));
        assert_eq!(millis("2024-02-29T00:00:00Z"), Some(1_709_164_800_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let wrong = [
            "",
            "now",
            "2026-04-01",
            "2026-04-01T09:33:42",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-04-01T24:00:00Z",
            "2026-04-01T09:33:42.Z",
            "2026-04-01T09:33:4xZ",
            "1775036022123",
            "２026-04-01T00:00:00Z",
        ];
        for text in wrong {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn milliseconds_beyond_the_calendar_are_refused() {
        assert_eq!(from_millis(EVENT_TIME_MAX_MS).map(EventTime::millis), Some(EVENT_TIME_MAX_MS));
        assert_eq!(from_millis(EVENT_TIME_MAX_MS + 1), None);
        assert_eq!(from_millis(i64::MIN), None);
        assert_eq!(from_millis(-1).map(EventTime::millis), Some(-1));
    }

    proptest! {
        #[test]
        fn the_fast_path_agrees_with_the_calendar(
            millis in -62_167_219_200_000..=253_402_214_400_000_i64,
        ) {
            let time = jiff::Timestamp::from_millisecond(millis).unwrap();
            let text = time.to_string();
            prop_assert_eq!(parse_utc(text.as_bytes()), Some(millis), "{}", text);
        }

        #[test]
        fn any_text_is_a_time_or_is_not(text in ".{0,40}|[0-9TZ:.+-]{0,40}") {
            let _ = parse(&text);
        }
    }
}

//! Dead letters: what is kept of a record that could not become an event, and how much of it.
//!
//! Pure: the flood limit takes its time as an argument. Invariants:
//! - the value is the record's own bytes or a prefix of them, and a header says which;
//! - whatever the flood, every refused record leaves a letter with its headers.

use twox_hash::XxHash3_128;

use crate::{
    event::DecodeError,
    units::{Offset, Partition},
};

/// Longest key kept; a longer one is left out and its length told.
pub const KEY_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a record's own headers that are kept.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Longest message of an error kept, bytes.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Source topic.
pub const TOPIC: &str = "exfilwatch-topic";
/// Source partition.
pub const PARTITION: &str = "exfilwatch-partition";
/// Source offset.
pub const OFFSET: &str = "exfilwatch-offset";
/// Index of the first refused row, where the record has rows.
pub const ROW: &str = "exfilwatch-row";
/// How many rows were refused, where the record has rows.
pub const ROWS: &str = "exfilwatch-rows";
/// Reason code, from a closed set.
pub const REASON: &str = "exfilwatch-reason";
/// What was wrong, for people.
pub const MESSAGE: &str = "exfilwatch-message";
/// Length of the whole value; present when the value was cut or left out.
pub const LENGTH: &str = "exfilwatch-length";
/// XXH3-128 of the whole value, hex (`xxh128sum`); present when the value was cut or left out.
pub const HASH: &str = "exfilwatch-xxh128";
/// Broker timestamp of the record, ms.
pub const TIMESTAMP: &str = "exfilwatch-timestamp";
/// How many of the record's own headers were left out because they were too long.
pub const HEADERS_CUT: &str = "exfilwatch-headers-cut";
/// Length of a key that was left out.
pub const KEY_LENGTH: &str = "exfilwatch-key-length";

/// A record that was refused, wholly or in some of its rows.
#[derive(Debug)]
pub struct Refusal<'a> {
    /// Where it was read.
    pub topic: &'a str,
    /// Where it was read.
    pub partition: Partition,
    /// Where it was read.
    pub offset: Offset,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub payload: &'a [u8],
    /// Its own headers; a null value counts as empty.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// Broker timestamp, ms.
    pub timestamp_ms: Option<i64>,
    /// The first fault.
    pub error: &'a DecodeError,
    /// First refused row and how many; none when the record as a whole was refused.
    pub rows: Option<(u32, u32)>,
}

/// A dead letter as it is produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record's own key.
    pub key: Option<Vec<u8>>,
    /// The record's own value, or as much of it as is kept.
    pub payload: Vec<u8>,
    /// The record's own, then why and where from.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl DeadLetter {
    /// Builds the letter, keeping at most `keep_bytes` of the value.
    #[must_use]
    pub fn of(refusal: &Refusal<'_>, keep_bytes: usize) -> Self {
        let mut headers = Vec::with_capacity(refusal.headers.len() + 10);
        keep_headers(&refusal.headers, &mut headers);
        let mut add = |name: &str, value: String| {
            headers.push((name.to_owned(), value.into_bytes()));
        };
        add(TOPIC, refusal.topic.to_owned());
        add(PARTITION, refusal.partition.0.to_string());
        add(OFFSET, refusal.offset.0.to_string());
        add(REASON, refusal.error.code().to_owned());
        add(MESSAGE, bounded_message(refusal.error));
        if let Some(timestamp_ms) = refusal.timestamp_ms {
            add(TIMESTAMP, timestamp_ms.to_string());
        }
        if let Some((first, count)) = refusal.rows {
            add(ROW, first.to_string());
            add(ROWS, count.to_string());
        }
        if refusal.payload.len() > keep_bytes {
            add(LENGTH, refusal.payload.len().to_string());
            add(HASH, hash(refusal.payload));
        }
        let key = match refusal.key {
            Some(key) if key.len() > KEY_BYTES_MAX => {
                add(KEY_LENGTH, key.len().to_string());
                None
            }
            key => key.map(<[u8]>::to_vec),
        };
        let kept = &refusal.payload[..refusal.payload.len().min(keep_bytes)];
        Self { key, payload: kept.to_vec(), headers }
    }

    /// Bytes it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.payload.len() + self.key.as_ref().map_or(0, Vec::len) + headers
    }
}

/// Keeps headers in their order while they fit, and says how many did not.
fn keep_headers(own: &[(&str, &[u8])], kept: &mut Vec<(String, Vec<u8>)>) {
    let mut room = HEADER_BYTES_MAX;
    for (name, value) in own {
        let Some(left) = room.checked_sub(name.len() + value.len()) else {
            let cut = own.len() - kept.len();
            kept.push((HEADERS_CUT.to_owned(), cut.to_string().into_bytes()));
            return;
        };
        room = left;
        kept.push(((*name).to_owned(), value.to_vec()));
    }
}

fn bounded_message(error: &DecodeError) -> String {
    let mut message = error.to_string();
    if message.len() > MESSAGE_BYTES_MAX {
        let mut end = MESSAGE_BYTES_MAX;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
    message
}

/// Tells one cut value from another; it protects against nothing.
fn hash(payload: &[u8]) -> String {
    format!("{:032x}", XxHash3_128::oneshot(payload))
}

/// What the flood limit says of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// Keep it.
    Keep,
    /// Only headers, from now on: raise the alert.
    FloodBegins,
    /// Only headers.
    Flood,
}

/// Bytes of values a second: a token bucket that holds one second's worth. A value longer than that
/// passes when the bucket is full, and leaves it in debt.
#[derive(Debug)]
pub struct FloodLimit {
    bytes_per_second: u64,
    /// In bytes times 1000, so that a millisecond's share is whole.
    tokens: i128,
    refilled_ms: u64,
    /// When a value was last left out.
    flooded_ms: Option<u64>,
}

/// A flood is over when nothing was left out for this long.
pub const CALM_MS: u64 = 60_000;

impl FloodLimit {
    /// Full at first.
    #[must_use]
    pub fn new(bytes_per_second: u64, now_ms: u64) -> Self {
        let tokens = i128::from(bytes_per_second) * 1000;
        Self { bytes_per_second, tokens, refilled_ms: now_ms, flooded_ms: None }
    }

    /// Asks for `bytes` of value.
    pub fn take(&mut self, bytes: usize, now_ms: u64) -> Allowance {
        let passed_ms = now_ms.saturating_sub(self.refilled_ms);
        self.refilled_ms = self.refilled_ms.max(now_ms);
        let rate = i128::from(self.bytes_per_second);
        let full = rate * 1000;
        self.tokens = (self.tokens + rate * i128::from(passed_ms)).min(full);
        let wanted = bytes as i128 * 1000;
        if wanted <= self.tokens || (full > 0 && self.tokens == full) {
            self.tokens -= wanted;
            return Allowance::Keep;
        }
        match self.flooded_ms.replace(now_ms) {
            None => Allowance::FloodBegins,
            Some(_) => Allowance::Flood,
        }
    }

    /// True once, when a flood has been over for [`CALM_MS`].
    pub fn calmed(&mut self, now_ms: u64) -> bool {
        let calm = self.flooded_ms.is_some_and(|at| now_ms.saturating_sub(at) >= CALM_MS);
        if calm {
            self.flooded_ms = None;
        }
        calm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<'a>(payload: &'a [u8], error: &'a DecodeError) -> Refusal<'a> {
        Refusal {
            topic: "raw",
            partition: Partition(3),
            offset: Offset(41),
            key: Some(b"k"),
            payload,
            headers: vec![("trace", b"t1")],
            timestamp_ms: Some(1_700_000_000_000),
            error,
            rows: None,
        }
    }

    fn header<'a>(letter: &'a DeadLetter, name: &str) -> Option<&'a str> {
        let (_, value) = letter.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value).ok()
    }

    const MISSING: DecodeError =
        DecodeError::Missing { field: "event_time", expected: "a time with an offset" };

    #[test]
    fn a_letter_keeps_the_bytes_and_says_why_and_where_from() {
        let letter = DeadLetter::of(&refusal(b"\xffraw", &MISSING), 100);
        assert_eq!(letter.payload, b"\xffraw");
        assert_eq!(letter.key.as_deref(), Some(b"k".as_slice()));
        assert_eq!(header(&letter, TOPIC), Some("raw"));
        assert_eq!(header(&letter, PARTITION), Some("3"));
        assert_eq!(header(&letter, OFFSET), Some("41"));
        assert_eq!(header(&letter, REASON), Some("missing_field"));
        assert_eq!(header(&letter, TIMESTAMP), Some("1700000000000"));
        assert_eq!(letter.headers[0], ("trace".to_owned(), b"t1".to_vec()), "its own come first");
        assert!(header(&letter, MESSAGE).is_some_and(|text| text.contains("event_time")));
        assert_eq!(header(&letter, LENGTH), None);
        assert_eq!(header(&letter, ROW), None);
    }

    #[test]
    fn a_value_longer_than_a_seconds_worth_passes_a_full_limit_and_is_paid_for() {
        let mut limit = FloodLimit::new(100, 0);
        assert_eq!(limit.take(1000, 0), Allowance::Keep);
        assert_eq!(limit.take(1, 8999), Allowance::FloodBegins, "still in debt");
        assert_eq!(limit.take(1, 9020), Allowance::Keep);
    }

    #[test]
    fn a_letter_of_some_rows_names_the_first_and_how_many() {
        let mut refusal = refusal(b"x", &MISSING);
        refusal.rows = Some((7, 2));
        let letter = DeadLetter::of(&refusal, 100);
        assert_eq!((header(&letter, ROW), header(&letter, ROWS)), (Some("7"), Some("2")));
    }

    #[test]
    fn a_value_is_cut_only_past_the_bound_and_then_has_length_and_hash() {
        let whole = DeadLetter::of(&refusal(b"12345", &MISSING), 5);
        assert_eq!(header(&whole, LENGTH), None);
        let cut = DeadLetter::of(&refusal(b"123456", &MISSING), 5);
        assert_eq!(cut.payload, b"12345");
        assert_eq!(header(&cut, LENGTH), Some("6"));
        assert_eq!(header(&cut, HASH).map(str::len), Some(32));
        let other = DeadLetter::of(&refusal(b"123457", &MISSING), 5);
        assert_ne!(header(&cut, HASH), header(&other, HASH));
    }

    #[test]
    fn a_key_too_long_to_keep_is_told_by_its_length() {
        let key = vec![b'k'; KEY_BYTES_MAX + 1];
        let mut refusal = refusal(b"x", &MISSING);
        refusal.key = Some(&key);
        let letter = DeadLetter::of(&refusal, 100);
        assert_eq!(letter.key, None);
        assert_eq!(header(&letter, KEY_LENGTH), Some("16385"));
    }

    #[test]
    fn headers_too_long_to_keep_are_counted() {
        let long = vec![b'h'; HEADER_BYTES_MAX];
        let mut refusal = refusal(b"x", &MISSING);
        refusal.headers.push(("long", &long));
        refusal.headers.push(("after", b"1"));
        let letter = DeadLetter::of(&refusal, 100);
        assert_eq!(header(&letter, "trace"), Some("t1"));
        assert_eq!(header(&letter, HEADERS_CUT), Some("2"));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let found = "é".repeat(MESSAGE_BYTES_MAX);
        let error = DecodeError::Invalid { field: "rows", found, expected: "a count" };
        let letter = DeadLetter::of(&refusal(b"x", &error), 100);
        assert!(header(&letter, MESSAGE).is_some_and(|text| text.len() <= MESSAGE_BYTES_MAX));
    }

    #[test]
    fn a_flood_begins_once_and_values_come_back_as_time_passes() {
        let mut limit = FloodLimit::new(100, 0);
        assert_eq!(limit.take(100, 0), Allowance::Keep);
        assert_eq!(limit.take(1, 0), Allowance::FloodBegins);
        assert_eq!(limit.take(1, 0), Allowance::Flood);
        assert_eq!(limit.take(1, 10), Allowance::Keep, "ten milliseconds are one byte");
        assert_eq!(limit.take(1, 10), Allowance::Flood);
        assert_eq!(limit.take(100, 1010), Allowance::Keep);
    }

    #[test]
    fn a_flood_ends_after_a_calm_minute() {
        let mut limit = FloodLimit::new(0, 0);
        assert_eq!(limit.take(1, 5), Allowance::FloodBegins);
        assert!(!limit.calmed(5 + CALM_MS - 1));
        assert!(limit.calmed(5 + CALM_MS));
        assert!(!limit.calmed(5 + CALM_MS), "said once");
        assert_eq!(limit.take(1, 5 + CALM_MS), Allowance::FloodBegins);
    }
}

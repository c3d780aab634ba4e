//! Canaries: events of a reserved principal that must raise an alert, to see that the whole way is
//! open. Each is signed, because a name alone would be a hiding place.
//!
//! Whoever lacks the key can make no canary: without a valid signature an event of that name is an
//! ordinary one and counts for every rule. Never here: randomness, files, Kafka.

use std::fmt::{self, Write as _};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{Event, RowsQuality};
use crate::units::EventTime;

/// What the principal of a canary begins with; its event id follows.
pub const PRINCIPAL_PREFIX: &str = "exfilwatch-canary/";
/// Header of the Kafka record with the signature: HMAC-SHA256 in lower-case hexadecimal digits.
pub const HEADER: &str = "exfilwatch-canary";
/// Most rows of a canary; more are an ordinary event, whatever its signature.
pub const ROWS_MAX: u64 = 10;
/// Farthest that the event time of a canary may be from the time of its record, in milliseconds. A
/// signature that somebody kept is worth nothing after that.
pub const AGE_MAX_MS: u64 = 3_600_000;
/// Shortest key, in bytes.
pub const KEY_BYTES_MIN: usize = 16;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 32;

/// Headers of a record, read only when asked for.
pub type Headers<'r> = &'r dyn Fn() -> Vec<(&'r str, &'r [u8])>;

/// What canaries are signed with. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct CanaryKey(Box<[u8]>);

impl fmt::Debug for CanaryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CanaryKey(..)")
    }
}

impl CanaryKey {
    /// # Errors
    /// Shorter than [`KEY_BYTES_MIN`] or longer than [`KEY_BYTES_MAX`]: the length found.
    pub fn new(bytes: &[u8]) -> Result<Self, usize> {
        let fits = (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&bytes.len());
        if fits { Ok(Self(bytes.into())) } else { Err(bytes.len()) }
    }

    /// Value of [`HEADER`] for an event.
    #[must_use]
    pub fn sign(&self, event_id: &str, event_time: EventTime) -> String {
        let mut text = String::with_capacity(2 * SIGNATURE_BYTES);
        for byte in self.mac(event_id, event_time).finalize().into_bytes() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Whether an event, as it came, is a canary. `headers` are of its record; they are read for
    /// events of the reserved name only.
    ///
    /// The name must be that of the signed id: one signature is good for one principal. `sent_ms`,
    /// the time of the record, must be within [`AGE_MAX_MS`] of the event. It names neither an
    /// object nor bytes.
    #[must_use]
    #[inline]
    pub fn is_canary(&self, event: &Event<'_>, sent_ms: Option<i64>, headers: Headers<'_>) -> bool {
        event.principal.id.starts_with(PRINCIPAL_PREFIX) && self.is_signed(event, sent_ms, headers)
    }

    #[cold]
    fn is_signed(&self, event: &Event<'_>, sent_ms: Option<i64>, headers: Headers<'_>) -> bool {
        let Some(event_id) = event.event_id.as_deref() else { return false };
        let is_named = event.principal.id.strip_prefix(PRINCIPAL_PREFIX) == Some(event_id);
        let is_small = event.rows_quality == RowsQuality::Exact
            && event.rows.is_some_and(|rows| rows <= ROWS_MAX);
        let is_bare = event.objects.is_empty() && event.bytes.is_none();
        let is_fresh =
            sent_ms.is_some_and(|sent| sent.abs_diff(event.event_time.millis()) <= AGE_MAX_MS);
        if !is_named || !is_small || !is_bare || !is_fresh {
            return false;
        }
        let headers = headers();
        let value = headers.iter().rfind(|(name, _)| *name == HEADER).map(|(_, value)| *value);
        let Some(signature) = value.and_then(from_hex) else { return false };
        // Takes the same time wherever they differ.
        self.mac(event_id, event.event_time).verify_slice(&signature).is_ok()
    }

    fn mac(&self, event_id: &str, event_time: EventTime) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(event_id.as_bytes());
        mac.update(format!("\n{}", event_time.millis()).as_bytes());
        mac
    }
}

/// The canonical JSON of a canary of one row.
#[must_use]
pub fn json(event_id: &str, event_time: EventTime) -> String {
    let event = serde_json::json!({
        "event_id": event_id,
        "event_time": event_time.millis(),
        "principal": {"id": principal(event_id), "type": "service"},
        "source": {"kind": "exfilwatch"},
        "operation": "select",
        "rows": 1,
        "rows_quality": "exact",
    });
    event.to_string()
}

/// The principal of a canary.
#[must_use]
pub fn principal(event_id: &str) -> String {
    format!("{PRINCIPAL_PREFIX}{event_id}")
}

/// A signature as [`CanaryKey::sign`] writes it; nothing else.
fn from_hex(text: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; SIGNATURE_BYTES];
    if text.len() != 2 * SIGNATURE_BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::event::{Format, Outcome, SourceDefaults};

    const KEY: &[u8] = b"sixteen bytes or more";

    /// When every record here was written.
    const SENT_MS: i64 = 100;

    fn key() -> CanaryKey {
        CanaryKey::new(KEY).unwrap()
    }

    fn at(ms: i64) -> EventTime {
        EventTime::from_millis(ms)
    }

    /// Whether the event of `json` is a canary with these headers, and how often they were read.
    fn judged(json: &str, headers: &[(&str, &str)]) -> (bool, u32) {
        let mut judged = None;
        let reads = Cell::new(0);
        let headers = || {
            reads.set(reads.get() + 1);
            headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect()
        };
        let mut see = |_, outcome: Outcome<'_, '_>| match outcome {
            Outcome::Event(event) => judged = Some(key().is_canary(event, Some(SENT_MS), &headers)),
            other => panic!("no event: {other:?}"),
        };
        let mut decoder = Format::Canonical.decoder();
        decoder.decode(json.as_bytes(), &SourceDefaults::default(), &mut see).unwrap();
        (judged.unwrap(), reads.get())
    }

    #[test]
    fn the_signature_is_hmac_sha256_of_id_and_time() {
        // openssl: printf 'id\n1767571200123' | openssl dgst -sha256 -hmac 'sixteen bytes or more'
        let expected = "ff4db8f5dd1c6cfe";
        assert_eq!(&key().sign("id", at(1_767_571_200_123))[..16], expected);
    }

    #[test]
    fn what_the_command_writes_is_a_canary() {
        let (text, signature) = (json("ab12", at(7)), key().sign("ab12", at(7)));
        assert_eq!(judged(&text, &[("other", "x"), (HEADER, &signature)]), (true, 1));
    }

    #[test]
    fn the_name_alone_makes_no_canary() {
        let (text, signature) = (json("ab12", at(7)), key().sign("ab12", at(7)));
        let headers: &[(&str, &str)] = &[(HEADER, &signature)];
        assert!(!judged(&text, &[]).0, "no header");
        assert!(!judged(&text, &[(HEADER, &signature.to_uppercase())]).0, "another form");
        assert!(!judged(&text, &[(HEADER, &signature[..62])]).0, "cut short");
        assert!(!judged(&json("ab12", at(8)), headers).0, "another time");
        assert!(!judged(&json("ab13", at(7)), headers).0, "another id");
        for (from, to) in [
            ("\"rows\":1", "\"rows\":11"),
            ("exact", "upper_bound"),
            ("exact", "unknown"),
            ("\"rows\":1", "\"bytes\":1"),
            ("exfilwatch-canary/ab12", "exfilwatch-canary/ab13"),
            ("\"event_id\":\"ab12\",", ""),
            ("\"rows\":1", "\"rows\":1,\"bytes\":1"),
            ("\"rows\":1", "\"rows\":1,\"objects\":[{\"name\":\"crm.customers\"}]"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text);
            assert!(!judged(&changed, headers).0, "{changed}");
        }
        assert!(judged(&text.replace("\"rows\":1", "\"rows\":10"), headers).0);
    }

    #[test]
    fn a_signature_is_good_for_an_hour() {
        let age_max = i64::try_from(AGE_MAX_MS).unwrap();
        for (ms, good) in [
            (SENT_MS - age_max, true),
            (SENT_MS - age_max - 1, false),
            (SENT_MS + age_max, true),
            (SENT_MS + age_max + 1, false),
        ] {
            let signature = key().sign("ab12", at(ms));
            assert_eq!(judged(&json("ab12", at(ms)), &[(HEADER, &signature)]).0, good, "{ms}");
        }
    }

    #[test]
    fn headers_of_events_with_other_names_are_never_read() {
        let (text, signature) = (json("ab12", at(7)), key().sign("ab12", at(7)));
        let other = text.replace("exfilwatch-canary/", "Exfilwatch-Canary/");
        assert_eq!(judged(&other, &[(HEADER, &signature)]), (false, 0));
    }

    #[test]
    fn a_key_is_16_bytes_to_64_kib_and_never_shown() {
        assert_eq!(CanaryKey::new(&[7; 15]), Err(15));
        assert_eq!(CanaryKey::new(&vec![7; (64 << 10) + 1]), Err((64 << 10) + 1));
        assert!(CanaryKey::new(&vec![7; 64 << 10]).is_ok());
        assert_eq!(format!("{:?}", key()), "CanaryKey(..)");
    }

    proptest! {
        #[test]
        fn a_signature_is_good_for_its_key_id_and_time_alone(
            id in "[0-9a-f\\n]{1,8}", other_id in "[0-9a-f\\n]{1,8}",
            ms in -99_i64..99, other_ms in -99_i64..99, flip in 0_usize..KEY.len() + 1,
        ) {
            let mut other_key = KEY.to_vec();
            if let Some(byte) = other_key.get_mut(flip) {
                *byte ^= 1;
            }
            let other = CanaryKey::new(&other_key).unwrap().sign(&other_id, at(other_ms));
            let same = id == other_id && ms == other_ms && flip == KEY.len();
            prop_assert_eq!(key().sign(&id, at(ms)) == other, same);
        }

        #[test]
        fn any_other_header_is_refused(header in ".{0,8}|[0-9a-f]{64}") {
            let signature = key().sign("ab12", at(7));
            prop_assume!(header != signature);
            prop_assert!(!judged(&json("ab12", at(7)), &[(HEADER, &header)]).0);
        }
    }
}

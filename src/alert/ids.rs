//! Deterministic ids of episodes and messages (D3).

use std::{fmt, hash::Hasher};

use siphasher::sip128::{Hash128, Hasher128, SipHasher13};

use crate::units::EventTime;

use super::Activity;

/// An episode's id, constant from opening to closing (`finding_info.uid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpisodeId(pub u128);

/// A message's id (`ce_id`, `metadata.uid`); a repeated publication has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u128);

impl EpisodeId {
    /// `hash(rule id, group key, event time of the opening row)`, SipHash-1-3-128 with a fixed key:
    /// equal input gives equal ids on every member and version.
    #[must_use]
    pub fn of(rule_id: &str, key: &str, opened_at: EventTime) -> Self {
        let mut hasher = hasher();
        write_text(&mut hasher, rule_id);
        write_text(&mut hasher, key);
        hasher.write(&opened_at.millis().to_le_bytes());
        Self(number(hasher.finish128()))
    }
}

impl MessageId {
    /// `hash(episode, activity, ordinal in the episode)`.
    #[must_use]
    pub fn of(episode: EpisodeId, activity: Activity, ordinal: u32) -> Self {
        let mut hasher = hasher();
        hasher.write(&episode.0.to_le_bytes());
        hasher.write(&[activity as u8]);
        hasher.write(&ordinal.to_le_bytes());
        Self(number(hasher.finish128()))
    }
}

impl fmt::Display for EpisodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

fn hasher() -> SipHasher13 {
    SipHasher13::new_with_keys(0x6578_6669_6c77_6174, 0x6368_2e61_6c65_7274)
}

/// Length first, so that (`ab`, `c`) and (`a`, `bc`) differ.
fn write_text(hasher: &mut SipHasher13, text: &str) {
    hasher.write(&(text.len() as u64).to_le_bytes());
    hasher.write(text.as_bytes());
}

fn number(hash: Hash128) -> u128 {
    (u128::from(hash.h1) << 64) | u128::from(hash.h2)
}

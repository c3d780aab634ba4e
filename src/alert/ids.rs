//! Deterministic ids of episodes and messages (D3).

use std::{fmt, hash::Hasher};

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hash128, Hasher128, SipHasher13};

use crate::units::EventTime;

use super::Activity;

/// An episode's id, constant from opening to closing (`finding_info.uid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EpisodeId(pub u128);

/// A message's id (`ce_id`, `metadata.uid`); a repeated publication has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

#[cfg(test)]
mod tests {
    use super::*;

    const T0: EventTime = EventTime::from_millis(1_775_036_022_000);

    #[test]
    fn ids_are_what_earlier_versions_published() {
        let episode = EpisodeId::of("customer-records", "jdoe", T0);
        assert_eq!(episode.to_string(), "d0947bd581ec2778cf9ff16269c1cb43");
        assert_eq!(
            MessageId::of(episode, Activity::Create, 0).to_string(),
            "65eef4150945ebc0a2a28df5aa91c116"
        );
        assert_eq!(
            MessageId::of(episode, Activity::Update, 1).to_string(),
            "5ee8d70678a37948b90c7ac2e5cdd8d5"
        );
    }

    #[test]
    fn moving_a_boundary_between_fields_changes_the_id() {
        let ids = [
            EpisodeId::of("ab", "c", T0),
            EpisodeId::of("a", "bc", T0),
            EpisodeId::of("abc", "", T0),
            EpisodeId::of("", "abc", T0),
            EpisodeId::of("ab", "c", T0.plus_millis(1)),
        ];
        for (at, one) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(one), "{at}");
        }
    }

    #[test]
    fn messages_of_one_episode_differ_by_activity_and_by_ordinal() {
        let episode = EpisodeId::of("r", "k", T0);
        let mut ids: Vec<MessageId> = [Activity::Create, Activity::Update, Activity::Close]
            .into_iter()
            .flat_map(|activity| (0..300).map(move |n| MessageId::of(episode, activity, n)))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 900);
        assert_ne!(ids[0].0, episode.0);
    }

    #[test]
    fn ids_are_thirty_two_digits_even_when_small() {
        assert_eq!(EpisodeId(1).to_string(), format!("{:0>32}", 1));
    }
}

//! Episodes: a finding's life from opening to closing.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{
    alert::{Activity, EpisodeId, MessageId},
    rules::Severity,
    units::{EventTime, KeyHash, Tick},
};

/// Open episodes of one engine, about 500 bytes each. Beyond it a crossing gets no alert of its
/// own.
const EPISODES_MAX: usize = 65_536;
/// Of these, episodes that rest on a sketch alone: at the memory ceiling every small key may look
/// like a thief, and alerts nobody can read hide the one who is.
pub(super) const ESTIMATED_MAX: usize = 100;

/// Index of a rule and hash of a group key.
pub(super) type EpisodeKey = (usize, KeyHash);

/// A limit the episode has crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Crossed {
    /// Index into the meter's limits.
    pub(super) limit: usize,
    /// First tick at which its window is back at or below it if nothing more comes.
    pub(super) until: Tick,
    /// `hi` of its window in the last message.
    pub(super) published_hi: u64,
}

/// One open episode.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Episode {
    pub(super) id: EpisodeId,
    pub(super) key: String,
    pub(super) actor: Option<String>,
    pub(super) crossed_at: EventTime,
    pub(super) severity: Severity,
    pub(super) crossed: SmallVec<[Crossed; 4]>,
    /// Event time of the row behind the last message.
    pub(super) published_at: EventTime,
    /// Messages sent so far.
    pub(super) ordinal: u32,
    /// When it closes if nothing more comes.
    pub(super) due: Tick,
    /// Every limit it crossed so far was crossed by counts of a sketch, which other keys share.
    pub(super) estimated: bool,
}

impl Episode {
    pub(super) fn has_crossed(&self, limit: usize) -> bool {
        self.crossed.iter().any(|crossed| crossed.limit == limit)
    }

    /// The id of the next message.
    pub(super) fn next_message(&mut self, activity: Activity) -> MessageId {
        let message = MessageId::of(self.id, activity, self.ordinal);
        self.ordinal += 1;
        message
    }
}

/// All open episodes of an engine, with the times at which they may close.
#[derive(Debug, Default)]
pub(super) struct Episodes {
    open: HashMap<EpisodeKey, Episode>,
    due: BTreeSet<(Tick, EpisodeKey)>,
    estimated: usize,
}

impl Episodes {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Those of them that rest on a sketch alone.
    pub(super) fn estimated(&self) -> usize {
        self.estimated
    }

    /// Whether another may open: one by counts that are `certain`, or one by estimated counts.
    pub(super) fn have_room(&self, certain: bool) -> bool {
        self.len() < EPISODES_MAX && (certain || self.estimated < ESTIMATED_MAX)
    }

    /// Takes an episode out to work on it; [`Self::put`] brings it back.
    pub(super) fn take(&mut self, key: EpisodeKey) -> Option<Episode> {
        let episode = self.open.remove(&key)?;
        self.due.remove(&(episode.due, key));
        self.estimated -= usize::from(episode.estimated);
        Some(episode)
    }

    pub(super) fn put(&mut self, key: EpisodeKey, episode: Episode) {
        self.due.insert((episode.due, key));
        self.estimated += usize::from(episode.estimated);
        self.open.insert(key, episode);
    }

    /// When the next episode may close.
    pub(super) fn next_due(&self) -> Option<Tick> {
        self.due.first().map(|&(due, _)| due)
    }

    /// The next episode that is due at `now`, taken out.
    pub(super) fn take_due(&mut self, now: Tick) -> Option<(EpisodeKey, Episode)> {
        let &(due, key) = self.due.first()?;
        if due > now {
            return None;
        }
        self.take(key).map(|episode| (key, episode))
    }

    /// All of them, in a stable order, taken out.
    pub(super) fn take_all(&mut self) -> Vec<(EpisodeKey, Episode)> {
        self.due.clear();
        self.estimated = 0;
        let mut all: Vec<_> = self.open.drain().collect();
        all.sort_unstable_by_key(|&(key, _)| key);
        all
    }

    /// All of them, to be saved.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&EpisodeKey, &Episode)> {
        self.open.iter()
    }

    /// Whether any rule of `meter_rules` has an episode open for this key.
    pub(super) fn any(&self, mut rules: impl Iterator<Item = usize>, key: KeyHash) -> bool {
        rules.any(|rule| self.open.contains_key(&(rule, key)))
    }
}

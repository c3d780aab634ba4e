//! What is remembered of keys near a limit, so that an alert explains itself. Bounded throughout.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{
    alert::Evidence,
    event::{RowsQuality, batch::Batch, context::Context},
    units::{EventTime, KeyHash},
    window::Changes,
};

/// Objects named in an alert.
const OBJECTS_MAX: usize = 8;
/// Client addresses named in an alert.
const ADDRESSES_MAX: usize = 8;
/// Query ids named in an alert.
const QUERIES_MAX: usize = 8;
/// Bytes kept of each text.
const TEXT_MAX: usize = 256;
/// Keys near a limit for which evidence is kept, per engine: about 1.5 KiB each.
const NEAR_MAX: usize = 8_192;
/// Entries that a new key looks at to find one that gives way.
const LOOKED_AT_MAX: usize = 16;
/// Evidence of a key that has not moved for this long begins anew: no window is longer.
const QUIET_MS: i64 = 30 * 24 * 3_600_000;

/// What is seen of one key near a limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) evidence: Evidence,
    /// Event times of the first and last event since then.
    pub(super) first: EventTime,
    pub(super) last: EventTime,
    /// What the longest window held when this began, plus everything counted since.
    pub(super) records: u64,
    /// An episode is open.
    held: bool,
}

/// Meter and key.
pub(super) type NearKey = (usize, KeyHash);

/// Evidence by meter and key.
#[derive(Debug, Default)]
pub(super) struct Near {
    /// Place in `entries`.
    places: HashMap<NearKey, usize>,
    entries: Vec<(NearKey, Seen)>,
    /// Where the next search for one to give way starts.
    hand: usize,
    /// Places whose entry changed since it was saved last.
    changes: Changes,
}

/// A row as evidence sees it.
pub(super) struct Sight<'a> {
    pub(super) batch: &'a Batch,
    pub(super) row: usize,
    pub(super) at: EventTime,
    pub(super) amount: u64,
    pub(super) context: &'a Context,
    pub(super) estimated: bool,
}

impl Near {
    /// Remembers a row of a key near a limit. `before` is what its longest window held without it.
    ///
    /// When too many keys are near a limit, one without an episode gives way. False if none of
    /// those looked at could: the key then goes without evidence.
    pub(super) fn see(
        &mut self,
        meter: usize,
        key: KeyHash,
        sight: &Sight<'_>,
        before: u64,
    ) -> bool {
        let place = match self.places.get(&(meter, key)) {
            Some(&place) => {
                let seen = &mut self.entries[place].1;
                if !seen.held && sight.at > seen.last.plus_millis(QUIET_MS) {
                    *seen = Seen::new(sight, before);
                }
                place
            }
            None => match self.place_for((meter, key), Seen::new(sight, before)) {
                Some(place) => place,
                None => return false,
            },
        };
        self.entries[place].1.add(sight);
        self.changes.mark(place);
        true
    }

    fn place_for(&mut self, key: NearKey, seen: Seen) -> Option<usize> {
        let count = self.entries.len();
        let place = if count < NEAR_MAX {
            self.entries.push((key, seen));
            self.changes.grow(self.entries.len());
            count
        } else {
            let looked_at = (0..LOOKED_AT_MAX).map(|step| (self.hand + step) % count);
            let free = looked_at.filter(|&place| !self.entries[place].1.held);
            let place = free.min_by_key(|&place| {
                let seen = &self.entries[place].1;
                (seen.records, seen.last)
            });
            self.hand = (self.hand + LOOKED_AT_MAX) % count;
            let place = place?;
            self.places.remove(&self.entries[place].0);
            self.entries[place] = (key, seen);
            place
        };
        self.places.insert(key, place);
        Some(place)
    }

    pub(super) fn get(&self, meter: usize, key: KeyHash) -> Option<&Seen> {
        self.places.get(&(meter, key)).map(|&place| &self.entries[place].1)
    }

    /// Every key of which there is evidence.
    pub(super) fn keys(&self) -> impl Iterator<Item = NearKey> {
        self.entries.iter().map(|(key, _)| *key)
    }

    /// An episode has opened: its evidence stays until [`Self::forget`].
    pub(super) fn hold(&mut self, meter: usize, key: KeyHash) {
        if let Some(&place) = self.places.get(&(meter, key)) {
            self.entries[place].1.held = true;
            self.changes.mark(place);
        }
    }

    /// The last episode of the key is over: a later one begins its own evidence.
    pub(super) fn forget(&mut self, meter: usize, key: KeyHash) {
        let Some(place) = self.places.remove(&(meter, key)) else { return };
        self.entries.swap_remove(place);
        if let Some((moved, _)) = self.entries.get(place) {
            self.places.insert(*moved, place);
            self.changes.mark(place);
        }
    }

    /// Moves evidence to the meters' new numbers after a change of rules; `None`: the meter went.
    pub(super) fn renumber(&mut self, number: impl Fn(usize) -> Option<usize>) {
        self.entries.retain_mut(|((meter, _), _)| match number(*meter) {
            Some(now) => {
                *meter = now;
                true
            }
            None => false,
        });
        self.find_places();
        self.mark_all();
    }

    fn find_places(&mut self) {
        let places = self.entries.iter().enumerate().map(|(place, &(key, _))| (key, place));
        self.places = places.collect();
    }

    /// Entries, and where the next search starts: what must be known before they are put back.
    pub(super) fn shape(&self) -> (u32, u32) {
        let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        (number(self.entries.len()), number(self.hand))
    }

    /// Every entry counts as changed.
    pub(super) fn mark_all(&mut self) {
        self.changes.mark_all(self.entries.len());
    }

    /// Takes out the places whose entries have changed since they were saved last. A place that
    /// was given up is not among them.
    pub(super) fn take_changes(&mut self) -> Vec<u32> {
        let mut places = self.changes.take();
        places.retain(|&place| (place as usize) < self.entries.len());
        places
    }

    /// One entry, to be saved, which thereby counts as saved.
    pub(super) fn save(&mut self, place: u32) -> &(NearKey, Seen) {
        self.changes.unmark(place as usize);
        &self.entries[place as usize]
    }

    /// Puts entries back, in the order of their places.
    pub(super) fn restore(entries: Vec<(NearKey, Seen)>, hand: u32) -> Self {
        let mut changes = Changes::new();
        changes.grow(entries.len());
        let mut near = Self { places: HashMap::new(), entries, hand: hand as usize, changes };
        near.find_places();
        near
    }
}

impl Seen {
    fn new(sight: &Sight<'_>, before: u64) -> Self {
        let evidence = Evidence {
            since: sight.at,
            first_event_id: sight.batch.event_id(sight.row).map(cut).map(str::to_owned),
            ..Evidence::default()
        };
        Self { evidence, first: sight.at, last: sight.at, records: before, held: false }
    }

    fn add(&mut self, sight: &Sight<'_>) {
        let (batch, row) = (sight.batch, sight.row);
        self.first = self.first.min(sight.at);
        self.last = self.last.max(sight.at);
        self.records = self.records.saturating_add(sight.amount);
        let evidence = &mut self.evidence;
        evidence.events += 1;
        evidence.upper_bound_events +=
            u64::from(sight.context.rows_quality == RowsQuality::UpperBound);
        evidence.unknown_events += u64::from(sight.context.rows_quality == RowsQuality::Unknown);
        evidence.estimated |= sight.estimated;
        for object in &sight.context.objects {
            count_object(&mut evidence.objects, cut(&object.full_name), sight.amount);
        }
        if let Some(address) = batch.client_address(row) {
            keep_recent(&mut evidence.client_addresses, cut(address), ADDRESSES_MAX);
        }
        if let Some(query) = batch.query_id(row) {
            keep_recent(&mut evidence.query_ids, cut(query), QUERIES_MAX);
        }
        if let Some(id) = batch.event_id(row) {
            let last = evidence.last_event_id.get_or_insert_default();
            last.clear();
            last.push_str(cut(id));
        }
    }
}

/// Space-saving counters (Metwally, Agrawal and El Abbadi, 2005): when full, the smallest gives
/// its place and its count to the new one, so a count is never too low.
fn count_object(objects: &mut Vec<(String, u64)>, name: &str, amount: u64) {
    if let Some((_, count)) = objects.iter_mut().find(|(known, _)| known == name) {
        *count = count.saturating_add(amount);
    } else if objects.len() < OBJECTS_MAX {
        objects.push((name.to_owned(), amount));
    } else if let Some((known, count)) = objects.iter_mut().min_by_key(|(_, count)| *count) {
        name.clone_into(known);
        *count = count.saturating_add(amount);
    }
}

/// Keeps the most recent texts, each once, the newest last; strings are reused.
fn keep_recent(recent: &mut Vec<String>, text: &str, max: usize) {
    if let Some(at) = recent.iter().position(|known| known == text) {
        recent[at..].rotate_left(1);
    } else if recent.len() < max {
        recent.push(text.to_owned());
    } else {
        recent.rotate_left(1);
        if let Some(last) = recent.last_mut() {
            text.clone_into(last);
        }
    }
}

/// `text` cut to [`TEXT_MAX`] bytes at a character boundary.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_object_gives_way_and_no_count_is_too_low() {
        let mut objects = Vec::new();
        for (name, amount) in [("a", 5), ("b", 9), ("a", 5)] {
            count_object(&mut objects, name, amount);
        }
        for extra in 0..OBJECTS_MAX {
            count_object(&mut objects, &format!("small-{extra}"), 1);
        }
        assert_eq!(objects.len(), OBJECTS_MAX);
        assert!(objects.contains(&("a".into(), 10)));
        assert!(objects.iter().all(|(name, count)| !name.starts_with("small") || *count >= 1));
    }

    #[test]
    fn the_most_recent_texts_are_kept_once_each() {
        let mut recent = Vec::new();
        for text in ["a", "b", "a", "c", "d"] {
            keep_recent(&mut recent, text, 3);
        }
        assert_eq!(recent, ["a", "c", "d"]);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character_boundary() {
        let text = "é".repeat(TEXT_MAX);
        assert_eq!(cut(&text).len(), TEXT_MAX);
        assert_eq!(cut(&format!("a{text}")).len(), TEXT_MAX - 1);
    }
}

//! Contexts with what the rules charge for them, decided once per distinct context.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use crate::{
    event::{GroupBy, context::Context},
    rules::{RuleSet, Verdict},
};

use super::{Stats, dedup::SourceHash};

/// Bytes of contexts remembered over messages; when more come, all are forgotten and decided anew.
/// One message may hold more for itself, which its own limit bounds (`event::route`).
const BYTES_MAX: usize = 32 << 20;
/// Counted for each context besides its text: the parsed form is about twice the text and this.
const ENTRY_BYTES: usize = 512;

/// A meter that counts, or may count, the rows of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) meter: usize,
    /// The filter must still be asked about the row.
    pub(super) per_row: bool,
    /// First row of its event that this meter counts (an event has a row for each object).
    pub(super) first: bool,
}

#[derive(Debug, Default)]
pub(super) struct Contexts {
    table: HashTable<u32>,
    entries: Vec<Entry>,
    hasher: foldhash::fast::RandomState,
    /// About what the entries take.
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    text: Box<str>,
    context: Context,
    source: SourceHash,
    /// By route, then by object (one entry where rows are not objects).
    charges: [Vec<Vec<Charge>>; GroupBy::ALL.len()],
}

impl Contexts {
    /// Called between messages, so that numbers given out stay good for a message.
    pub(super) fn make_room(&mut self, stats: &mut Stats) {
        if self.bytes > BYTES_MAX {
            self.forget();
            stats.context_resets += 1;
        }
    }

    /// After a change of rules.
    pub(super) fn forget(&mut self) {
        self.table.clear();
        self.entries.clear();
        self.bytes = 0;
    }

    /// The number of a context, decided if it is new.
    pub(super) fn id(&mut self, text: &str, rules: &RuleSet, stats: &mut Stats) -> u32 {
        let hash = self.hasher.hash_one(text);
        let entries = &self.entries;
        if let Some(&id) = self.table.find(hash, |&id| *entries[id as usize].text == *text) {
            return id;
        }
        let context = Context::from_json(text).unwrap_or_else(|_| {
            stats.bad_contexts += 1;
            Context::default()
        });
        let id = u32::try_from(entries.len()).expect("a message holds fewer than 2^32 contexts");
        let charges = GroupBy::ALL.map(|route| charges(&context, route, rules));
        self.bytes += 3 * text.len() + ENTRY_BYTES;
        let source = SourceHash::of(&context);
        self.entries.push(Entry { hash, text: text.into(), context, source, charges });
        let entries = &self.entries;
        self.table.insert_unique(hash, id, |&id| entries[id as usize].hash);
        id
    }

    pub(super) fn context(&self, id: u32) -> &Context {
        &self.entries[id as usize].context
    }

    pub(super) fn source(&self, id: u32) -> SourceHash {
        self.entries[id as usize].source
    }

    #[inline]
    pub(super) fn charges(&self, id: u32, route: GroupBy, object: usize) -> &[Charge] {
        let by_object = &self.entries[id as usize].charges[route as usize];
        by_object.get(object).map_or(&[], Vec::as_slice)
    }
}

fn charges(context: &Context, route: GroupBy, rules: &RuleSet) -> Vec<Vec<Charge>> {
    let objects = if route == GroupBy::Object { context.objects.len() } else { 1 };
    let mut counted = vec![false; rules.meters.len()];
    (0..objects)
        .map(|index| {
            let object = (route == GroupBy::Object).then_some(index);
            let meters = rules.meters.iter().enumerate();
            let routed = meters.filter(|(_, meter)| meter.group_by == route);
            let charged = routed.filter_map(|(meter, written)| {
                let verdict = written.filter.on_context(context, object);
                (verdict != Verdict::Never).then(|| Charge {
                    meter,
                    per_row: verdict == Verdict::PerRow,
                    first: !std::mem::replace(&mut counted[meter], true),
                })
            });
            charged.collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::compile::compile;

    #[test]
    fn ever_new_contexts_take_no_more_than_the_limit_and_one_message() {
        let rules = compile(&[]);
        let (mut contexts, mut stats) = (Contexts::default(), Stats::new(0));
        let filler = "x".repeat(64 << 10);
        for n in 0..1000 {
            contexts.make_room(&mut stats);
            contexts.id(&format!("{n}{filler}"), &rules, &mut stats);
            assert!(contexts.bytes <= BYTES_MAX + 3 * (filler.len() + 8) + ENTRY_BYTES);
        }
        assert!(stats.context_resets >= 5, "{}", stats.context_resets);
    }
}

//! Engines that are saved, crash and come back, against one that nothing happened to.

mod simulation;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;
use crate::{
    alert::{Alert, MessageId},
    engine::{
        Engine, EngineOptions,
        tests::{DAY, HOUR, MINUTE, START_S, event, rule, rules, source},
    },
    event::{
        batch::Batch,
        catalog::Catalog,
        identity::{Identity, IdentitySpec},
        route::{Router, RouterSpec},
    },
    rules::{RuleSet, Severity},
    units::{EventTime, Offset, Partition},
};

/// A state partition: records by offset, as a broker keeps them.
#[derive(Clone, Default)]
struct State {
    records: Vec<(String, Option<Vec<u8>>)>,
}

impl State {
    fn write(&mut self, key: &str, value: Option<Vec<u8>>) -> i64 {
        self.records.push((key.to_owned(), value));
        i64::try_from(self.records.len()).unwrap() - 1
    }

    /// A record that no reader sees has an offset too.
    fn skip(&mut self) -> i64 {
        self.records.push((String::new(), None));
        i64::try_from(self.records.len()).unwrap() - 1
    }

    /// What compaction would leave.
    fn compact(&mut self) {
        let mut newest = BTreeMap::new();
        for (offset, (key, _)) in self.records.iter().enumerate() {
            newest.insert(key.clone(), offset);
        }
        for (offset, (key, value)) in self.records.iter_mut().enumerate() {
            if newest[key] != offset {
                *value = None;
            }
        }
    }

    fn read(&self, offset: i64) -> Option<Vec<u8>> {
        self.records.get(usize::try_from(offset).ok()?)?.1.clone()
    }

    /// Newest first.
    fn manifests(&self) -> Vec<Result<Manifest, Unusable>> {
        self.manifests_of(&origin()).collect()
    }

    fn manifests_of(&self, origin: &Origin) -> impl Iterator<Item = Result<Manifest, Unusable>> {
        let records = self.records.iter().rev();
        let manifests = records.filter(|(key, _)| key.contains("manifest"));
        let values = manifests.filter_map(|(_, value)| value.as_deref());
        values.map(|value| Manifest::read(value, origin))
    }

    fn rebuild(&self, manifest: &Manifest) -> Result<Engine, Unusable> {
        self.rebuild_with(manifest, options())
    }

    fn rebuild_with(
        &self,
        manifest: &Manifest,
        options: EngineOptions,
    ) -> Result<Engine, Unusable> {
        let read = |offset| Ok::<_, Infallible>(self.read(offset));
        rebuild(manifest, options, read).unwrap_or_else(|never| match never {})
    }
}

fn origin() -> Origin {
    Origin { cluster: "c".into(), topic: "events".into(), partition: 0, partitions: 1 }
}

fn options() -> EngineOptions {
    EngineOptions {
        partition: Partition(0),
        allowed_skew_ms: 300_000,
        memory_limit: 64 << 20,
        dedup_entries: 10,
    }
}

fn written() -> Arc<RuleSet> {
    let high = Severity::High;
    rules(&[
        rule("short", &[(MINUTE, 40, high), (HOUR, 150, Severity::Critical)]),
        rule("long", &[(DAY, 300, high)]),
    ])
}

/// Principal, seconds since the read before, rows; and which of the last reads, 0 being the last,
/// is sent again instead.
type Read = (u8, u64, u64, Option<usize>);

/// How many of the last reads may be sent again: one less than the engine remembers.
const AGAIN_MAX: usize = 9;

/// The events topic: one message a read, in the order given.
fn log(reads: &[Read]) -> Vec<Batch> {
    let mut router = Router::new(RouterSpec {
        routes: written().routes(),
        partitions: 1,
        seed: (1, 2),
        identity: Identity::new(&IdentitySpec::default()),
        catalog: Catalog::new(Vec::new()),
    });
    let (id, other) =
        (router.source_that_retries(&source(0)), router.source_that_retries(&source(1)));
    let (mut at_s, mut log) = (0, Vec::new());
    let mut sent = Vec::new();
    for (offset, (principal, gap_s, rows, again)) in reads.iter().enumerate() {
        let offset = Offset(i64::try_from(offset).unwrap());
        if let Some(event) = again.and_then(|again| sent.iter().rev().nth(again)) {
            router.push(other, offset, 0, event);
        } else {
            at_s += gap_s;
            let mut event = event(&format!("p{principal}"), at_s, *rows);
            // Some ids are used for several reads. No two reads are the same.
            event.event_id = Some(format!("e-{}", offset.0 % 17).into());
            event.event_time = event.event_time.plus_millis(offset.0);
            router.push(id, offset, 0, &event);
            sent.push(event);
        }
        let mut messages = Vec::new();
        router.flush(&mut messages).unwrap();
        log.extend(messages.iter().map(|message| Batch::decode(&message.payload).unwrap()));
    }
    log
}

/// Fixed, so that a message has the same broker time whenever it is read.
fn broker_time() -> EventTime {
    EventTime::from_millis(i64::try_from((START_S + 400 * DAY) * 1000).unwrap())
}

/// What happens to the owner of the partition after a message.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Nothing.
    Apply,
    /// A checkpoint that is committed.
    Save,
    /// A checkpoint whose transaction is aborted.
    SaveAborted,
    /// A checkpoint that was committed, but nobody was told.
    SaveUnknown,
    /// All alerts so far are acknowledged.
    Deliver,
    /// The owner dies; the next one starts from what is in the state topic.
    Crash,
    /// The broker compacts the state topic.
    Compact,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => Just(Act::Apply),
        6 => Just(Act::Save),
        1 => Just(Act::SaveAborted),
        1 => Just(Act::SaveUnknown),
        2 => Just(Act::Deliver),
        2 => Just(Act::Crash),
        1 => Just(Act::Compact),
    ];
    prop::collection::vec(act, 150)
}

fn reads() -> impl Strategy<Value = Vec<Read>> {
    let gap_s = prop_oneof![0..90_u64, 0..4000_u64];
    let again = prop::option::weighted(0.2, 0..AGAIN_MAX);
    prop::collection::vec((0..40_u8, gap_s, 0..60_u64, again), 1..150)
}

/// One owner after the other of one partition.
struct Owner {
    state: State,
    engine: Engine,
    ledger: Ledger,
    next: usize,
    /// By message id, with how often it came out.
    published: BTreeMap<MessageId, Arc<Alert>>,
}

impl Owner {
    fn new() -> Self {
        Self {
            state: State::default(),
            engine: Engine::new(options(), written()),
            ledger: Ledger::new(origin(), 0),
            next: 0,
            published: BTreeMap::new(),
        }
    }

    fn apply(&mut self, batch: &Batch) {
        self.engine.apply(batch, broker_time());
        self.next += 1;
        self.publish();
    }

    fn publish(&mut self) {
        let mut alerts = Vec::new();
        self.engine.take_alerts(&mut alerts);
        for alert in alerts {
            let first = self.published.entry(alert.message).or_insert_with(|| alert.clone());
            assert_eq!(*first, alert, "a repeat says the same");
        }
    }

    /// Writes a checkpoint; `keep`: the transaction is committed; `told`: and the owner knows.
    fn save(&mut self, keep: bool, told: bool) {
        if self.ledger.needs_all() {
            self.engine.save_all_next();
        }
        let mut state = self.state.clone();
        let saved = self.engine.save();
        let covered = i64::try_from(self.next).unwrap();
        let mut draft = self.ledger.draft(saved, covered, "", &written().revision);
        let records: Vec<_> =
            draft.records().map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
        let write = |(key, value): (String, Vec<u8>)| state.write(&key, Some(value));
        let offsets: Vec<i64> = records.into_iter().map(write).collect();
        for record in draft.seal(&offsets) {
            state.write(&record.key, record.value);
        }
        if keep {
            self.state = state;
        }
        if told {
            self.ledger.commit(draft);
        } else {
            self.ledger.fail(&draft);
        }
    }

    fn crash(&mut self) {
        let usable = self.state.manifests().into_iter().flatten().find_map(|manifest| {
            let engine = self.state.rebuild(&manifest).ok()?;
            Some((manifest, engine))
        });
        if let Some((manifest, engine)) = usable {
            self.engine = engine;
            self.ledger = Ledger::after(&manifest, origin());
            self.next = usize::try_from(manifest.covered).unwrap();
            self.engine.reload(written(), broker_time());
        } else {
            self.engine = Engine::new(options(), written());
            self.ledger = Ledger::new(origin(), 0);
            self.next = 0;
        }
        // What was in the outbox comes out again.
        self.publish();
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Apply => {}
            Act::Save => self.save(true, true),
            Act::SaveAborted => self.save(false, false),
            Act::SaveUnknown => self.save(true, false),
            Act::Deliver => {
                let ids: Vec<MessageId> = self.published.keys().copied().collect();
                for id in ids {
                    self.engine.delivered(id);
                }
            }
            Act::Crash => self.crash(),
            Act::Compact => self.state.compact(),
        }
    }
}

/// Every value of an engine, as bytes.
fn values(engine: &mut Engine) -> Vec<Vec<u8>> {
    engine.save_all_next();
    let mut values: Vec<Vec<u8>> = Vec::new();
    for chunk in engine.save().chunks {
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let len = u32::from_le_bytes(rest[9..13].try_into().unwrap()) as usize;
            let (entry, tail) = rest.split_at(13 + len);
            values.push(entry.to_vec());
            rest = tail;
        }
    }
    values.sort_unstable();
    values
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_happens_counts_and_alerts_are_those_of_an_undisturbed_run(
        reads in reads(), acts in acts()
    ) {
        let log = log(&reads);
        let mut undisturbed = Owner::new();
        for batch in &log {
            undisturbed.apply(batch);
        }
        let mut owner = Owner::new();
        let mut acts = acts.into_iter();
        while owner.next < log.len() {
            let batch = &log[owner.next];
            owner.apply(batch);
            acts.next().into_iter().for_each(|act| owner.act(act));
        }
        prop_assert_eq!(&owner.published, &undisturbed.published);
        prop_assert_eq!(values(&mut owner.engine), values(&mut undisturbed.engine));
        prop_assert_eq!(owner.engine.stats(), undisturbed.engine.stats());
        prop_assert_eq!(owner.engine.episodes(), undisturbed.engine.episodes());
        let dedup = |owner: &Owner| {
            let dedup = owner.engine.dedup();
            (dedup.len(), dedup.evicted(), dedup.horizon_ms(broker_time()))
        };
        prop_assert_eq!(dedup(&owner), dedup(&undisturbed));
        let again = log.iter().filter(|batch| batch.sources()[0].source.partition == 1).count();
        prop_assert_eq!(undisturbed.engine.stats().repeated, again as u64, "counted once");
    }

    #[test]
    fn the_last_two_manifests_always_name_records_that_are_there(
        reads in reads(), acts in acts()
    ) {
        let mut owner = Owner::new();
        for (batch, act) in log(&reads).iter().zip(acts) {
            owner.apply(batch);
            if let Act::Save | Act::SaveAborted | Act::SaveUnknown = act {
                owner.act(act);
                let mut compacted = owner.state.clone();
                compacted.compact();
                for manifest in compacted.manifests().into_iter().take(2) {
                    let manifest = manifest.unwrap();
                    prop_assert!(compacted.rebuild(&manifest).is_ok());
                }
            }
        }
    }

    #[test]
    fn a_record_with_a_changed_byte_is_recognised_and_nothing_panics(
        reads in reads(), at: prop::sample::Index, bit in 0..8_u8
    ) {
        let mut owner = Owner::new();
        for batch in &log(&reads) {
            owner.apply(batch);
            owner.save(true, true);
        }
        let newest = owner.state.manifests().remove(0).unwrap();
        let needed: Vec<i64> = newest.needed().map(|(_, named)| named.offset).collect();
        let offset = usize::try_from(needed[at.index(needed.len())]).unwrap();
        let record = owner.state.records[offset].1.as_mut().unwrap();
        let byte = at.index(record.len());
        record[byte] ^= 1 << bit;
        // The byte without a meaning is the one exception.
        prop_assert!(byte == 7 || owner.state.rebuild(&newest).is_err());
    }
}

#[test]
fn a_record_of_another_owner_or_format_is_named_as_such() {
    let mut owner = Owner::new();
    owner.save(true, true);
    let (_, value) = owner.state.records.last().unwrap();
    let record = value.clone().unwrap();
    let elsewhere = Origin { topic: "other".into(), ..origin() };
    assert!(matches!(Manifest::read(&record, &elsewhere), Err(Unusable::Foreign(_))));
    assert!(matches!(Manifest::read(b"{}", &origin()), Err(Unusable::Foreign(_))));
    let wider = Origin { partitions: 2, ..origin() };
    let unusable = Manifest::read(&record, &wider).unwrap_err();
    assert_eq!(unusable, Unusable::Repartitioned { was: 1, is: 2 });
    let mut newer = record.clone();
    newer[4] = 9;
    assert_eq!(Manifest::read(&newer, &origin()), Err(Unusable::TooNew { found: 9 }));
    let mut torn = record;
    torn.truncate(40);
    assert!(matches!(Manifest::read(&torn, &origin()), Err(Unusable::Corrupt(_))));
}

#[test]
fn a_large_state_is_written_in_parts_and_small_changes_cost_little() {
    let reads: Vec<_> = (0..40).map(|n| (n, 1, 1, None)).collect();
    let mut owner = Owner::new();
    for batch in &log(&reads) {
        owner.apply(batch);
    }
    owner.save(true, true);
    let saved = owner.engine.save();
    assert!(!saved.ends_walk, "a part");
    let part: usize = saved.chunks.iter().map(Vec::len).sum();
    let whole: usize = values(&mut owner.engine).iter().map(Vec::len).sum();
    assert!(part < whole / 4, "{part} of {whole}");
}

fn tenure_options(every: Duration) -> TenureOptions {
    let first_after = every / 4;
    TenureOptions { epoch: 1, transactional: false, every, first_after, retry_after: every }
}

#[test]
fn regular_checkpoints_of_partitions_assigned_together_are_spread_over_the_interval() {
    let every = Duration::from_secs(10);
    for partitions in [2, 3, 4, 6, 8, 16, 32, 100] {
        let mut at: Vec<Duration> = (0..partitions).map(|one| first_after(one, every)).collect();
        at.sort_unstable();
        at.push(at[0] + every);
        let widest = at.windows(2).map(|two| two[1].abs_diff(two[0])).max().unwrap();
        let even = every / partitions.unsigned_abs();
        assert!(widest < even * 2, "{partitions}: {widest:?} apart, evenly {even:?}");
    }
}

#[test]
fn a_checkpoint_out_of_turn_does_not_move_the_regular_ones() {
    let (every, now) = (Duration::from_secs(10), Instant::now());
    let at = |ms| now + Duration::from_millis(ms);
    let mut tenure =
        Tenure::begin(tenure_options(every), Engine::new(options(), written()), 0, now);
    let saves = |tenure: &mut Tenure, next, ms| {
        tenure.advance_to(next);
        let request = tenure.save(false, at(ms));
        tenure.stored(1, true, at(ms));
        request.is_some()
    };
    assert!(!saves(&mut tenure, 1, 2499));
    assert!(saves(&mut tenure, 2, 2500), "the first comes early");
    // A change of the rules asks for one at once.
    let others = rules(&[rule("long", &[(DAY, 300, Severity::High)])]);
    tenure.apply(&log(&[(0, 1, 1, None)])[0], EventTime::from_millis(0), &others);
    assert!(saves(&mut tenure, 3, 9000));
    assert!(!saves(&mut tenure, 4, 12_499));
    assert!(saves(&mut tenure, 5, 12_500));
    assert!(!saves(&mut tenure, 6, 22_499));
    // Late by more than one: the next ones are where they would have been.
    assert!(saves(&mut tenure, 7, 50_000));
    assert!(!saves(&mut tenure, 8, 52_499));
    assert!(saves(&mut tenure, 9, 52_500));
}

#[test]
fn a_gap_that_was_passed_is_in_the_next_checkpoint_though_nothing_was_counted_after_it() {
    let (every, now) = (Duration::from_secs(10), Instant::now());
    let tenure = tenure_options(every);
    let mut tenure = Tenure::begin(tenure, Engine::new(options(), written()), 22, now);
    assert!(tenure.save(true, now).is_none(), "what was restored is saved");
    tenure.advance_to(27);
    assert_eq!(tenure.save(true, now).map(|request| request.covered), Some(27));
}

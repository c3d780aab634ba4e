//! The flow of events that goes on under the faults, made by number, and the fold of it.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use exfilwatch::{
    alert::{Activity, EpisodeId, MessageId},
    units::EventTime,
};

use crate::{
    events::{Read, now_ms},
    findings::RULE,
    kafka::{Client, Stream},
};

/// Of the input topic.
pub(super) const PARTITIONS: i32 = 6;
/// Limits of the rule that most tests use.
const LIMITS: [u64; 2] = [500, 1500];
/// Between two portions of the flow.
const PORTION: Duration = Duration::from_millis(50);
/// How long the last records may take to be acknowledged, whatever happens to the brokers.
const ACKNOWLEDGED: Duration = Duration::from_mins(2);

/// What flows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Ordinary people; their share must stay below 500 records each.
    pub(super) people: usize,
    /// Events a second.
    pub(super) rate: usize,
}

impl Shape {
    /// Read number `n` and its partition.
    ///
    /// The reads of whoever opens an alert in several steps lie in one partition and so in one
    /// order; their alerts can be foretold to the id. All others are spread over the partitions.
    pub(super) fn read(self, n: usize, at_ms: i64) -> (Read, i32) {
        let (round, robbery) = (n / 10_000, n / 1000);
        let grabs_every = (self.rate / 5).next_multiple_of(100);
        let (who, rows, place) = match (n % 100, n % 1000) {
            // All in one read, about five times a second.
            (0, _) if n.is_multiple_of(grabs_every) => (format!("grab-{n}"), 501, n),
            // Little by little: 600 in a round.
            (1, _) => (format!("thief-{round}"), 6, round),
            // Twice: an alert and its escalation.
            (_, 2) => (format!("robber-{robbery}"), 501, robbery),
            (_, 502) => (format!("robber-{robbery}"), 1000, robbery),
            // As many as a limit allows: 500 in a round.
            (3, _) => (format!("careful-{round}"), 5, n),
            // A multiplicative step, so that neighbours in time are not neighbours by name.
            _ => (format!("agent-{}", n.wrapping_mul(7919) % self.people), 1, n),
        };
        let partitions = usize::try_from(PARTITIONS).unwrap();
        (Read::of(&who, at_ms, rows), i32::try_from(place % partitions).unwrap())
    }
}

/// The offline fold of all events: nothing of exfilwatch in it but the names of its messages.
#[derive(Debug, Default)]
pub(super) struct Fold {
    pub(super) events: usize,
    pub(super) rows: HashMap<String, u64>,
    /// Messages that must appear, and the time of the event that causes each.
    pub(super) due: HashMap<String, i64>,
    /// Of the event that opened an alert, by principal.
    opened: HashMap<String, i64>,
}

impl Fold {
    pub(super) fn add(&mut self, read: &Read) {
        self.events += 1;
        let before = self.rows.get(&read.principal).copied().unwrap_or(0);
        let rows = before + read.rows;
        for (ordinal, limit) in (0..).zip(LIMITS) {
            if before <= limit && rows > limit {
                let opened = *self.opened.entry(read.principal.clone()).or_insert(read.at_ms);
                self.due.insert(message(&read.principal, opened, ordinal), read.at_ms);
            }
        }
        match self.rows.get_mut(&read.principal) {
            Some(sum) => *sum = rows,
            None => drop(self.rows.insert(read.principal.clone(), rows)),
        }
    }
}

/// The id of a message about a principal: 0 opens, 1 escalates.
fn message(principal: &str, opened_ms: i64, ordinal: u32) -> String {
    let episode = EpisodeId::of(RULE, principal, EventTime::from_millis(opened_ms));
    let activity = if ordinal == 0 { Activity::Create } else { Activity::Update };
    MessageId::of(episode, activity, ordinal).to_string()
}

/// How long a flow goes on.
#[derive(Debug, Default)]
pub(super) struct Tap {
    /// Nobody needs more events than there must be at least.
    pub(super) enough: AtomicBool,
    /// So far.
    pub(super) events: AtomicUsize,
    /// Nobody needs any more, whatever was wanted.
    closed: AtomicBool,
}

impl Tap {
    fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
    }
}

/// Closes a tap when it goes out of scope, so that a flow does not outlive a test that fails.
pub(super) struct Closes<'t>(pub(super) &'t Tap);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }
}

/// Produces at least `events` events and until there are enough; gives the fold of them.
pub(super) fn pour(kafka: &Client, topic: &str, shape: Shape, events: usize, tap: &Tap) -> Fold {
    let mut stream = kafka.stream();
    let mut fold = Fold::default();
    let portion = shape.rate * usize::try_from(PORTION.as_millis()).unwrap() / 1000;
    let mut due = Instant::now();
    while tap.is_open() && (fold.events < events || !tap.enough.load(Ordering::Relaxed)) {
        for _ in 0..portion {
            let (read, partition) = shape.read(fold.events, now_ms());
            stream.send(topic, &read.canonical().to(partition));
            fold.add(&read);
        }
        tap.events.store(fold.events, Ordering::Relaxed);
        due += PORTION;
        match due.checked_duration_since(Instant::now()) {
            Some(early) => thread::sleep(early),
            // Brokers that were away are not flooded afterwards.
            None => due = Instant::now(),
        }
    }
    stream.finish(ACKNOWLEDGED);
    fold
}

/// One more read of everybody, so that every count shows; they are part of the fold from then on.
pub(super) fn probe(stream: &mut Stream, topic: &str, fold: &mut Fold) {
    let everybody: Vec<String> = fold.rows.keys().cloned().collect();
    for (principal, partition) in everybody.iter().zip((0..PARTITIONS).cycle()) {
        let read = Read::of(principal, now_ms(), 1);
        stream.send(topic, &read.canonical().to(partition));
        fold.add(&read);
    }
    stream.finish(ACKNOWLEDGED);
}

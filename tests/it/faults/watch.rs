//! Who reads the alerts all the while and notes when each was seen.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::outcome::CENSUS;
use crate::{
    events::now_ms,
    findings::{Finding, RULE},
    kafka::{Reader, Record},
};

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// When each message of the rule was seen first, by id, ms since the epoch.
    pub(super) first: HashMap<String, i64>,
    /// When each key was seen first, ms since the epoch.
    pub(super) keys: HashMap<String, i64>,
    /// Messages, of whatever rule, whose id had been seen before.
    pub(super) repeats: usize,
    /// What the census says of each key: `lo` and `hi`.
    pub(super) census: HashMap<String, (u64, u64)>,
    /// What exfilwatch says about itself, by rule.
    pub(super) system: BTreeMap<String, Vec<String>>,
}

/// A thread that reads committed alerts until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(mut reader: Reader) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (notes, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let records = reader.take(Duration::from_millis(50));
                let now = now_ms();
                let mut notes = notes.lock().unwrap();
                for record in &records {
                    notes.note(record, now);
                }
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Seen {
    fn note(&mut self, record: &Record, now: i64) {
        let finding = Finding::of(record);
        if finding.rule == RULE {
            self.repeats += usize::from(self.first.contains_key(&finding.message));
            self.first.entry(finding.message).or_insert(now);
            self.keys.entry(finding.key).or_insert(now);
        } else if finding.rule == CENSUS {
            let counts = finding.counts(0);
            self.repeats += usize::from(self.census.insert(finding.key, counts).is_some());
        } else {
            let said = finding.description();
            self.system.entry(finding.rule).or_default().push(said);
        }
    }
}

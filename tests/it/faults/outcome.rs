//! What came of a row of the matrix: the comparison with the fold, and the line that says so.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::Write as _,
    path::Path,
    time::Duration,
};

use exfilwatch::checkpoint::{Kind, Manifest, open};
use serde_json::{Value, json};

use super::{Form, Random, flow::Fold, watch::Seen};
use crate::service::Setup;

/// The rule that is added at the end: everybody who reads one more record is named with all they
/// have read. It has the filter, grouping and measure of the rule that was in force all the while,
/// and so speaks of the same counts.
pub(super) const CENSUS: &str = "census";
pub(super) const CENSUS_RULE: &str = "rules:
  - id: census
    title: How much everybody has read
    where: {object: \"crm.public.customers\"}
    group_by: principal.id
    measure: rows
    limits:
      - {window: 24h, above: 0}
";

/// An alert that comes later than this after its event is late.
const LATE_MS: i64 = 30_000;
/// The state topic is read through when nothing has come for so long.
const QUIET: Duration = Duration::from_secs(2);

/// One line of the report.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Of the fault matrix.
    pub(super) row: u32,
    pub(super) name: &'static str,
    pub(super) events: usize,
    pub(super) faults: usize,
    /// Records that were produced and are in no count.
    pub(super) lost: u64,
    /// Records that are in a count more than once.
    pub(super) double: u64,
    /// Messages that should have come and did not.
    pub(super) missing: usize,
    /// Messages that should not have come.
    pub(super) false_ids: usize,
    /// Messages that came again under their own id.
    pub(super) repeats: usize,
    /// Messages that came later than 30 s after their event, where that was looked at.
    pub(super) late: Option<usize>,
    /// From an event to its alert, at worst.
    pub(super) worst_ms: Option<i64>,
    /// What else this row tells.
    pub(super) more: BTreeMap<&'static str, Value>,
}

impl Outcome {
    /// Compares the messages seen with the fold, before the census.
    pub(super) fn timely(&mut self, fold: &Fold, seen: &Seen) {
        self.delays(fold.due.iter().filter_map(|(id, at_ms)| Some(seen.first.get(id)? - at_ms)));
    }

    /// Takes in how long alerts took from their events, ms.
    pub(super) fn delays(&mut self, delays: impl Iterator<Item = i64>) {
        let mut late = 0;
        for delay in delays {
            late += usize::from(delay > LATE_MS);
            self.worst_ms = self.worst_ms.max(Some(delay));
        }
        self.late = Some(late);
    }

    /// Compares every message and every count with the fold.
    pub(super) fn compare(&mut self, fold: &Fold, seen: &Seen) {
        self.missing = fold.due.keys().filter(|id| !seen.first.contains_key(*id)).count();
        self.false_ids = seen.first.keys().filter(|id| !fold.due.contains_key(*id)).count();
        self.repeats = seen.repeats;
        for (principal, rows) in &fold.rows {
            let (lo, hi) = seen.census.get(principal).copied().unwrap_or_default();
            self.lost += rows.saturating_sub(lo);
            self.double += hi.saturating_sub(*rows);
        }
        let strangers = seen.census.keys().filter(|key| !fold.rows.contains_key(*key));
        self.false_ids += strangers.count();
    }

    /// Says it: to standard error, and to a file beside the other results.
    pub(super) fn say(&self) {
        let mut line = json!({
            "row": self.row, "name": self.name, "form": Form::now().as_str(),
            "seed": Random::seed(), "events": self.events, "faults": self.faults,
            "lost": self.lost, "double": self.double, "missing_ids": self.missing,
            "false_ids": self.false_ids, "repeats": self.repeats, "late": self.late,
            "worst_recovery_s": self.worst_ms.map(seconds),
        });
        for (name, value) in &self.more {
            line[name] = value.clone();
        }
        eprintln!("{line}");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.ndjson");
        let file = File::options().create(true).append(true).open(path);
        writeln!(file.unwrap(), "{line}").unwrap();
    }

    /// Nothing is lost, counted twice, missing or made up.
    pub(super) fn check(&self) {
        let faults = [self.lost, self.double, self.missing as u64, self.false_ids as u64];
        assert_eq!(faults, [0; 4], "lost, double, missing, false: {self:?}");
    }
}

fn seconds(ms: i64) -> f64 {
    Duration::from_millis(ms.unsigned_abs()).as_secs_f64()
}

/// Looks for writes of two owners that were both accepted, and gives how many checkpoints were.
///
/// Whoever goes on from a checkpoint numbers its chunks and checkpoints from there. So when someone
/// whose partition had been taken over still got a checkpoint in, a number stands for two chunks,
/// or numbers and offsets go back.
pub(super) fn accepted_checkpoints(setup: &Setup) -> usize {
    let mut chunks: HashMap<(i32, u64), i64> = HashMap::new();
    let mut newest: HashMap<i32, (u64, i64)> = HashMap::new();
    let mut accepted = 0;
    setup.committed_reader("state").through(QUIET, |record| {
        let Some(value) = record.value.as_ref().filter(|_| is_manifest(record)) else { return };
        let (manifest, _) = open(Kind::Manifest, value).expect("a manifest");
        let manifest: Manifest = serde_json::from_slice(manifest).expect("a manifest");
        accepted += 1;
        for chunk in &manifest.chunks {
            let at = *chunks.entry((record.partition, chunk.number)).or_insert(chunk.offset);
            assert_eq!(at, chunk.offset, "two owners wrote chunk {}", chunk.number);
        }
        let this = (manifest.number, manifest.covered);
        let before = newest.insert(record.partition, this).unwrap_or_default();
        assert!(before.0 <= this.0 && before.1 <= this.1, "{before:?} is followed by {this:?}");
    });
    accepted
}

fn is_manifest(record: &crate::kafka::Record) -> bool {
    record.key_text().is_some_and(|key| key.contains("/manifest/"))
}

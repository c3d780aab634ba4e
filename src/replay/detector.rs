//! The whole of ingest and detect in one thread: one router, one engine for each events partition
//! that the configuration would make, messages handed from one to the other in memory.
//!
//! Accounts are in events. Every event has exactly one row on the route by principal, whatever
//! rules are in force, so what became of that row is what became of the event.

use std::{collections::HashSet, sync::Arc};

use arrow::error::ArrowError;

use crate::{
    alert::Alert,
    config::Config,
    engine::{Engine, EngineOptions},
    event::{
        Event, GroupBy,
        batch::{Batch, BatchError, SourcePartition},
        catalog::Catalog,
        identity::Identity,
        route::{Routed, Router, RouterSpec, RouterStats, SourceId},
    },
    pipeline::SEED,
    rules::RuleSet,
    units::{EventTime, KeyHash, Offset, Partition},
};

use super::input::{Input, Place};

/// Partitions where the configuration leaves them to the topic: as many as are made by default.
pub(super) const PARTITIONS: u32 = 16;
/// Rows that are routed before they are applied.
const FLUSH_ROWS: usize = 16_384;

/// What became of the events, counted on the route by principal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) applied: u64,
    pub(super) duplicate: u64,
    pub(super) too_late: u64,
    pub(super) clamped: u64,
}

/// A message between router and engine that cannot be written or read: a fault of this program.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// It could not be written.
    #[error("cannot write a batch: {0}")]
    Write(#[from] ArrowError),
    /// It could not be read.
    #[error("cannot read a batch: {0}")]
    Read(#[from] BatchError),
}

/// Router and engines.
pub(super) struct Detector {
    router: Router,
    engines: Vec<Engine>,
    /// Broker time of every message (W4).
    as_of: EventTime,
    account: Account,
    principals: HashSet<KeyHash>,
    sources: Vec<SourceId>,
    routed: Vec<Routed>,
    alerts: Vec<Arc<Alert>>,
}

impl Detector {
    /// A detector that has seen nothing, with one source for each of `inputs`.
    pub(super) fn new(
        config: &Config,
        rules: &Arc<RuleSet>,
        as_of: EventTime,
        inputs: &[Input],
    ) -> Self {
        let partitions = config.kafka.create_topics.map_or(PARTITIONS, |shape| shape.partitions);
        let mut group_bys = rules.routes();
        if !group_bys.contains(&GroupBy::PrincipalId) {
            group_bys.insert(0, GroupBy::PrincipalId);
        }
        let mut router = Router::new(RouterSpec {
            routes: group_bys,
            partitions,
            seed: SEED,
            identity: Identity::new(&config.identity),
            catalog: Catalog::new(config.catalog.clone()),
        });
        let mut source = |input: &Input| {
            let source = SourcePartition { topic: input.name().to_owned(), ..Default::default() };
            if input.retries() {
                router.source_that_retries(&source)
            } else {
                router.source(&source)
            }
        };
        let sources = inputs.iter().map(&mut source).collect();
        let engine = |partition| {
            let options = EngineOptions {
                partition: Partition(partition),
                allowed_skew_ms: i64::try_from(config.detect.allowed_skew.as_millis())
                    .unwrap_or(i64::MAX),
                memory_limit: config.detect.memory_limit / u64::from(partitions),
                dedup_entries: config.dedup.entries,
            };
            Engine::new(options, Arc::clone(rules))
        };
        Self {
            router,
            engines: (0..i32::try_from(partitions).unwrap_or(i32::MAX)).map(engine).collect(),
            as_of,
            account: Account::default(),
            principals: HashSet::new(),
            sources,
            routed: Vec::new(),
            alerts: Vec::new(),
        }
    }

    /// Adds an event of input number `input`. True when enough wait for [`Self::decide`].
    pub(super) fn push(&mut self, input: usize, place: Place, event: &Event<'_>) -> bool {
        let offset = Offset(i64::try_from(place.record).unwrap_or(i64::MAX));
        self.router.push(self.sources[input], offset, place.row, event);
        self.router.rows() >= FLUSH_ROWS
    }

    /// Applies what waits and returns the alerts it caused, in order.
    pub(super) fn decide(&mut self) -> Result<&[Arc<Alert>], DetectorError> {
        self.routed.clear();
        self.router.flush(&mut self.routed)?;
        self.apply()
    }

    /// Lets time pass up to `as_of` (W6) and returns the alerts that causes: closings.
    pub(super) fn end_of_time(&mut self) -> Result<&[Arc<Alert>], DetectorError> {
        self.routed.clear();
        self.router.mark(self.as_of, &self.sources, &mut self.routed)?;
        self.apply()
    }

    fn apply(&mut self) -> Result<&[Arc<Alert>], DetectorError> {
        self.alerts.clear();
        for message in &self.routed {
            let batch = Batch::decode(&message.payload)?;
            let engine = &mut self.engines[message.partition as usize];
            let before = account(engine);
            engine.apply(&batch, self.as_of);
            if batch.route() == GroupBy::PrincipalId {
                self.account.add(account(engine), before);
                self.principals.extend((0..batch.len()).map(|row| batch.key_hash(row)));
            }
            let first = self.alerts.len();
            engine.take_alerts(&mut self.alerts);
            for alert in &self.alerts[first..] {
                engine.delivered(alert.message);
            }
        }
        Ok(&self.alerts)
    }

    pub(super) const fn account(&self) -> Account {
        self.account
    }

    /// Distinct principals seen.
    pub(super) fn principals(&self) -> u64 {
        self.principals.len() as u64
    }

    /// Events matched by each meter.
    pub(super) fn matched(&self) -> Vec<u64> {
        let mut sums = Vec::new();
        for engine in &self.engines {
            sums.resize(engine.stats().matched.len(), 0);
            for (sum, matched) in sums.iter_mut().zip(&engine.stats().matched) {
                *sum += matched;
            }
        }
        sums
    }

    pub(super) const fn routed(&self) -> &RouterStats {
        self.router.stats()
    }
}

impl Account {
    fn add(&mut self, after: Self, before: Self) {
        self.applied += after.applied - before.applied;
        self.duplicate += after.duplicate - before.duplicate;
        self.too_late += after.too_late - before.too_late;
        self.clamped += after.clamped - before.clamped;
    }
}

fn account(engine: &Engine) -> Account {
    let stats = engine.stats();
    Account {
        applied: stats.applied,
        duplicate: stats.duplicate,
        too_late: stats.too_late,
        clamped: stats.clamped,
    }
}

//! Taking partitions on: claims each in the state topic and restores its engine. Several at once,
//! because a claim is mostly waiting for the broker. Never here: writing a checkpoint.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::store::Opened;
use crate::{
    checkpoint::{Ledger, Manifest, Origin, Unusable, rebuild},
    engine::{Engine, EngineOptions},
    kafka::{
        Error,
        group::TopicPartition,
        state::{StateReader, StateWriter},
    },
    pipeline::Shared,
};

/// Partitions that are taken on at the same time. Each may hold what its reader has fetched
/// (`kafka::state`), beside its engine.
const AT_ONCE: usize = 16;
/// Between two lines about the progress of a restore.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// A partition that is to be taken on.
pub(super) struct Asked {
    /// Of the topic that detect reads.
    pub(super) name: TopicPartition,
    /// Number of the assignment.
    pub(super) epoch: u64,
    /// Of the engine to be.
    pub(super) options: EngineOptions,
    /// Where the answer goes.
    pub(super) reply: Sender<Opened>,
}

/// What was found of a partition that is ours now.
#[derive(Default)]
pub(super) struct Found {
    /// Number of the assignment.
    pub(super) epoch: u64,
    /// Restored, with the offset to read on from and the id that the topic had.
    pub(super) restored: Option<Restored>,
    /// Checkpoints that could not be used, newest first.
    pub(super) unusable: Vec<Unusable>,
}

/// An engine as it was saved.
pub(super) struct Restored {
    pub(super) engine: Box<Engine>,
    pub(super) covered: i64,
    pub(super) topic_id: String,
}

/// A partition that was claimed.
pub(super) struct Taken {
    pub(super) writer: StateWriter,
    pub(super) ledger: Ledger,
    pub(super) found: Found,
}

/// What taking a partition on needs to know.
pub(super) struct Restorer {
    pub(super) shared: Arc<Shared>,
    /// Of every partition, but for its number.
    pub(super) origin: Origin,
}

impl Restorer {
    /// What is written in checkpoints of a partition about where they belong.
    pub(super) fn origin(&self, partition: i32) -> Origin {
        Origin { partition, ..self.origin.clone() }
    }

    /// Makes a partition ours. Afterwards no earlier owner can write to it.
    pub(super) fn claim(&self, partition: i32) -> Result<StateWriter, Error> {
        let config = &self.shared.config;
        StateWriter::claim(&config.kafka, &config.topics.state, partition)
    }

    /// The newest manifest that can be read.
    pub(super) fn newest(&self, partition: i32) -> Result<Option<Manifest>, Error> {
        let origin = self.origin(partition);
        self.reader(partition)?.newest_first(|_, _, value| Ok(Manifest::read(value, &origin).ok()))
    }

    /// Takes partitions on, each of them once, and tells of each as soon as it is there.
    pub(super) fn take_all(
        &self,
        asked: VecDeque<Asked>,
        mut done: impl FnMut(Asked, Result<Taken, Error>),
    ) {
        let threads = asked.len().min(AT_ONCE);
        let left = Mutex::new(asked);
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let (sender, taken) = channel();
        thread::scope(|scope| {
            for _ in 0..threads {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    while let Some(asked) = next() {
                        let result = self.take(&asked);
                        // It is received below for as long as anything is sent.
                        let _ = sender.send((asked, result));
                    }
                });
            }
            drop(sender);
            for (asked, result) in taken {
                done(asked, result);
            }
        });
    }

    fn take(&self, asked: &Asked) -> Result<Taken, Error> {
        let started = Instant::now();
        let writer = self.claim(asked.name.1)?;
        let (found, ledger) = self.restore(asked)?;
        let outcome = match (&found.restored, found.unusable.is_empty()) {
            (Some(_), true) => "restored",
            (Some(_), false) => "older",
            (None, true) => "nothing_kept",
            (None, false) => "unusable",
        };
        self.shared.metrics.restores.with_label_values(&[outcome]).inc();
        self.shared.metrics.restore_seconds.observe(started.elapsed().as_secs_f64());
        Ok(Taken { writer, ledger, found })
    }

    fn reader(&self, partition: i32) -> Result<StateReader, Error> {
        let config = &self.shared.config;
        StateReader::open(&config.kafka, &config.topics.state, partition)
    }

    /// The newest checkpoint that can be used, and a ledger that goes on after it; without one,
    /// from a number past all that were used.
    fn restore(&self, asked: &Asked) -> Result<(Found, Ledger), Error> {
        let Asked { name: (_, partition), epoch, options, .. } = asked;
        let (partition, options) = (*partition, *options);
        let mut reader = self.reader(partition)?;
        let end = reader.bounds().1;
        let mut found = Found { epoch: *epoch, ..Found::default() };
        let used = reader.newest_first(|reader, offset, value| {
            match self.use_checkpoint(reader, value, partition, options)? {
                Ok(used) => Ok(Some(used)),
                Err(cause @ Unusable::Repartitioned { .. }) => Err(refused(&cause)),
                Err(cause) => {
                    warn!(partition, offset, "a checkpoint is passed over: {cause}");
                    found.unusable.push(cause);
                    Ok(None)
                }
            }
        })?;
        let origin = self.origin(partition);
        let Some((restored, manifest)) = used else {
            return Ok((found, Ledger::new(origin, u64::try_from(end).unwrap_or(0))));
        };
        found.restored = Some(restored);
        Ok((found, Ledger::after(&manifest, origin)))
    }

    /// Outer error: the broker does not answer; inner: the checkpoint cannot be used.
    fn use_checkpoint(
        &self,
        reader: &mut StateReader,
        record: &[u8],
        partition: i32,
        options: EngineOptions,
    ) -> Result<Result<(Restored, Manifest), Unusable>, Error> {
        let started = Instant::now();
        let manifest = match Manifest::read(record, &self.origin(partition)) {
            Ok(manifest) => manifest,
            Err(cause) => return Ok(Err(cause)),
        };
        let records = manifest.head.len() + manifest.chunks.len();
        let (mut read, mut bytes, mut said_at) = (0_usize, 0, started);
        let left = &self.shared.metrics.restore_records_left;
        // Others count down the same gauge.
        left.add(int(records));
        let engine = rebuild(&manifest, options, |offset| {
            let record = reader.read(offset);
            read += 1;
            left.dec();
            bytes += record.as_ref().map_or(0, |value| value.as_ref().map_or(0, Vec::len));
            if said_at.elapsed() >= SAY_EVERY {
                said_at = Instant::now();
                info!(partition, read, records, bytes, "restoring");
            }
            record
        });
        // Of one that cannot be used not all is read.
        left.sub(int(records.saturating_sub(read)));
        Ok(engine?.map(|engine| {
            let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (number, covered) = (manifest.number, manifest.covered);
            info!(partition, number, covered, bytes, took_ms, "restored from a checkpoint");
            let topic_id = manifest.topic_id.clone();
            (Restored { engine: Box::new(engine), covered, topic_id }, manifest)
        }))
    }
}

/// A fault of the deployment (exit 78).
fn refused(cause: &Unusable) -> Error {
    Error::Topics {
        faults: vec![format!(
            "the newest checkpoint cannot be used: {cause}\n  hint: docs/OPERATIONS.md, \"Changing \
             the number of partitions\""
        )],
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
fn int(number: usize) -> f64 {
    number as f64
}

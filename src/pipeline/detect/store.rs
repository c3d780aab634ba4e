//! The thread that keeps checkpoints: claims a partition of the state topic, restores its engine,
//! writes what workers save. Transactions block, so nobody else does this.
//!
//! After a failed write nobody knows what the topic holds, and perhaps the partition is another
//! member's by now. So the next write first asks the group (a commit with our generation), then
//! claims anew, which decides the fate of what failed, and saves every value (D6). Alerts that went
//! out with it after all are not sent again (D4). Never here: counting, deciding when to save.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use crate::{
    alert::{Alert, MessageId, ocsf::Encoded},
    checkpoint::{Ledger, Manifest, Origin, Unusable, rebuild},
    config::KafkaConfig,
    engine::{Engine, EngineOptions, Saved},
    kafka::{
        Error,
        group::{TopicPartition, Witness},
        state::{StateReader, StateWriter},
    },
    pipeline::{
        Shared,
        publish::{encode, message},
    },
};

/// A checkpoint is written within this time or has failed.
const WRITE_FOR: Duration = Duration::from_secs(20);
/// Records before the end in which manifests are looked for first; each further look goes eight
/// times as far back.
const TAIL_RECORDS: i64 = 64;
/// Between two lines about the progress of a restore.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// What is asked of the store.
pub(super) enum Ask {
    /// Claim a partition and restore what is kept of it.
    Open {
        /// Of the topic that detect reads.
        name: TopicPartition,
        /// Number of the assignment.
        epoch: u64,
        /// Of the engine to be.
        options: EngineOptions,
        /// Where the answer goes.
        reply: Sender<Opened>,
    },
    /// Keep a checkpoint.
    Save {
        /// Which partition.
        partition: i32,
        /// Number of the assignment.
        epoch: u64,
        /// Everything before this offset is in it.
        covered: i64,
        /// Revision of the rules in it.
        revision: String,
        /// What to keep.
        saved: Saved,
        /// To be published in the same transaction (D4).
        alerts: Vec<Arc<Alert>>,
        /// Where the answer goes.
        reply: Sender<Stored>,
    },
    /// A partition was let go.
    Forget {
        /// Which.
        partition: i32,
        /// Number of the assignment.
        epoch: u64,
    },
}

/// What was found of a partition.
pub(super) struct Opened {
    pub(super) partition: i32,
    pub(super) result: Result<Found, Error>,
}

/// A partition that is ours now.
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

/// What became of a checkpoint.
pub(super) struct Stored {
    pub(super) partition: i32,
    pub(super) epoch: u64,
    /// False: the next must hold every value.
    pub(super) kept: bool,
}

/// The way to the store.
#[derive(Clone)]
pub(super) struct Store(Sender<Ask>);

impl Store {
    /// Starts the thread; it ends when every [`Store`] is gone. `topic` is what detect reads.
    pub(super) fn start(
        shared: &Arc<Shared>,
        topic: &str,
        topic_id: &str,
        partitions: u32,
        witness: Witness,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, asked) = channel();
        let origin = Origin {
            cluster: shared.cluster.id.clone(),
            topic: topic.to_owned(),
            partition: 0,
            partitions,
        };
        let keeper = Keeper {
            shared: Arc::clone(shared),
            origin,
            topic_id: topic_id.to_owned(),
            witness,
            kept: BTreeMap::new(),
        };
        let thread = thread::Builder::new().name("state".to_owned());
        Ok((Self(sender), thread.spawn(move || keeper.run(&asked))?))
    }

    /// Asks; the thread lives as long as the pipeline.
    pub(super) fn ask(&self, ask: Ask) {
        // Only when it has panicked, and then no answer comes, which is noticed.
        let _ = self.0.send(ask);
    }
}

/// One partition of the state topic.
struct Kept {
    /// Number of the assignment: what a later or an earlier one asks is not for this.
    epoch: u64,
    /// None after a failure, until it is claimed anew.
    writer: Option<StateWriter>,
    ledger: Ledger,
    /// Alerts of the attempt that the ledger is in doubt about.
    in_doubt: Vec<MessageId>,
    /// Alerts of failed attempts that were committed after all; the worker still asks for them.
    out: Vec<MessageId>,
}

struct Keeper {
    shared: Arc<Shared>,
    origin: Origin,
    topic_id: String,
    witness: Witness,
    kept: BTreeMap<i32, Kept>,
}

impl Keeper {
    fn run(mut self, asked: &Receiver<Ask>) {
        while let Ok(ask) = asked.recv() {
            match ask {
                Ask::Open { name, epoch, options, reply } => {
                    let result = self.open(name.1, epoch, options);
                    // Whoever asked may have stopped waiting.
                    let _ = reply.send(Opened { partition: name.1, result });
                }
                Ask::Save { partition, epoch, covered, revision, saved, alerts, reply } => {
                    let kept = self.save((partition, epoch), covered, &revision, saved, &alerts);
                    let _ = reply.send(Stored { partition, epoch, kept });
                }
                Ask::Forget { partition, epoch } => {
                    self.kept.retain(|one, kept| *one != partition || kept.epoch != epoch);
                }
            }
        }
    }

    fn claim(&self, partition: i32) -> Result<StateWriter, Error> {
        let config = &self.shared.config;
        StateWriter::claim(&config.kafka, &config.topics.state, partition)
    }

    fn origin(&self, partition: i32) -> Origin {
        Origin { partition, ..self.origin.clone() }
    }

    fn open(&mut self, partition: i32, epoch: u64, options: EngineOptions) -> Result<Found, Error> {
        let writer = self.claim(partition)?;
        let (found, manifest, next) = self.restore(partition, options)?;
        let origin = self.origin(partition);
        let ledger = match &manifest {
            Some(manifest) => Ledger::after(manifest, origin),
            None => Ledger::new(origin, next),
        };
        self.kept.insert(
            partition,
            Kept { epoch, writer: Some(writer), ledger, in_doubt: Vec::new(), out: Vec::new() },
        );
        let restores = &self.shared.metrics.restores;
        let outcome = match (&found.restored, found.unusable.is_empty()) {
            (Some(_), true) => "restored",
            (Some(_), false) => "older",
            (None, true) => "nothing_kept",
            (None, false) => "unusable",
        };
        restores.with_label_values(&[outcome]).inc();
        Ok(Found { epoch, ..found })
    }

    /// The newest checkpoint that can be used; without one, a number past all that were used.
    fn restore(
        &self,
        partition: i32,
        options: EngineOptions,
    ) -> Result<(Found, Option<Manifest>, u64), Error> {
        let config = &self.shared.config;
        let mut reader = StateReader::open(&config.kafka, &config.topics.state, partition)?;
        let (first, end) = reader.bounds();
        let mut found = Found::default();
        let mut back = TAIL_RECORDS;
        let mut tried_from = end;
        while tried_from > first {
            let from = first.max(end.saturating_sub(back));
            let mut tail = reader.tail(from)?;
            tail.retain(|record| record.offset < tried_from && record.key.contains("/manifest/"));
            for record in tail.into_iter().rev() {
                let Some(value) = record.value else { continue };
                match self.use_checkpoint(&mut reader, &value, partition, options)? {
                    Ok((restored, manifest)) => {
                        found.restored = Some(restored);
                        return Ok((found, Some(manifest), 0));
                    }
                    Err(cause @ Unusable::Repartitioned { .. }) => return Err(refused(&cause)),
                    Err(cause) => {
                        warn!(
                            partition,
                            offset = record.offset,
                            "a checkpoint is passed over: {cause}"
                        );
                        found.unusable.push(cause);
                    }
                }
            }
            tried_from = from;
            back = back.saturating_mul(8);
        }
        Ok((found, None, u64::try_from(end).unwrap_or(0)))
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
        let engine = rebuild(&manifest, options, |offset| {
            let record = reader.read(offset);
            read += 1;
            left.set(int(records.saturating_sub(read)));
            bytes += record.as_ref().map_or(0, |value| value.as_ref().map_or(0, Vec::len));
            if said_at.elapsed() >= SAY_EVERY {
                said_at = Instant::now();
                info!(partition, read, records, bytes, "restoring");
            }
            record
        });
        left.set(0.0);
        Ok(engine?.map(|engine| {
            let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (number, covered) = (manifest.number, manifest.covered);
            info!(partition, number, covered, bytes, took_ms, "restored from a checkpoint");
            let topic_id = manifest.topic_id.clone();
            (Restored { engine: Box::new(engine), covered, topic_id }, manifest)
        }))
    }

    fn save(
        &mut self,
        (partition, epoch): (i32, u64),
        covered: i64,
        revision: &str,
        saved: Saved,
        alerts: &[Arc<Alert>],
    ) -> bool {
        let done = self.try_save((partition, epoch), covered, revision, saved, alerts);
        let result = match &done {
            Ok(bytes) => {
                self.shared.metrics.checkpoint_bytes.inc_by(*bytes);
                for alert in alerts {
                    self.shared.publisher.note_delivered(alert);
                }
                "stored"
            }
            Err(cause) => {
                if !alerts.is_empty() {
                    let failures = &self.shared.metrics.delivery_failures;
                    failures.with_label_values(&["alerts"]).inc_by(alerts.len() as u64);
                }
                error!(partition, covered, "a checkpoint was not written: {cause}");
                "failed"
            }
        };
        self.shared.metrics.checkpoints.with_label_values(&[result]).inc();
        done.is_ok()
    }

    fn try_save(
        &mut self,
        (partition, epoch): (i32, u64),
        covered: i64,
        revision: &str,
        saved: Saved,
        alerts: &[Arc<Alert>],
    ) -> Result<u64, Error> {
        let kept = self.kept.get_mut(&partition).filter(|kept| kept.epoch == epoch);
        let Some(Kept { writer, ledger, in_doubt, out, .. }) = kept else {
            let reason = format!("partition {partition} was let go");
            return Err(Error::Fatal { client: "state".to_owned(), reason });
        };
        if writer.is_none() {
            let name = (self.origin.topic.clone(), partition);
            self.witness.confirm(&name, covered)?;
            let config = &self.shared.config;
            *writer = Some(StateWriter::claim(&config.kafka, &config.topics.state, partition)?);
            info!(partition, "the state partition is claimed anew");
        }
        if ledger.is_in_doubt() {
            let config = &self.shared.config;
            let origin = Origin { partition, ..self.origin.clone() };
            let newest = newest(&config.kafka, &config.topics.state, &origin)?;
            let sent = std::mem::take(in_doubt);
            if ledger.resolve(newest.as_ref()) {
                out.extend(sent);
            }
        }
        if ledger.needs_all() && !saved.is_whole {
            // The worker learns of it by this answer.
            return Err(Error::Fatal {
                client: "state".to_owned(),
                reason: "an earlier checkpoint may be lost; the next holds everything".to_owned(),
            });
        }
        let mut draft = ledger.draft(saved, covered, &self.topic_id, revision);
        let bytes = draft.bytes() as u64;
        let until = Instant::now() + WRITE_FOR;
        // What went out with an attempt that seemed to have failed is not sent again.
        let due = alerts.iter().filter(|alert| !out.contains(&alert.message));
        let sent: Vec<MessageId> = due.clone().map(|alert| alert.message).collect();
        let encoded: Vec<Encoded> = due.map(|alert| encode(alert)).collect();
        let topic = &self.shared.config.topics.alerts;
        let messages: Vec<_> = encoded.iter().map(|encoded| message(topic, encoded)).collect();
        let written =
            writer.as_ref().map_or(Ok(()), |writer| writer.commit(&mut draft, &messages, until));
        if let Err(cause) = written {
            *writer = None;
            ledger.fail(&draft);
            *in_doubt = sent;
            return Err(cause);
        }
        out.clear();
        ledger.commit(draft);
        Ok(bytes)
    }
}

/// The newest manifest. It is the last record of its transaction, so near the end.
fn newest(config: &KafkaConfig, topic: &str, origin: &Origin) -> Result<Option<Manifest>, Error> {
    let mut reader = StateReader::open(config, topic, origin.partition)?;
    let end = reader.bounds().1;
    let tail = reader.tail(end.saturating_sub(TAIL_RECORDS).max(0))?;
    let values = tail.into_iter().filter(|record| record.key.contains("/manifest/"));
    let mut manifests = values.filter_map(|record| Manifest::read(&record.value?, origin).ok());
    Ok(manifests.next_back())
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

//! The thread that keeps checkpoints: claims a partition of the state topic, restores its engine,
//! writes what workers save. Transactions block, so nobody else does this.
//!
//! After a failed write nobody knows what the topic holds, and perhaps the partition is another
//! member's by now. So the next write first asks the group (a commit with our generation), then
//! claims anew, which decides the fate of what failed, and saves every value (D6). Alerts that went
//! out with it after all are not sent again (D4). Where another member turns out to have written
//! meanwhile, the poll thread is told to take the partition on again. Never here: counting,
//! deciding when to save.

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
    alert::ocsf::Encoded,
    checkpoint::{Custody, Ledger, Manifest, Origin, Request, Unusable, rebuild},
    config::KafkaConfig,
    engine::{Engine, EngineOptions},
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
        /// What to keep.
        request: Request,
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

/// A partition of whose assignment `epoch` another member has written a checkpoint.
pub(super) struct Overtaken {
    pub(super) partition: i32,
    pub(super) epoch: u64,
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
        overtaken: Sender<Overtaken>,
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
            overtaken,
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
    /// None after a failure, until it is claimed anew.
    writer: Option<StateWriter>,
    custody: Custody,
}

struct Keeper {
    shared: Arc<Shared>,
    origin: Origin,
    topic_id: String,
    witness: Witness,
    overtaken: Sender<Overtaken>,
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
                Ask::Save { partition, request, reply } => {
                    let epoch = request.epoch;
                    let kept = self.save(partition, request);
                    let _ = reply.send(Stored { partition, epoch, kept });
                }
                Ask::Forget { partition, epoch } => {
                    self.kept.retain(|one, kept| *one != partition || !kept.custody.holds(epoch));
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
        let custody = Custody::new(epoch, ledger);
        self.kept.insert(partition, Kept { writer: Some(writer), custody });
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
        let end = reader.bounds().1;
        let mut found = Found::default();
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
        let Some((restored, manifest)) = used else {
            return Ok((found, None, u64::try_from(end).unwrap_or(0)));
        };
        found.restored = Some(restored);
        Ok((found, Some(manifest), 0))
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

    fn save(&mut self, partition: i32, request: Request) -> bool {
        let (covered, alerts) = (request.covered, request.alerts.clone());
        let done = self.try_save(partition, request);
        let result = match &done {
            Ok(bytes) => {
                self.shared.metrics.checkpoint_bytes.inc_by(*bytes);
                for alert in &alerts {
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

    fn try_save(&mut self, partition: i32, request: Request) -> Result<u64, Error> {
        let fatal = |reason: String| Error::Fatal { client: "state".to_owned(), reason };
        let kept = self.kept.get_mut(&partition);
        let Some(Kept { writer, custody }) = kept.filter(|it| it.custody.holds(request.epoch))
        else {
            return Err(fatal(format!("partition {partition} was let go")));
        };
        let config = &self.shared.config;
        if writer.is_none() {
            let name = (self.origin.topic.clone(), partition);
            self.witness.confirm(&name, request.covered)?;
            *writer = Some(StateWriter::claim(&config.kafka, &config.topics.state, partition)?);
            info!(partition, "the state partition is claimed anew");
        }
        if custody.is_in_doubt() {
            let origin = Origin { partition, ..self.origin.clone() };
            let newest = newest(&config.kafka, &config.topics.state, &origin)?;
            if let Err(cause) = custody.resolve(newest.as_ref()) {
                let epoch = request.epoch;
                // Only while stopping is nobody there to hear it.
                let _ = self.overtaken.send(Overtaken { partition, epoch });
                return Err(fatal(cause.to_string()));
            }
        }
        let begun = custody.begin(request, &self.topic_id);
        let mut attempt = begun.map_err(|cause| fatal(cause.to_string()))?;
        let bytes = attempt.draft.bytes() as u64;
        let encoded: Vec<Encoded> = attempt.alerts.iter().map(|alert| encode(alert)).collect();
        let topic = &config.topics.alerts;
        let messages: Vec<_> = encoded.iter().map(|encoded| message(topic, encoded)).collect();
        let until = Instant::now() + WRITE_FOR;
        let written = writer
            .as_ref()
            .map_or(Ok(()), |writer| writer.commit(&mut attempt.draft, &messages, until));
        if let Err(cause) = written {
            *writer = None;
            custody.failed(&attempt);
            return Err(cause);
        }
        custody.kept(attempt);
        Ok(bytes)
    }
}

/// The newest manifest that can be read.
fn newest(config: &KafkaConfig, topic: &str, origin: &Origin) -> Result<Option<Manifest>, Error> {
    let mut reader = StateReader::open(config, topic, origin.partition)?;
    reader.newest_first(|_, _, value| Ok(Manifest::read(value, origin).ok()))
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

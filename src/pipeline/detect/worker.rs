//! One worker: a thread that alone owns the engines of its partitions. Messages come in by a ring,
//! alerts go out by the publisher, or with a checkpoint by the store (D4); their fates come back by
//! channels.
//!
//! Never here: a lock on the way of a row, polling Kafka. A worker whose alerts or dead letters are
//! not accepted stops taking messages; that is how a blocked topic keeps memory flat.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::{error, info};

use super::{
    feed::{Inbox, Weigh},
    gauges::Gauges,
    keyed::{Envelope, Keyed, Reader},
    progress::Progress,
    store::{Ask, Store, Stored},
};
use crate::{
    alert::{Alert, SystemKind},
    checkpoint::{Tenure, TenureOptions, first_after},
    engine::{Engine, EngineOptions},
    event::batch::Batch,
    http::Heartbeat,
    metrics::Part,
    pipeline::{
        Shared,
        busy::Busy,
        clock,
        ingest::merge::LaneId,
        publish::{Fate, Owner, RETRY_AFTER},
        system::{Condition, account},
    },
    rules::Severity,
    units::{EventTime, Partition},
};

/// Jobs taken before fates and gauges get their turn.
const STEP_JOBS: usize = 64;
/// How long a worker sleeps when there is nothing to do; the poll thread wakes it.
const IDLE: Duration = Duration::from_millis(20);
/// Between two updates of gauges.
const GAUGES_EVERY: Duration = Duration::from_millis(200);

/// What the poll thread asks of a worker.
pub(super) enum Job {
    /// A partition was assigned.
    Open {
        /// Which.
        partition: i32,
        /// As it was saved, with the offset that it covers; none: nothing was.
        restored: Option<(Box<Engine>, i64)>,
        /// Number of the assignment.
        epoch: u64,
        /// Kept up to date by the worker.
        progress: Arc<Progress>,
        /// Keyed input: offset from which dead letters are to be written.
        letters_from: i64,
    },
    /// A message of the events topic.
    Message {
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Its `LogAppendTime`.
        broker_time: EventTime,
        /// Its value.
        payload: Vec<u8>,
        /// Keyed input: the rest of the record.
        envelope: Option<Envelope>,
    },
    /// Keyed input: a partition has been at its end until now (W6).
    Mark {
        /// Which.
        partition: i32,
        /// Now.
        at: EventTime,
    },
    /// A partition was let go: forget it once its alerts are delivered and it is saved, or at
    /// `deadline`.
    Close {
        /// Which.
        partition: i32,
        /// It is ours until then; one that was lost is neither saved nor waited for.
        ours: bool,
        /// When to give up waiting for deliveries.
        deadline: Instant,
        /// Told how many alerts were left undelivered.
        done: Sender<usize>,
    },
    /// Bytes each engine may use from now on.
    MemoryLimit(u64),
    /// Apply what is queued, deliver, end.
    Stop,
}

impl Weigh for Job {
    fn bytes(&self) -> u64 {
        match self {
            Self::Message { payload, .. } => payload.len() as u64,
            _ => 0,
        }
    }
}

struct Slot {
    tenure: Tenure,
    /// For the poll thread.
    progress: Arc<Progress>,
    gauges: Gauges,
    /// Keyed input.
    reader: Option<Reader>,
    closing: Option<Closing>,
    /// Of the account, as reported last.
    difference: u64,
    /// Since when there is something that is in no checkpoint.
    age: Part,
}

struct Closing {
    deadline: Instant,
    ours: bool,
    done: Sender<usize>,
}

/// See the module.
pub(super) struct Worker {
    shared: Arc<Shared>,
    inbox: Inbox<Job>,
    fates: Receiver<Fate>,
    back: Sender<Fate>,
    keyed: Option<Keyed>,
    store: Store,
    stored: Receiver<Stored>,
    stored_back: Sender<Stored>,
    slots: BTreeMap<i32, Slot>,
    /// Alerts the publisher had no room for, or that failed, oldest first.
    unsent: VecDeque<(i32, u64, Arc<Alert>)>,
    retry_at: Instant,
    memory_limit: u64,
    gauges_at: Instant,
    outbox_fill: Part,
    stopping: bool,
    alerts: Vec<Arc<Alert>>,
    busy: Busy,
}

impl Slot {
    /// Everything before `next` is done with.
    fn advance_to(&mut self, next: i64) {
        self.tenure.advance_to(next);
        self.progress.advance_to(next);
    }

    /// Delivered and saved as far as it can be.
    fn is_done(&self) -> bool {
        self.tenure.engine().undelivered() == 0 && self.tenure.is_saved()
    }
}

impl Worker {
    /// Takes its jobs from `inbox`; checkpoints go to `store`.
    pub(super) fn new(
        shared: Arc<Shared>,
        inbox: Inbox<Job>,
        keyed: Option<Keyed>,
        store: Store,
        busy: Busy,
    ) -> Self {
        let now = Instant::now();
        let (back, fates) = channel();
        let (stored_back, stored) = channel();
        Self {
            memory_limit: shared.config.detect.memory_limit,
            outbox_fill: shared.metrics.queue_fill.part(&["outbox"]),
            shared,
            inbox,
            fates,
            back,
            keyed,
            store,
            stored,
            stored_back,
            slots: BTreeMap::new(),
            unsent: VecDeque::new(),
            retry_at: now,
            gauges_at: now,
            stopping: false,
            alerts: Vec::new(),
            busy,
        }
    }

    /// Works until told to stop; returns how many alerts were left undelivered.
    pub(super) fn run(mut self, heart: &Heartbeat) -> usize {
        loop {
            heart.beat();
            let mut worked = self.settle();
            self.send_unsent();
            for _ in 0..STEP_JOBS {
                if self.is_blocked() {
                    break;
                }
                let Some(job) = self.inbox.pop() else { break };
                self.handle(job);
                worked = true;
            }
            if self.inbox.is_empty() {
                self.flush_keyed();
            }
            self.serve_keyed();
            self.note_stored();
            self.save_due();
            self.close_due();
            if self.gauges_at.elapsed() >= GAUGES_EVERY {
                self.publish_gauges();
            }
            if self.stopping {
                let left = self.undelivered();
                let late = Instant::now() >= self.shared.deadline();
                let delivered = left == 0 || !self.shared.publisher.delivers();
                if (delivered && self.all_saved()) || late {
                    self.drain_keyed();
                    self.publish_gauges();
                    return left;
                }
            }
            if !worked {
                self.busy.idle(|| thread::park_timeout(IDLE));
            }
        }
    }

    fn handle(&mut self, job: Job) {
        match job {
            Job::Open { partition, epoch, restored, progress, letters_from } => {
                self.open(partition, epoch, restored, progress, letters_from);
            }
            Job::Message { partition, offset, broker_time, payload, envelope: None } => {
                self.apply_message(partition, offset, broker_time, &payload);
            }
            Job::Message { partition, offset, broker_time, payload, envelope: Some(envelope) } => {
                self.take_keyed(partition, offset, broker_time, &payload, &envelope);
            }
            Job::Mark { partition, at } => self.mark_keyed(partition, at),
            Job::Close { partition, deadline, ours, done } => {
                match self.slots.get_mut(&partition) {
                    Some(slot) => slot.closing = Some(Closing { deadline, ours, done }),
                    // Told, so that nobody waits.
                    None => drop(done.send(0)),
                }
            }
            Job::MemoryLimit(bytes) => {
                self.memory_limit = bytes;
                for slot in self.slots.values_mut() {
                    slot.tenure.engine_mut().set_memory_limit(bytes);
                }
            }
            Job::Stop => self.stopping = true,
        }
    }

    fn open(
        &mut self,
        partition: i32,
        epoch: u64,
        restored: Option<(Box<Engine>, i64)>,
        progress: Arc<Progress>,
        letters_from: i64,
    ) {
        let skew_ms = self.shared.config.detect.allowed_skew.as_millis();
        let options = EngineOptions {
            partition: Partition(partition),
            allowed_skew_ms: i64::try_from(skew_ms).unwrap_or(i64::MAX),
            memory_limit: self.memory_limit,
            dedup_entries: self.shared.config.dedup.entries,
        };
        let next = progress.next();
        let new = || (Box::new(Engine::new(options, self.shared.rules.load_full())), next);
        let (engine, covered) = restored.unwrap_or_else(new);
        let gauges = Gauges::new(&self.shared.metrics, &engine);
        let reader = self.keyed.as_mut().map(|keyed| keyed.open(partition, epoch, letters_from));
        let config = &self.shared.config;
        let options = TenureOptions {
            epoch,
            transactional: config.alerts.transactional,
            every: config.detect.checkpoint_interval,
            first_after: first_after(partition, config.detect.checkpoint_interval),
            retry_after: RETRY_AFTER,
        };
        let mut tenure = Tenure::begin(options, *engine, covered, Instant::now());
        // Past a gap, so that the next owner does not tell of it again.
        tenure.advance_to(next);
        let age = self.shared.metrics.checkpoint_age.part(&[&config.topics.events]);
        let slot = Slot { tenure, progress, gauges, reader, closing: None, difference: 0, age };
        self.slots.insert(partition, slot);
        // What was in its outbox goes out again: nobody knows what became of it.
        self.send_new(partition);
    }

    fn apply_message(&mut self, partition: i32, offset: i64, at: EventTime, payload: &[u8]) {
        match Batch::decode(payload) {
            Ok(batch) => self.apply(partition, &batch, at),
            Err(cause) => {
                error!(partition, offset, "a message of the events topic cannot be read: {cause}");
                let topic = &self.shared.config.topics.events;
                self.shared.publisher.raise(Condition {
                    kind: SystemKind::DataGap,
                    scope: format!("{topic}/{partition}@{offset}"),
                    severity: Severity::High,
                    message: format!(
                        "message {offset} of {topic}[{partition}] cannot be read, so its rows were \
                         not counted: {cause}"
                    ),
                    details: vec![("offset", offset.to_string())],
                });
            }
        }
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.advance_to(offset + 1);
        }
    }

    fn apply(&mut self, partition: i32, batch: &Batch, broker_time: EventTime) {
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        // New rules are taken here, between two messages (D7).
        let rules = self.shared.rules.load();
        if slot.tenure.apply(batch, broker_time, &rules) {
            slot.gauges.reload(&self.shared.metrics, slot.tenure.engine());
        }
        slot.gauges.applied(batch, slot.tenure.engine(), clock::now());
        self.send_new(partition);
    }

    fn take_keyed(
        &mut self,
        partition: i32,
        offset: i64,
        at: EventTime,
        payload: &[u8],
        envelope: &Envelope,
    ) {
        let Some(keyed) = &mut self.keyed else { return };
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        let Some(reader) = &mut slot.reader else { return };
        for (batch, at) in keyed.take(reader, offset, at, payload, envelope) {
            self.apply(partition, &batch, at);
        }
    }

    /// Applies what waits for more records of the same broker time.
    fn flush_keyed(&mut self) {
        let Some(keyed) = &mut self.keyed else { return };
        let mut due = Vec::new();
        for (partition, slot) in &mut self.slots {
            let Some(reader) = &mut slot.reader else { continue };
            let flushed = keyed.flush(reader).into_iter();
            due.extend(flushed.map(|(batch, at)| (*partition, batch, at)));
        }
        for (partition, batch, at) in due {
            self.apply(partition, &batch, at);
        }
    }

    fn mark_keyed(&mut self, partition: i32, at: EventTime) {
        self.flush_keyed();
        let reader = self.slots.get(&partition).and_then(|slot| slot.reader.as_ref());
        if let Some(mark) = reader.and_then(|reader| reader.mark(at)) {
            self.apply(partition, &mark, at);
            self.shared.metrics.time_marks.inc();
        }
    }

    /// Offsets of a keyed input count as done once their dead letters are acknowledged.
    fn serve_keyed(&mut self) {
        let Some(safe) = self.keyed.as_mut().and_then(Keyed::serve) else { return };
        for slot in self.slots.values_mut() {
            if let Some(offset) = safe.get(&LaneId(slot.tenure.epoch())) {
                slot.advance_to(*offset);
            }
        }
    }

    fn drain_keyed(&mut self) {
        self.flush_keyed();
        let deadline = self.shared.deadline();
        if self.keyed.as_mut().is_some_and(|keyed| !keyed.drain(deadline)) {
            error!("dead letters were left unwritten; their records are read again");
        }
        self.serve_keyed();
    }

    /// Sends what an engine has decided since the last call.
    fn send_new(&mut self, partition: i32) {
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        slot.tenure.take_alerts(&mut self.alerts);
        let epoch = slot.tenure.epoch();
        for alert in self.alerts.drain(..) {
            self.unsent.push_back((partition, epoch, alert));
        }
        if self.unsent.len() <= STEP_JOBS {
            self.send_unsent();
        }
    }

    fn send_unsent(&mut self) {
        if self.unsent.is_empty() || Instant::now() < self.retry_at {
            return;
        }
        while let Some((partition, epoch, alert)) = self.unsent.pop_front() {
            let owner = Owner::Worker { partition, epoch, back: self.back.clone() };
            if !self.shared.publisher.send(&alert, owner) {
                self.unsent.push_front((partition, epoch, alert));
                self.retry_at = Instant::now() + RETRY_AFTER;
                break;
            }
        }
    }

    /// Takes in what became of alerts; true when there was anything.
    fn settle(&mut self) -> bool {
        let mut any = false;
        while let Ok(fate) = self.fates.try_recv() {
            any = true;
            let Some(slot) = self.slots.get_mut(&fate.partition) else { continue };
            if slot.tenure.settle(fate.epoch, fate.alert.message, fate.delivered) {
                self.unsent.push_back((fate.partition, fate.epoch, fate.alert));
                self.retry_at = Instant::now() + RETRY_AFTER;
            }
        }
        any
    }

    /// What was decided or refused is not accepted: nothing more is taken until it is.
    fn is_blocked(&self) -> bool {
        self.outbox_bytes() > self.shared.config.alerts.queue_bytes
            || self.keyed.as_ref().is_some_and(Keyed::is_blocked)
    }

    fn outbox_bytes(&self) -> u64 {
        self.slots.values().map(|slot| slot.tenure.engine().undelivered_bytes() as u64).sum()
    }

    fn undelivered(&self) -> usize {
        self.slots.values().map(|slot| slot.tenure.engine().undelivered()).sum()
    }

    /// Forgets revoked partitions whose alerts are delivered, or whose time is up. What is left
    /// undelivered then, the next owner finds again under the same ids.
    fn close_due(&mut self) {
        let now = Instant::now();
        self.slots.retain(|partition, slot| {
            let Some(closing) = &slot.closing else { return true };
            let left = slot.tenure.engine().undelivered();
            if closing.ours && !slot.is_done() && now < closing.deadline {
                return true;
            }
            info!(partition, left, "engine closed");
            if let (Some(keyed), Some(reader)) = (&mut self.keyed, &slot.reader) {
                keyed.close(reader);
            }
            self.store.ask(Ask::Forget { partition: *partition, epoch: slot.tenure.epoch() });
            // The poll thread may have stopped waiting.
            let _ = closing.done.send(left);
            false
        });
        let slots = &self.slots;
        self.unsent.retain(|(partition, epoch, _)| {
            slots.get(partition).is_some_and(|slot| slot.tenure.epoch() == *epoch)
        });
    }

    /// Saves the engines that are due, each at most one checkpoint at a time.
    fn save_due(&mut self) {
        let now = Instant::now();
        for (partition, slot) in &mut self.slots {
            let ends = self.stopping || slot.closing.as_ref().is_some_and(|closing| closing.ours);
            if let Some(request) = slot.tenure.save(ends, now) {
                let (partition, reply) = (*partition, self.stored_back.clone());
                self.store.ask(Ask::Save { partition, request, reply });
            }
        }
    }

    fn note_stored(&mut self) {
        while let Ok(Stored { partition, epoch, kept }) = self.stored.try_recv() {
            if let Some(slot) = self.slots.get_mut(&partition)
                && slot.tenure.stored(epoch, kept, Instant::now())
            {
                slot.progress.saved();
            }
        }
    }

    fn all_saved(&self) -> bool {
        let tenures = || self.slots.values().map(|slot| &slot.tenure);
        tenures().all(|tenure| tenure.is_saved() || tenure.has_failed())
    }

    fn publish_gauges(&mut self) {
        self.gauges_at = Instant::now();
        let (now, at) = (clock::now(), Instant::now());
        self.outbox_fill.set(ratio(self.outbox_bytes(), self.shared.config.alerts.queue_bytes));
        for (partition, slot) in &mut self.slots {
            slot.age.set(slot.tenure.unsaved_for(at).as_secs_f64());
            let difference = slot.gauges.publish(slot.tenure.engine(), now);
            // Said when it changes: this runs five times a second.
            if difference != slot.difference {
                slot.difference = difference;
                let scope = format!("detect/{partition}");
                self.shared.publisher.raise(account(scope, difference));
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(bytes: u64, bytes_max: u64) -> f64 {
    bytes as f64 / bytes_max as f64
}

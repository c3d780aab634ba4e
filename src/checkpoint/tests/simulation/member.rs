//! A member of detect: its poll thread, its worker and its store, each a queue away from the other,
//! around the production [`Tenure`] and [`Custody`].

use std::collections::VecDeque;

use super::*;

/// What the group wants of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Assign(usize),
    Revoke { partition: usize, lost: bool },
}

enum Job {
    Open { partition: usize, epoch: u64, engine: Box<Engine>, from: usize },
    Message { partition: usize, offset: usize },
    Close { partition: usize, ours: bool },
}

enum Ask {
    Open { partition: usize, epoch: u64 },
    Save { partition: usize, request: Request },
    Forget { partition: usize, epoch: u64 },
}

/// What the store found of a partition.
struct Opened {
    partition: usize,
    epoch: u64,
    claim: u64,
    restored: Option<Restored>,
}

struct Slot {
    tenure: Tenure,
    /// To be let go; and it is ours until then.
    closing: Option<bool>,
}

struct Kept {
    custody: Custody,
    /// None after a failure, until it is claimed anew.
    claim: Option<u64>,
    /// The newest that is known to be kept.
    told: Option<Manifest>,
}

/// An alert that the producer was handed, or whose fate is not told yet.
struct Sent {
    partition: usize,
    epoch: u64,
    alert: Arc<Alert>,
}

/// One process.
pub(super) struct Member {
    pub(super) id: u64,
    /// It does nothing, and knows nothing of that.
    pub(super) frozen: bool,
    /// What the group wants, in order.
    pub(super) wanted: VecDeque<Wanted>,
    /// Partitions let go where the group waited for it.
    pub(super) released: Vec<usize>,
    epochs: u64,
    opening: Option<usize>,
    closing: Option<usize>,
    opened: Option<Opened>,
    /// Partitions of which somebody else has written a checkpoint, by epoch.
    superseded: Vec<(usize, u64)>,
    /// Next message to hand over, by assigned partition.
    fetched: [Option<usize>; PARTITIONS],
    /// Epoch of its last assignment.
    assigned: [u64; PARTITIONS],
    jobs: VecDeque<Job>,
    slots: [Option<Slot>; PARTITIONS],
    closed: Vec<usize>,
    asks: VecDeque<Ask>,
    kept: [Option<Kept>; PARTITIONS],
    answers: VecDeque<(usize, u64, bool)>,
    sending: Vec<Sent>,
    fates: Vec<(Sent, bool)>,
}

impl Member {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            frozen: false,
            wanted: VecDeque::new(),
            released: Vec::new(),
            epochs: 0,
            opening: None,
            closing: None,
            opened: None,
            superseded: Vec::new(),
            fetched: [None; PARTITIONS],
            assigned: [0; PARTITIONS],
            jobs: VecDeque::new(),
            slots: [const { None }; PARTITIONS],
            closed: Vec::new(),
            asks: VecDeque::new(),
            kept: [const { None }; PARTITIONS],
            answers: VecDeque::new(),
            sending: Vec::new(),
            fates: Vec::new(),
        }
    }

    /// One small step of one of its threads.
    pub(super) fn step(&mut self, around: &mut Around<'_>) {
        if self.frozen {
            return;
        }
        match around.random.below(12) {
            0 | 1 => self.follow_group(around),
            2..5 => self.fetch(around),
            5..8 => self.work(around),
            8 => self.close_due(),
            9 => self.learn(around),
            10 => self.keep(around),
            _ => self.deliver(around),
        }
    }

    /// The poll thread answers the group, one wish after the other.
    fn follow_group(&mut self, around: &mut Around<'_>) {
        if let Some(partition) = self.closing {
            // The worker has let go, or the time to wait for it is over.
            let closed = self.closed.iter().position(|one| *one == partition);
            if closed.is_some() || around.random.one_in(if around.calm { 200 } else { 20 }) {
                self.closed.retain(|one| *one != partition);
                self.closing = None;
                self.released.push(partition);
            }
            return;
        }
        if self.opening.is_some() {
            if let Some(opened) = self.opened.take() {
                self.begin(opened, around);
                self.opening = None;
            }
            return;
        }
        if let Some((partition, epoch)) = self.superseded.pop()
            && self.assigned[partition] == epoch
            && self.fetched[partition].is_some()
        {
            // It is taken on again, before anything else that the group wants.
            self.wanted.push_front(Wanted::Assign(partition));
            self.wanted.push_front(Wanted::Revoke { partition, lost: true });
        }
        match self.wanted.pop_front() {
            None => {}
            Some(Wanted::Assign(partition)) => {
                self.epochs += 1;
                self.opening = Some(partition);
                self.asks.push_back(Ask::Open { partition, epoch: self.epochs });
            }
            Some(Wanted::Revoke { partition, lost }) => {
                let held = self.fetched[partition].take().is_some();
                if held {
                    self.jobs.push_back(Job::Close { partition, ours: !lost });
                }
                match (held, lost) {
                    (true, false) => self.closing = Some(partition),
                    (false, false) => self.released.push(partition),
                    (_, true) => {}
                }
            }
        }
    }

    fn begin(&mut self, opened: Opened, around: &mut Around<'_>) {
        let Opened { partition, epoch, claim, restored } = opened;
        let kafka = &around.kafka;
        let offset = |at: usize| i64::try_from(at).unwrap();
        let log = Log {
            topic_id: "",
            first: offset(kafka.first[partition]),
            end: offset(kafka.events[partition].len()),
            was_saved: false,
        };
        let covered = restored.as_ref().map(|(covered, _)| (*covered, ""));
        let (from, losses) = resume(covered, &[], log);
        if !losses.is_empty() {
            // It slept for longer than messages are kept, and is over without knowing it.
            assert_ne!(kafka.claims[partition], claim, "retention leaves what is needed");
            return;
        }
        let from = usize::try_from(from).unwrap();
        let from = if around.off == Some(Guard::OwnOffset) { kafka.group[partition] } else { from };
        let new = || Engine::new(sized(), Arc::clone(around.rules));
        let engine = restored.map_or_else(|| Box::new(new()), |(_, engine)| engine);
        self.fetched[partition] = Some(from);
        self.assigned[partition] = epoch;
        self.jobs.push_back(Job::Open { partition, epoch, engine, from });
    }

    /// The poll thread hands messages to the worker.
    fn fetch(&mut self, around: &mut Around<'_>) {
        let partition = around.random.below(PARTITIONS);
        if let Some(offset) = self.fetched[partition]
            && offset < around.kafka.events[partition].len()
        {
            self.jobs.push_back(Job::Message { partition, offset });
            self.fetched[partition] = Some(offset + 1);
        }
    }

    /// The worker does the next job, or saves what is due.
    fn work(&mut self, around: &mut Around<'_>) {
        match self.jobs.pop_front() {
            Some(Job::Open { partition, epoch, engine, from }) => {
                self.open(partition, epoch, *engine, from, around);
            }
            Some(Job::Message { partition, offset }) => self.apply(partition, offset, around),
            Some(Job::Close { partition, ours }) => match &mut self.slots[partition] {
                Some(slot) => slot.closing = Some(ours),
                None => self.closed.push(partition),
            },
            None => {}
        }
        for (partition, slot) in self.slots.iter_mut().enumerate() {
            let Some(slot) = slot else { continue };
            if let Some(request) = slot.tenure.save(slot.closing == Some(true), around.now) {
                self.asks.push_back(Ask::Save { partition, request });
            }
        }
    }

    fn open(
        &mut self,
        partition: usize,
        epoch: u64,
        engine: Engine,
        from: usize,
        around: &mut Around<'_>,
    ) {
        let options = TenureOptions {
            epoch,
            transactional: around.kafka.transactional,
            every: Duration::from_secs(4),
            first_after: first_after(i32::try_from(partition).unwrap(), Duration::from_secs(4)),
            retry_after: Duration::from_secs(1),
        };
        let next = i64::try_from(from).unwrap();
        let mut tenure = Tenure::begin(options, engine, next, around.now);
        if around.off == Some(Guard::Outbox) {
            let mut restored = Vec::new();
            tenure.engine_mut().take_alerts(&mut restored);
            for alert in &restored {
                tenure.engine_mut().delivered(alert.message);
            }
        }
        self.slots[partition] = Some(Slot { tenure, closing: None });
        self.send(partition);
    }

    fn apply(&mut self, partition: usize, offset: usize, around: &mut Around<'_>) {
        let Some(Slot { tenure, .. }) = &mut self.slots[partition] else { return };
        let (batch, broker_time) = &around.kafka.events[partition][offset];
        tenure.apply(batch, *broker_time, around.rules);
        tenure.advance_to(i64::try_from(offset).unwrap() + 1);
        if around.kafka.owners[partition] == self.id {
            around.kafka.group[partition] = offset + 1;
        }
        self.send(partition);
    }

    fn send(&mut self, partition: usize) {
        let Some(Slot { tenure, .. }) = &mut self.slots[partition] else { return };
        let (epoch, mut alerts) = (tenure.epoch(), Vec::new());
        tenure.take_alerts(&mut alerts);
        let sent = alerts.into_iter().map(|alert| Sent { partition, epoch, alert });
        self.sending.extend(sent);
    }

    /// The worker forgets what it was told to let go, once that is delivered and saved.
    fn close_due(&mut self) {
        for (partition, slot) in self.slots.iter_mut().enumerate() {
            let Some(Slot { tenure, closing: Some(ours) }) = slot else { continue };
            let done = tenure.engine().undelivered() == 0 && tenure.is_saved();
            if *ours && !done && self.closing == Some(partition) {
                continue;
            }
            let epoch = tenure.epoch();
            self.asks.push_back(Ask::Forget { partition, epoch });
            self.closed.push(partition);
            *slot = None;
        }
    }

    /// The worker learns of a checkpoint and of an alert, in any order.
    fn learn(&mut self, around: &mut Around<'_>) {
        if let Some((partition, epoch, kept)) = self.answers.pop_front()
            && let Some(Slot { tenure, .. }) = &mut self.slots[partition]
        {
            tenure.stored(epoch, kept, around.now);
        }
        if self.fates.is_empty() {
            return;
        }
        let (sent, delivered) = self.fates.swap_remove(around.random.below(self.fates.len()));
        if let Some(Slot { tenure, .. }) = &mut self.slots[sent.partition]
            && tenure.settle(sent.epoch, sent.alert.message, delivered)
        {
            self.sending.push(sent);
        }
    }

    /// The broker takes an alert, or fails, or nobody knows.
    fn deliver(&mut self, around: &mut Around<'_>) {
        if self.sending.is_empty() {
            return;
        }
        let sent = self.sending.swap_remove(around.random.below(self.sending.len()));
        let fate = if around.calm { 7 } else { around.random.below(8) };
        if fate != 0 {
            around.kafka.publish(&sent.alert);
        }
        self.fates.push((sent, fate > 1));
    }

    /// The store does what is asked next.
    fn keep(&mut self, around: &mut Around<'_>) {
        match self.asks.pop_front() {
            None => {}
            Some(Ask::Open { partition, epoch }) => {
                let claim = around.kafka.claim(partition);
                let (restored, ledger, told) = restore(around.kafka, partition);
                let custody = Custody::new(epoch, ledger);
                self.kept[partition] = Some(Kept { custody, claim: Some(claim), told });
                self.opened = Some(Opened { partition, epoch, claim, restored });
            }
            Some(Ask::Save { partition, request }) => {
                let epoch = request.epoch;
                let kept = self.save(partition, request, around);
                self.answers.push_back((partition, epoch, kept));
            }
            Some(Ask::Forget { partition, epoch }) => {
                let kept = &mut self.kept[partition];
                kept.take_if(|kept| kept.custody.holds(epoch));
            }
        }
    }

    fn save(&mut self, partition: usize, request: Request, around: &mut Around<'_>) -> bool {
        let kafka = &mut *around.kafka;
        let kept = self.kept[partition].as_mut();
        let Some(Kept { custody, claim, told }) = kept.filter(|it| it.custody.holds(request.epoch))
        else {
            return false;
        };
        let own = match *claim {
            Some(claim) => claim,
            // The group would refuse our commit.
            None if kafka.owners[partition] != self.id => return false,
            None => *claim.insert(kafka.claim(partition)),
        };
        if custody.is_in_doubt() {
            let doubted = around.off != Some(Guard::Doubt);
            let newest = if doubted { kafka.newest(partition) } else { told.clone() };
            let resolved = custody.resolve(newest.as_ref());
            if resolved.is_err() && around.off != Some(Guard::Superseded) {
                self.superseded.push((partition, request.epoch));
                return false;
            }
        }
        let covered = usize::try_from(request.covered).unwrap();
        let Ok(mut attempt) = custody.begin(request, "") else { return false };
        let fenced = kafka.claims[partition] != own && around.off != Some(Guard::Fence);
        let end = if fenced {
            End::Lost
        } else {
            // One tear at a time.
            let may_tear = attempt.alerts.is_empty() && !kafka.torn[partition];
            End::any(around.random, around.calm, may_tear)
        };
        if !fenced {
            kafka.torn[partition] = end == End::Torn;
        }
        end.write(&mut attempt, &mut kafka.states[partition], around.random);
        if end.is_whole() {
            kafka.covered[partition].push(covered);
            attempt.alerts.iter().for_each(|alert| kafka.publish_once(alert));
        }
        if end == End::Told {
            *told = kafka.newest(partition);
            custody.kept(attempt);
        } else {
            *claim = None;
            custody.failed(&attempt);
        }
        end == End::Told
    }

    /// What it had handed over when it died may still arrive.
    pub(super) fn crash(self, around: &mut Around<'_>) {
        for sent in self.sending {
            if around.random.one_in(2) {
                around.kafka.publish(&sent.alert);
            }
        }
    }

    /// Nothing waits in any of its queues, and every message is applied.
    pub(super) fn is_settled(&self, kafka: &Kafka) -> bool {
        let idle = self.wanted.is_empty()
            && (self.opening, self.closing) == (None, None)
            && (self.jobs.is_empty() && self.asks.is_empty() && self.answers.is_empty())
            && (self.sending.is_empty() && self.fates.is_empty());
        let read = |(partition, next): (usize, &Option<usize>)| {
            next.is_none_or(|next| next == kafka.events[partition].len())
        };
        let out = |slot: &Slot| slot.closing.is_none() && slot.tenure.engine().undelivered() == 0;
        let mut slots = self.slots.iter().flatten();
        idle && self.fetched.iter().enumerate().all(read) && slots.all(out)
    }

    /// What keeps it from being settled.
    pub(super) fn unrest(&self, kafka: &Kafka) -> String {
        let ends: Vec<usize> = kafka.events.iter().map(Vec::len).collect();
        let slots = self.slots.iter().map(|slot| {
            let slot = slot.as_ref()?;
            Some((slot.closing, slot.tenure.engine().undelivered(), slot.tenure.is_saved()))
        });
        format!(
            "wanted {:?}, opening {:?}, closing {:?}, jobs {}, asks {}, answers {}, sending {}, \
             fates {}, fetched {:?} of {ends:?}, slots {:?}",
            self.wanted,
            self.opening,
            self.closing,
            self.jobs.len(),
            self.asks.len(),
            self.answers.len(),
            self.sending.len(),
            self.fates.len(),
            self.fetched,
            slots.collect::<Vec<_>>()
        )
    }

    /// The engine of a partition, if it has one.
    pub(super) fn engine(&mut self, partition: usize) -> Option<&mut Engine> {
        self.slots[partition].as_mut().map(|slot| slot.tenure.engine_mut())
    }
}

/// What a checkpoint covers, and the engine in it.
type Restored = (i64, Box<Engine>);

/// The newest checkpoint that can be used.
fn restore(kafka: &Kafka, partition: usize) -> (Option<Restored>, Ledger, Option<Manifest>) {
    let (state, origin) = (&kafka.states[partition], origin_of(partition));
    for manifest in state.manifests_of(&origin).flatten() {
        if let Ok(engine) = state.rebuild_with(&manifest, sized()) {
            let ledger = Ledger::after(&manifest, origin.clone());
            return (Some((manifest.covered, Box::new(engine))), ledger, Some(manifest));
        }
    }
    (None, Ledger::new(origin, u64::try_from(state.records.len()).unwrap()), None)
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Aborted.
    Lost,
    /// Some of its records are committed, and some are not.
    Torn,
    /// Committed, and nobody was told.
    Unknown,
    /// Committed.
    Told,
}

impl End {
    fn any(random: &mut Random, calm: bool, may_tear: bool) -> Self {
        match random.below(12) {
            _ if calm => Self::Told,
            0 => Self::Lost,
            1 => Self::Unknown,
            2 if may_tear => Self::Torn,
            _ => Self::Told,
        }
    }

    const fn is_whole(self) -> bool {
        matches!(self, Self::Unknown | Self::Told)
    }

    fn write(self, attempt: &mut Attempt, state: &mut State, random: &mut Random) {
        if self == Self::Lost {
            return;
        }
        // A record that is not committed has an offset all the same.
        let mut torn = || self == Self::Torn && random.one_in(3);
        let draft = &mut attempt.draft;
        let write = |(key, value): (&str, &[u8])| {
            let value = (!torn()).then(|| value.to_vec());
            if value.is_none() { state.skip() } else { state.write(key, value) }
        };
        let offsets: Vec<i64> = draft.records().map(write).collect();
        for record in draft.seal(&offsets) {
            if self == Self::Torn && random.one_in(3) {
                state.skip();
            } else {
                state.write(&record.key, record.value);
            }
        }
    }
}

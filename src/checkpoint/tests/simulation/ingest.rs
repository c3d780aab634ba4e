//! A session of ingest over one source partition: the production router and commits, and a
//! producer that delivers in order and ends with its first failure.

use std::collections::VecDeque;

use super::*;
use crate::{
    event::route::{Routed, SourceId},
    offsets::{Commits, FlushId},
};

/// What a producer was handed and the broker has not appended yet.
struct InFlight {
    flush: Option<FlushId>,
    partition: usize,
    batch: Batch,
}

/// One session, or one that does not know that it is over.
pub(super) struct Session {
    source: usize,
    router: Router,
    id: SourceId,
    next: usize,
    commits: Commits<usize>,
    in_flight: VecDeque<InFlight>,
    /// Messages become bytes and are read again. What that does to them is tested by itself.
    bytes: bool,
}

impl Session {
    /// Begins where the group has committed.
    pub(super) fn begin(kafka: &Kafka, source: usize) -> Self {
        let mut router = Router::new(RouterSpec {
            routes: written().routes(),
            partitions: u32::try_from(PARTITIONS).unwrap(),
            seed: (1, 2),
            identity: Identity::new(&IdentitySpec::default()),
            catalog: Catalog::new(Vec::new()),
        });
        let id = router.source_that_retries(&super::source(i32::try_from(source).unwrap()));
        let next = kafka.committed[source];
        let (commits, in_flight, bytes) = (Commits::default(), VecDeque::new(), kafka.bytes);
        Self { source, router, id, next, commits, in_flight, bytes }
    }

    /// Takes records and hands their messages to the producer.
    pub(super) fn take(&mut self, kafka: &mut Kafka, count: usize, off: Option<Guard>) {
        let from = self.next;
        self.next = kafka.inputs[self.source].len().min(from + count);
        for offset in from..self.next {
            let event = kafka.event(self.source, offset);
            self.router.push(self.id, Offset(i64::try_from(offset).unwrap()), 0, &event);
        }
        let flush = self.commits.open(self.next);
        for (partition, batch) in self.flush() {
            self.commits.sent(flush);
            self.hand_over(Some(flush), partition, batch);
        }
        self.commits.close(flush);
        if off == Some(Guard::FromSafe) {
            kafka.committed[self.source] = self.next;
        }
    }

    /// Says how far time has come: everything earlier was taken (W6).
    pub(super) fn mark(&mut self, kafka: &Kafka) {
        let last = kafka.inputs[self.source].len() - 1;
        let at = kafka.event(self.source, self.next.min(last)).event_time;
        if self.bytes {
            let mut marks = Vec::new();
            self.router.mark(at, &[self.id], &mut marks).unwrap();
            for mark in &marks {
                self.hand_over(None, mark.partition, Batch::decode(&mark.payload).unwrap());
            }
            return;
        }
        let (_, mark) = self.router.mark_batch(at, &[self.id]).unwrap().unwrap();
        for partition in (0..).take(PARTITIONS) {
            self.hand_over(None, partition, Batch::from_record_batch(&mark).unwrap());
        }
    }

    fn flush(&mut self) -> Vec<(u32, Batch)> {
        let mut batches = Vec::new();
        if self.bytes {
            let mut messages = Vec::new();
            self.router.flush(&mut messages).unwrap();
            let read = |message: &Routed| Batch::decode(&message.payload).unwrap();
            batches.extend(messages.iter().map(|message| (message.partition, read(message))));
        } else {
            self.router.flush_unencoded(|partition, batch| {
                batches.push((partition, Batch::from_record_batch(&batch).unwrap()));
            });
        }
        batches
    }

    fn hand_over(&mut self, flush: Option<FlushId>, partition: u32, batch: Batch) {
        let partition = usize::try_from(partition).unwrap();
        self.in_flight.push_back(InFlight { flush, partition, batch });
    }

    /// The broker appends the next message; `ours`: and we still own the source.
    pub(super) fn append(
        &mut self,
        kafka: &mut Kafka,
        random: &mut Random,
        ours: bool,
        off: Option<Guard>,
    ) {
        let overtakes = off == Some(Guard::InOrder) && self.in_flight.len() > 1;
        let next = if overtakes { random.below(self.in_flight.len()) } else { 0 };
        if let Some(InFlight { flush, partition, batch }) = self.in_flight.remove(next) {
            kafka.append(partition, batch);
            if let Some(flush) = flush {
                self.commits.acked(flush);
            }
        }
        if let Some(position) = self.commits.safe().filter(|_| ours) {
            kafka.committed[self.source] = position;
        }
    }

    /// The next delivery fails for good. True: there was one, and the session is over.
    pub(super) fn fail(&mut self) -> bool {
        self.in_flight.pop_front().is_some()
    }

    /// Everything is taken and appended.
    pub(super) fn is_done(&self, kafka: &Kafka) -> bool {
        self.in_flight.is_empty() && self.next == kafka.inputs[self.source].len()
    }
}

//! The way from the poll thread to one worker: a bounded ring of jobs, and what did not fit.
//!
//! One producer, one consumer, nothing shared but the ring and two counters. A full ring is
//! back-pressure: the caller takes nothing more from librdkafka for a moment, and only when that
//! does not help pauses the worker's partitions and goes on polling. A pause is dear: librdkafka
//! throws away what it has fetched of a partition, and fetches it again.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::Thread,
    time::{Duration, Instant},
};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

/// Jobs in a ring.
pub const RING_JOBS: usize = 512;
/// How long a ring may be full before its partitions are paused. Other workers get nothing new
/// meanwhile.
pub const PAUSE_AFTER: Duration = Duration::from_millis(200);

/// A job that knows how much memory it holds.
pub trait Weigh {
    /// Bytes.
    fn bytes(&self) -> u64;
}

/// The poll thread's end.
pub struct Feed<J> {
    ring: Producer<J>,
    /// Jobs that did not fit, in order. Short, because the partitions are paused then.
    stash: VecDeque<J>,
    bytes: Arc<AtomicU64>,
    bytes_max: u64,
    wake: Option<Thread>,
    full_since: Option<Instant>,
    paused: bool,
}

/// The worker's end.
pub struct Inbox<J> {
    ring: Consumer<J>,
    bytes: Arc<AtomicU64>,
}

/// Both ends of a new ring, whose worker counts as full beyond `bytes_max` bytes of messages.
#[must_use]
pub fn ring<J: Weigh>(bytes_max: u64) -> (Feed<J>, Inbox<J>) {
    let (producer, consumer) = RingBuffer::new(RING_JOBS);
    let bytes = Arc::new(AtomicU64::new(0));
    let feed = Feed {
        ring: producer,
        stash: VecDeque::new(),
        bytes: Arc::clone(&bytes),
        bytes_max,
        wake: None,
        full_since: None,
        paused: false,
    };
    (feed, Inbox { ring: consumer, bytes })
}

/// What the poll thread must do about a worker's partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// Nothing.
    Steady,
    /// Take nothing for now.
    Wait,
    /// Stop fetching them.
    Pause,
    /// Fetch them again.
    Resume,
}

impl<J: Weigh> Feed<J> {
    /// Whom to wake when there is something to do.
    pub fn set_worker(&mut self, worker: Thread) {
        self.wake = Some(worker);
    }

    /// Hands a job over, or keeps it until there is room; order is kept.
    pub fn push(&mut self, job: J) {
        self.bytes.fetch_add(job.bytes(), Ordering::Relaxed);
        self.stash.push_back(job);
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(job) = self.stash.pop_front() {
            if let Err(PushError::Full(job)) = self.ring.push(job) {
                self.stash.push_front(job);
                break;
            }
        }
        if let Some(worker) = &self.wake {
            worker.unpark();
        }
    }

    /// Moves what waited, and says whether the worker is full or has room again.
    pub fn pressure(&mut self, now: Instant) -> Pressure {
        if !self.stash.is_empty() {
            self.flush();
        }
        let bytes = self.bytes.load(Ordering::Relaxed);
        let jobs = RING_JOBS - self.ring.slots();
        if self.paused {
            let half = bytes <= self.bytes_max / 2 && jobs <= RING_JOBS / 2;
            if self.stash.is_empty() && half {
                self.paused = false;
                return Pressure::Resume;
            }
            return Pressure::Steady;
        }
        if self.stash.is_empty() && bytes <= self.bytes_max && jobs < RING_JOBS {
            self.full_since = None;
            return Pressure::Steady;
        }
        let since = *self.full_since.get_or_insert(now);
        if now.saturating_duration_since(since) < PAUSE_AFTER {
            return Pressure::Wait;
        }
        self.full_since = None;
        self.paused = true;
        Pressure::Pause
    }

    /// True while the worker is full and not paused for it yet: nothing more is to be taken.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.full_since.is_some()
    }

    /// True while the worker's partitions are to be left alone.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// How full it is, by jobs or by bytes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn fill(&self) -> f64 {
        let jobs = (RING_JOBS - self.ring.slots()) as f64 / RING_JOBS as f64;
        jobs.max(self.bytes.load(Ordering::Relaxed) as f64 / self.bytes_max as f64)
    }
}

impl<J: Weigh> Inbox<J> {
    /// The next job, if any.
    pub fn pop(&mut self) -> Option<J> {
        let job = self.ring.pop().ok()?;
        self.bytes.fetch_sub(job.bytes(), Ordering::Relaxed);
        Some(job)
    }

    /// True when nothing waits in the ring.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Job(u64);

    impl Weigh for Job {
        fn bytes(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn a_full_ring_waits_then_pauses_once_and_resumes_at_half_without_losing_order() {
        let (mut feed, mut inbox) = ring(u64::MAX);
        for number in 0..=RING_JOBS as u64 {
            feed.push(Job(number));
        }
        let began = Instant::now();
        assert_eq!(feed.pressure(began), Pressure::Wait);
        let later = began + PAUSE_AFTER;
        assert_eq!(feed.pressure(later), Pressure::Pause);
        assert_eq!(feed.pressure(later), Pressure::Steady);
        let mut taken = Vec::new();
        while let Some(Job(number)) = inbox.pop() {
            taken.push(number);
            if taken.len() == RING_JOBS / 2 {
                assert_eq!(feed.pressure(later), Pressure::Steady, "more than half is left");
            }
        }
        assert_eq!(taken, (0..=RING_JOBS as u64).collect::<Vec<_>>());
        assert_eq!(feed.pressure(later), Pressure::Resume);
    }

    #[test]
    fn a_ring_that_is_full_for_a_moment_now_and_then_is_not_paused() {
        let (mut feed, mut inbox) = ring(u64::MAX);
        let mut now = Instant::now();
        for _ in 0..3 {
            while feed.pressure(now) == Pressure::Steady {
                feed.push(Job(1));
            }
            now += PAUSE_AFTER / 2;
            assert_eq!(feed.pressure(now), Pressure::Wait);
            inbox.pop();
            now += PAUSE_AFTER;
            assert_eq!(feed.pressure(now), Pressure::Steady);
        }
    }

    #[test]
    fn bytes_alone_can_fill_a_ring() {
        let (mut feed, mut inbox) = ring(1000);
        let began = Instant::now();
        feed.push(Job(1000));
        assert_eq!(feed.pressure(began), Pressure::Steady, "at the bound is not over it");
        feed.push(Job(1));
        assert_eq!(feed.pressure(began), Pressure::Wait);
        assert_eq!(feed.pressure(began + PAUSE_AFTER), Pressure::Pause);
        inbox.pop();
        assert_eq!(feed.pressure(began + PAUSE_AFTER), Pressure::Resume);
    }
}

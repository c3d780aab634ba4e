//! The way to the alert topic, shared by all threads: encode, produce, tell the owner.
//!
//! Nothing is given up: the producer never times out, a full queue sends the alert back to its
//! owner, and a failed delivery is reported so that the owner sends again. System alerts of the
//! shell are owned here.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{
    clock,
    system::{Condition, SystemEpisodes},
};
use crate::{
    alert::{
        Alert, Subject, SystemKind,
        ocsf::{self, Encoded},
    },
    config::Config,
    kafka::{
        Error,
        producer::{Message, Producer, Refused, Report},
    },
    metrics::Metrics,
};

/// Between a failed delivery and the next attempt.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// System alerts waiting to be sent; beyond it the oldest are only logged.
const WAITING_MAX: usize = 10_000;
/// Between two looks at what was delivered, while something is under way and while nothing is.
const REPORTS_EVERY: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(5)];

/// An alert on its way, with the one who must learn of its fate.
pub struct Ticket {
    alert: Arc<Alert>,
    owner: Owner,
}

/// Who owns an alert.
#[derive(Clone)]
pub enum Owner {
    /// A worker: the events partition it belongs to, the epoch of its engine, and the way back.
    Worker {
        /// Events partition.
        partition: i32,
        /// Which assignment of it.
        epoch: u64,
        /// Where its fate is told.
        back: Sender<Fate>,
    },
    /// The shell itself.
    Shell,
}

/// What became of a worker's alert.
#[derive(Debug)]
pub struct Fate {
    /// Events partition.
    pub partition: i32,
    /// Which assignment of it.
    pub epoch: u64,
    /// The alert.
    pub alert: Arc<Alert>,
    /// False: send it again.
    pub delivered: bool,
}

/// Publishes alerts.
pub struct Publisher {
    producer: Arc<Producer<Ticket>>,
    topic: String,
    metrics: Arc<Metrics>,
    episodes: Mutex<SystemEpisodes>,
    waiting: Mutex<VecDeque<Arc<Alert>>>,
    failed: Mutex<Receiver<Arc<Alert>>>,
    stop: Arc<AtomicBool>,
    poller: Mutex<Option<JoinHandle<()>>>,
}

impl Publisher {
    /// Connects, and starts the thread that serves delivery reports.
    ///
    /// # Errors
    /// A setting is wrong, or the thread cannot be started.
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let (failed_sender, failed) = channel();
        let counted = Arc::clone(&metrics);
        let producer = Producer::new(&config.kafka, "alerts", false, move |report| {
            settle(report, &counted, &failed_sender);
        })?;
        let producer = Arc::new(producer);
        let stop = Arc::new(AtomicBool::new(false));
        let served = (Arc::clone(&producer), Arc::clone(&stop));
        let poller = thread::Builder::new().name("alerts".to_owned()).spawn(move || {
            while !served.1.load(Ordering::Relaxed) {
                let idle = served.0.in_flight() == 0;
                served.0.poll_after(REPORTS_EVERY[usize::from(idle)]);
            }
        })?;
        Ok(Self {
            producer,
            topic: config.topics.alerts.clone(),
            metrics,
            episodes: Mutex::default(),
            waiting: Mutex::default(),
            failed: Mutex::new(failed),
            stop,
            poller: Mutex::new(Some(poller)),
        })
    }

    /// Sends an alert. False: the queue is full or refuses it; the owner sends it again later.
    #[must_use]
    pub fn send(&self, alert: &Arc<Alert>, owner: Owner) -> bool {
        let encoded = encode(alert);
        let message = message(&self.topic, &encoded);
        match self.producer.send(&message, Ticket { alert: Arc::clone(alert), owner }) {
            Ok(()) => true,
            Err(Refused::Full(_)) => false,
            Err(Refused::Failed(_, cause)) => {
                error!("an alert cannot be sent and will be tried again: {cause}");
                self.metrics.delivery_failures.with_label_values(&["alerts"]).inc();
                false
            }
        }
    }

    /// An alert was published by somebody else, in a transaction (D4).
    pub fn note_delivered(&self, alert: &Alert) {
        note_delivered(alert, &self.metrics);
    }

    /// A condition of the shell holds; says so once, then at most daily.
    pub fn raise(&self, condition: Condition) {
        warn!(scope = condition.scope, "{}: {}", condition.kind.as_str(), condition.message);
        let raised = lock(&self.episodes).raise(condition, clock::now());
        self.queue(raised);
    }

    /// A condition of the shell is over.
    pub fn clear(&self, kind: SystemKind, scope: &str, message: &str) {
        let closing = lock(&self.episodes).clear(kind, scope, message, clock::now());
        if closing.is_some() {
            info!(scope, "{}: {message}", kind.as_str());
        }
        self.queue(closing);
    }

    fn queue(&self, alert: Option<Alert>) {
        let Some(alert) = alert else { return };
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= WAITING_MAX {
            // Each was logged when it was raised.
            waiting.pop_front();
            self.metrics.alerts_dropped.inc();
        }
        waiting.push_back(Arc::new(alert));
        drop(waiting);
        self.send_waiting();
    }

    /// Sends what waits, again what failed. Called about once a second.
    ///
    /// # Errors
    /// Publishing cannot go on.
    pub fn pump(&self) -> Result<(), Error> {
        self.send_waiting();
        self.producer.fatal().map_or(Ok(()), Err)
    }

    fn send_waiting(&self) {
        let mut waiting = lock(&self.waiting);
        while let Ok(alert) = lock(&self.failed).try_recv() {
            waiting.push_back(alert);
        }
        while let Some(alert) = waiting.pop_front() {
            if !self.send(&alert, Owner::Shell) {
                waiting.push_front(alert);
                break;
            }
        }
    }

    /// False: nothing that waits will ever be delivered by this process.
    #[must_use]
    pub fn delivers(&self) -> bool {
        self.producer.fatal().is_none()
    }

    /// Alerts handed over and not acknowledged, and those of the shell still waiting.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.producer.in_flight() + lock(&self.waiting).len()
    }

    /// Waits until everything is acknowledged; false when the deadline came first.
    #[must_use]
    pub fn drain(&self, deadline: Instant) -> bool {
        loop {
            self.send_waiting();
            if self.pending() == 0 {
                return true;
            }
            if Instant::now() >= deadline || !self.delivers() {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(poller) = lock(&self.poller).take() {
            // A poller that panicked has nothing more to serve.
            let _ = poller.join();
        }
    }
}

/// An alert as its subscribers read it.
#[must_use]
pub fn encode(alert: &Alert) -> Encoded {
    ocsf::encode(alert, &ocsf::Product { version: env!("CARGO_PKG_VERSION") })
}

/// An alert as a message of the alert topic.
#[must_use]
pub fn message<'a>(topic: &'a str, encoded: &'a Encoded) -> Message<'a> {
    Message {
        topic,
        partition: None,
        key: Some(encoded.key.as_bytes()),
        payload: Some(&encoded.payload),
        headers: encoded.headers.iter().map(|(key, value)| (*key, value.as_bytes())).collect(),
    }
}

fn note_delivered(alert: &Alert, metrics: &Metrics) {
    metrics.alert_delivered(alert, clock::now());
    log(alert);
}

fn settle(report: Report<Ticket>, metrics: &Metrics, failed: &Sender<Arc<Alert>>) {
    let Ticket { alert, owner } = report.ticket;
    let delivered = match &report.result {
        Ok(_) => {
            note_delivered(&alert, metrics);
            true
        }
        Err(cause) => {
            warn!("an alert was not delivered and will be sent again: {cause}");
            metrics.delivery_failures.with_label_values(&["alerts"]).inc();
            false
        }
    };
    match owner {
        // A worker that is gone has been replaced by one that finds the alert again.
        Owner::Worker { partition, epoch, back } => {
            let _ = back.send(Fate { partition, epoch, alert, delivered });
        }
        Owner::Shell if !delivered => {
            let _ = failed.send(alert);
        }
        Owner::Shell => {}
    }
}

fn log(alert: &Alert) {
    let (severity, reason) = (alert.severity.as_str(), alert.reason.as_str());
    let episode = alert.episode.to_string();
    match &alert.subject {
        // The key names a person: it belongs to the alert topic, not to the log.
        Subject::Rule(finding) => {
            info!(rule = finding.rule, severity, reason, episode, "alert published");
        }
        Subject::System(finding) => {
            let kind = finding.kind.as_str();
            info!(kind, scope = finding.scope, severity, reason, episode, "alert published");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

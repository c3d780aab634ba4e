//! The thread that keeps checkpoints: has partitions of the state topic taken on, and writes what
//! workers save. Transactions block, so nobody else does this.
//!
//! After a failed write nobody knows what the topic holds, and perhaps the partition is another
//! member's by now. So the next write first asks the group (a commit with our generation), then
//! claims anew, which decides the fate of what failed, and saves every value (D6). Alerts that went
//! out with it after all are not sent again (D4). Where another member turns out to have written
//! meanwhile, the poll thread is told to take the partition on again. Never here: counting,
//! deciding when to save.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{error, info};

use super::restore::{Asked, Found, Restorer, Taken};
use crate::{
    alert::ocsf::Encoded,
    checkpoint::{Custody, Origin, Request},
    kafka::{Error, group::Witness, state::StateWriter},
    pipeline::{
        Shared,
        publish::{encode, message},
    },
};

/// A checkpoint is written within this time or has failed.
const WRITE_FOR: Duration = Duration::from_secs(20);
/// What is asked of the store.
pub(super) enum Ask {
    /// Claim a partition and restore what is kept of it.
    Open(Asked),
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

/// Answer to [`Ask::Open`].
pub(super) struct Opened {
    pub(super) partition: i32,
    pub(super) result: Result<Found, Error>,
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
            restorer: Restorer { shared: Arc::clone(shared), origin },
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
    restorer: Restorer,
    topic_id: String,
    witness: Witness,
    overtaken: Sender<Overtaken>,
    kept: BTreeMap<i32, Kept>,
}

impl Keeper {
    fn run(mut self, asked: &Receiver<Ask>) {
        let mut next = None;
        while let Some(ask) = next.take().or_else(|| asked.recv().ok()) {
            match ask {
                Ask::Open(first) => {
                    let mut opens = VecDeque::from([first]);
                    next = asked.try_iter().find_map(|ask| also_open(&mut opens, ask));
                    self.open(opens);
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

    fn open(&mut self, asked: VecDeque<Asked>) {
        let Self { restorer, kept, .. } = self;
        restorer.take_all(asked, |Asked { name: (_, partition), reply, .. }, taken| {
            let result = taken.map(|Taken { writer, ledger, found }| {
                let custody = Custody::new(found.epoch, ledger);
                kept.insert(partition, Kept { writer: Some(writer), custody });
                found
            });
            // Whoever asked may have stopped waiting.
            let _ = reply.send(Opened { partition, result });
        });
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
        if writer.is_none() {
            let name = (self.restorer.origin.topic.clone(), partition);
            self.witness.confirm(&name, request.covered)?;
            *writer = Some(self.restorer.claim(partition)?);
            info!(partition, "the state partition is claimed anew");
        }
        if custody.is_in_doubt() {
            let newest = self.restorer.newest(partition)?;
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
        let topic = &self.shared.config.topics.alerts;
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

/// Adds to what is opened together; gives back what must wait until that is done.
fn also_open(opens: &mut VecDeque<Asked>, ask: Ask) -> Option<Ask> {
    match ask {
        // A second claim of one partition must come after the first.
        Ask::Open(asked) if opens.iter().all(|open| open.name != asked.name) => {
            opens.push_back(asked);
            None
        }
        other => Some(other),
    }
}

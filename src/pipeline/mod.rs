//! The service: topics, clients, ingest, detect, reload, probes, and a stop that leaves nothing
//! behind. [`run`] is the whole life of a process; [`start`] gives the same to a caller that wants
//! to watch and stop it, such as the demo.
//!
//! Threads, and who owns what: `ingest` owns inputs, router and output; `detect` polls and hands
//! whole messages to `detect-<n>`, each of which alone owns its engines; `reload` watches the
//! rules; `alerts` serves delivery reports. Between them are bounded rings and published
//! snapshots, nothing else.

mod busy;
pub mod canary;
mod certificates;
pub mod clock;
pub mod detect;
pub mod ingest;
mod outage;
pub mod publish;
mod reload;
pub mod system;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use self::publish::Publisher;
use crate::{
    config::{Config, Watched},
    event::GroupBy,
    http::{self, BuildInfo, Health, STARTING, Service},
    kafka::{
        Error,
        group::Member,
        topics::{Cluster, Topics},
    },
    metrics::{Metrics, Role},
    rules::RuleSet,
};

/// Key of the hash of group keys. It decides partitions and slots and outlives every process, so
/// it never changes.
pub const SEED: (u64, u64) = (0x7368_6172_6564_2d6e, 0x6f74_6869_6e67_2d31);
/// A loop that has not come round for this long is stuck; longer than any single call it makes.
pub const STUCK_AFTER: Duration = Duration::from_mins(1);

/// Why a role is not ready, as `/readyz` keeps it apart.
pub mod cause {
    /// The broker does not answer.
    pub const BROKER: &str = "broker";
    /// The group has not assigned partitions yet.
    pub const ASSIGNMENT: &str = "assignment";
    /// What was there at the assignment is not applied yet.
    pub const CATCH_UP: &str = "catch_up";
    /// A delivery failed.
    pub const WRITING: &str = "writing";
    /// The process was told to stop.
    pub const STOPPING: &str = "stopping";
}

/// Between two attempts to reach the broker at start.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// What all threads of a pipeline share. Everything in it is immutable, atomic or published whole.
pub struct Shared {
    /// As loaded.
    pub config: Config,
    /// As found.
    pub cluster: Cluster,
    /// Of the process.
    pub metrics: Arc<Metrics>,
    /// For the probes.
    pub health: Arc<Health>,
    /// In force.
    pub rules: ArcSwap<RuleSet>,
    /// To the alert topic.
    pub publisher: Publisher,
    stop: Arc<Stop>,
    failure: OnceLock<String>,
}

impl Shared {
    /// Something is beyond repair: stops the pipeline, which then ends with this reason.
    fn fail(&self, reason: String) {
        error!("{reason}");
        // A later reason is a consequence of the first.
        let _ = self.failure.set(reason);
        self.stop.request();
    }

    /// The id of a topic as rows name it; empty where there are none.
    fn topic_id(&self, member: &Member, topic: &str) -> Result<String, Error> {
        if self.cluster.is_embedded() { Ok(String::new()) } else { member.topic_id(topic) }
    }

    /// The groupings in use.
    #[must_use]
    pub fn routes(&self) -> Vec<GroupBy> {
        self.rules.load().routes()
    }

    /// A role has joined its group and has no partitions yet.
    fn wait_for_assignment(&self, role: Role) {
        let why = "waiting for an assignment from the group";
        self.health.not_ready(role, cause::ASSIGNMENT, why);
        self.health.ready(role, STARTING);
    }

    /// True once the process was told to stop.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stop.requested()
    }

    /// When a drain gives up; some way ahead while nobody asked to stop.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.stop.since().unwrap_or_else(Instant::now) + self.config.shutdown.drain_timeout
    }
}

/// A wish to stop, made once.
#[derive(Debug, Default)]
pub struct Stop {
    flag: AtomicBool,
    since: Mutex<Option<Instant>>,
}

impl Stop {
    /// Asks everything to drain and stop. The drain timeout runs from the first call.
    pub fn request(&self) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        self.flag.store(true, Ordering::Release);
    }

    /// True once asked.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    fn since(&self) -> Option<Instant> {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps, but not past the wish.
    fn sleep(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while !self.requested() && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// How [`start`] differs from a service.
#[derive(Clone, Debug)]
pub struct Options {
    /// Serve `/metrics` and the probes.
    pub http: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { http: true }
    }
}

/// A pipeline that runs. Dropping it stops it without waiting for a verdict.
pub struct Handle {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    stop: Arc<Stop>,
    main: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Handle {
    /// Everything that is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What the probes say.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// The wish to stop, for a signal handler.
    #[must_use]
    pub fn stop_switch(&self) -> Arc<Stop> {
        Arc::clone(&self.stop)
    }

    /// True when the pipeline has ended, by itself or as told.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.main.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until every role is ready; false when it ended or the time was up first.
    #[must_use]
    pub fn wait_ready(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        while Instant::now() < until && !self.is_finished() {
            if self.health.reasons().is_empty() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Stops fetching, drains, commits, leaves the groups; returns how that went.
    ///
    /// # Errors
    /// A client was beyond use, or the drain did not end within `shutdown.drain_timeout`.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.stop.request();
        self.join()
    }

    /// Waits for the end, however it comes.
    ///
    /// # Errors
    /// As [`Self::stop`].
    pub fn join(&mut self) -> anyhow::Result<()> {
        match self.main.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => anyhow::bail!("a thread of the pipeline panicked"),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.request();
    }
}

/// Runs until a signal says stop, or something is beyond repair.
///
/// # Errors
/// Topics are missing or unfit ([`crate::kafka::Error::Topics`]: exit 78), a client is beyond use,
/// or the drain did not end in time.
pub fn run(config: Config) -> anyhow::Result<()> {
    let mut handle = start(config, Options::default())?;
    watch_signals(&handle.stop_switch())?;
    handle.join()
}

/// Starts a pipeline in threads of its own and returns at once.
///
/// # Errors
/// A thread cannot be started.
#[expect(clippy::needless_pass_by_value, reason = "options may come to own things")]
pub fn start(config: Config, options: Options) -> anyhow::Result<Handle> {
    let metrics = Arc::new(Metrics::new());
    let roles = roles(&config);
    let health = Arc::new(Health::new(roles.clone()));
    let stop = Arc::new(Stop::default());
    let ended = Arc::new(AtomicBool::new(false));
    if options.http {
        let service = Service {
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            build: BuildInfo::current(),
        };
        serve_http(config.http.listen, service, Arc::clone(&ended))?;
    }
    let parts = (Arc::clone(&metrics), Arc::clone(&health), Arc::clone(&stop));
    let main = thread::Builder::new().name("pipeline".to_owned()).spawn(move || {
        let outcome = supervise(config, &roles, parts.0, parts.1, parts.2);
        ended.store(true, Ordering::Release);
        outcome
    })?;
    Ok(Handle { metrics, health, stop, main: Some(main) })
}

fn roles(config: &Config) -> Vec<Role> {
    let mut roles = Vec::new();
    if config.roles.ingest {
        roles.push(Role::Ingest);
    }
    if config.roles.detect {
        roles.push(Role::Detect);
    }
    roles
}

/// From the first question to the broker to the last alert delivered.
fn supervise(
    config: Config,
    roles: &[Role],
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    stop: Arc<Stop>,
) -> anyhow::Result<()> {
    // Before the broker is waited for: rules may be changed meanwhile.
    let watched = Watched::of(&config);
    let Some(cluster) = find_topics(&config, roles, &health, &stop)? else { return Ok(()) };
    let in_force = Arc::new(config.rule_set());
    metrics.rules_in_force(&in_force, clock::now());
    health.set_rules_revision(&in_force.revision);
    if config.canary.is_some() && config.roles.detect {
        metrics.canaries_awaited();
    }
    if config.roles.detect {
        metrics.window_memory_limit.set(exact(config.detect.memory_limit));
    }
    let publisher = Publisher::new(&config, Arc::clone(&metrics))?;
    let shared = Arc::new(Shared {
        rules: ArcSwap::new(in_force),
        config,
        cluster,
        metrics,
        health,
        publisher,
        stop,
        failure: OnceLock::new(),
    });
    let reload = reload::watch(&shared, watched)?;
    let mut threads = Vec::new();
    for role in roles {
        let owned = Arc::clone(&shared);
        let body = match role {
            Role::Ingest => ingest::run,
            Role::Detect => detect::run,
        };
        let thread = thread::Builder::new().name(role.as_str().to_owned()).spawn(move || {
            let outcome = body(&owned);
            // Whichever way one role ends, the other has no reason to go on.
            owned.stop.request();
            outcome
        })?;
        threads.push((*role, thread));
    }
    info!(
        roles = ?roles.iter().map(|role| role.as_str()).collect::<Vec<_>>(),
        cluster = shared.cluster.id,
        partitions = shared.cluster.events_partitions,
        rules = shared.rules.load().rules.len(),
        "pipeline started"
    );
    let mut outcome = Ok(());
    for (role, thread) in threads {
        let ended = thread
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of {} panicked", role.as_str())));
        if let Err(cause) = ended.with_context(|| format!("{} failed", role.as_str())) {
            error!("{cause:#}");
            outcome = outcome.and(Err(cause));
        }
    }
    // The watcher holds nothing that needs saving.
    let _ = reload.join();
    if !shared.publisher.drain(shared.deadline()) {
        let left = shared.publisher.pending();
        let late = Err(anyhow::anyhow!("stopped with {left} alerts unacknowledged"));
        outcome = outcome.and(late);
    }
    info!("pipeline stopped");
    match shared.failure.get() {
        Some(reason) => Err(anyhow::anyhow!(reason.clone())),
        None => outcome,
    }
}

/// Waits for the broker and puts the topics in order; none when told to stop meanwhile.
fn find_topics(
    config: &Config,
    roles: &[Role],
    health: &Health,
    stop: &Stop,
) -> anyhow::Result<Option<Cluster>> {
    let topics = Topics::new(config)?;
    while !stop.requested() {
        match topics.ensure() {
            Ok(cluster) => {
                for warning in &cluster.warnings {
                    warn!("{warning}");
                }
                for role in roles {
                    health.ready(*role, cause::BROKER);
                }
                return Ok(Some(cluster));
            }
            Err(cause) if cause.is_transient() => {
                warn!("{cause}; trying again in {} s", RETRY_AFTER.as_secs());
                for role in roles {
                    health.not_ready(*role, cause::BROKER, cause.to_string());
                }
                stop.sleep(RETRY_AFTER);
            }
            Err(cause) => return Err(cause.into()),
        }
    }
    Ok(None)
}

#[expect(clippy::cast_precision_loss, reason = "a gauge; memory sizes are far below 2^53")]
fn exact(bytes: u64) -> f64 {
    bytes as f64
}

/// SIGTERM or Ctrl-C asks to stop; a second one ends the process at once.
///
/// # Errors
/// The thread that waits for them cannot be started.
pub fn watch_signals(stop: &Arc<Stop>) -> anyhow::Result<()> {
    let stop = Arc::clone(stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            if let Err(cause) = signal().await {
                error!("signals cannot be watched: {cause}");
                return;
            }
            info!("stopping: draining what was read");
            stop.request();
            if signal().await.is_ok() {
                warn!("stopping at once; what was not committed is read again at the next start");
                std::process::exit(1);
            }
        });
    })?;
    Ok(())
}

async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// Opens the port before anything else starts, then serves it until the pipeline has ended.
fn serve_http(listen: SocketAddr, service: Service, ended: Arc<AtomicBool>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(http::bind(listen))?;
    info!(address = %listener.local_addr()?, "probes and metrics are served");
    thread::Builder::new().name("http".to_owned()).spawn(move || {
        let end = async {
            while !ended.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if let Err(cause) = runtime.block_on(http::serve(listener, service, end)) {
            error!("probes and metrics are no longer served: {cause}");
        }
    })?;
    Ok(())
}

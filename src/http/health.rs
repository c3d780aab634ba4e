//! What the loops say of themselves: whether they are ready, and that they still turn.
//!
//! Ready means able to do the work now; alive means that every loop has turned lately; started,
//! that every role had its first assignment and has restored it. The first is for load balancers
//! and people, the second for whoever restarts the process, so a broker that is away makes it
//! unready but not dead; the third for whoever waits for a start, and it stays. A backlog belongs
//! to the first alone: to read days of it is no failed start.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::metrics::Role;

/// The cause every role has until [`Health::ready`] takes it away.
pub const STARTING: &str = "starting";

/// Shared by all loops and the probes. The lock is taken on changes and probes, never per batch.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Why a role is not ready, by role and cause.
    reasons: BTreeMap<(Role, &'static str), String>,
    /// Roles that have not started yet.
    unstarted: BTreeSet<Role>,
    loops: Vec<Loop>,
    rules_revision: String,
}

#[derive(Debug)]
struct Loop {
    name: String,
    max_age: Duration,
    turned_ms: Weak<AtomicU64>,
}

/// A loop that has not turned for longer than it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Name of the loop.
    pub name: String,
    /// Since it turned last.
    pub age: Duration,
    /// The longest it may be.
    pub max_age: Duration,
}

/// A loop's sign of life; when it is dropped the loop has ended and is no longer asked for.
#[derive(Debug)]
pub struct Heartbeat {
    started: Instant,
    turned_ms: Arc<AtomicU64>,
}

impl Heartbeat {
    /// The loop has turned.
    pub fn beat(&self) {
        self.turned_ms.store(millis(self.started.elapsed()), Ordering::Relaxed);
    }
}

impl Health {
    /// Every one of `roles` is starting.
    #[must_use]
    pub fn new(roles: impl IntoIterator<Item = Role>) -> Self {
        let unstarted: BTreeSet<Role> = roles.into_iter().collect();
        let starting = |role: &Role| ((*role, STARTING), "starting".to_owned());
        let reasons = unstarted.iter().map(starting).collect();
        let state = Mutex::new(State { reasons, unstarted, ..State::default() });
        Self { started: Instant::now(), state }
    }

    /// `role` is not ready because of `cause`, in words for people. The words of a cause already
    /// known are replaced.
    pub fn not_ready(&self, role: Role, cause: &'static str, reason: impl Into<String>) {
        self.state().reasons.insert((role, cause), reason.into());
    }

    /// `cause` no longer keeps `role` from being ready.
    pub fn ready(&self, role: Role, cause: &'static str) {
        self.state().reasons.remove(&(role, cause));
    }

    /// `role` was assigned partitions, perhaps none, and has restored them.
    pub fn started(&self, role: Role) {
        self.state().unstarted.remove(&role);
    }

    /// Why this process is not ready; empty when it is.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let state = self.state();
        let all = state.reasons.iter();
        all.map(|((role, _), reason)| format!("{}: {reason}", role.as_str())).collect()
    }

    /// Why this process has not started: what keeps roles from being ready that have not. Empty
    /// from then on, whatever happens later.
    #[must_use]
    pub fn unstarted(&self) -> Vec<String> {
        let state = self.state();
        let all = state.reasons.iter().filter(|((role, _), _)| state.unstarted.contains(role));
        all.map(|((role, _), reason)| format!("{}: {reason}", role.as_str())).collect()
    }

    /// Registers a loop that must turn at least every `max_age`; it counts as turning now.
    #[must_use]
    pub fn heartbeat(&self, name: impl Into<String>, max_age: Duration) -> Heartbeat {
        let turned_ms = Arc::new(AtomicU64::new(0));
        let heartbeat = Heartbeat { started: self.started, turned_ms };
        heartbeat.beat();
        let turned_ms = Arc::downgrade(&heartbeat.turned_ms);
        self.state().loops.push(Loop { name: name.into(), max_age, turned_ms });
        heartbeat
    }

    /// Loops that have not turned for longer than they may, as of now.
    #[must_use]
    pub fn stalled(&self) -> Vec<Stalled> {
        self.stalled_after(self.started.elapsed())
    }

    /// `now` since the start.
    fn stalled_after(&self, now: Duration) -> Vec<Stalled> {
        let mut state = self.state();
        state.loops.retain(|one| one.turned_ms.strong_count() > 0);
        let stalled = |one: &Loop| {
            let turned = Duration::from_millis(one.turned_ms.upgrade()?.load(Ordering::Relaxed));
            let (age, max_age) = (now.saturating_sub(turned), one.max_age);
            (age > max_age).then(|| Stalled { name: one.name.clone(), age, max_age })
        };
        state.loops.iter().filter_map(stalled).collect()
    }

    /// The rules in force, for `/buildinfo`.
    pub fn set_rules_revision(&self, revision: &str) {
        revision.clone_into(&mut self.state().rules_revision);
    }

    /// What [`Self::set_rules_revision`] said last.
    #[must_use]
    pub fn rules_revision(&self) -> String {
        self.state().rules_revision.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the state as it was: each change is one insertion or removal.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_ready_when_no_role_has_a_cause_left() {
        let health = Health::new(Role::ALL);
        assert_eq!(health.reasons(), ["ingest: starting", "detect: starting"]);
        health.ready(Role::Ingest, STARTING);
        health.ready(Role::Detect, STARTING);
        assert!(health.reasons().is_empty());
        health.not_ready(Role::Detect, "broker", "no broker at 127.0.0.1:9092");
        health.not_ready(Role::Detect, "broker", "no broker at 127.0.0.1:9093");
        assert_eq!(health.reasons(), ["detect: no broker at 127.0.0.1:9093"]);
        health.ready(Role::Ingest, "broker");
        assert_eq!(health.reasons().len(), 1, "the cause of one role is not that of the other");
    }

    #[test]
    fn process_has_started_for_good_once_every_role_has() {
        let health = Health::new(Role::ALL);
        assert_eq!(health.unstarted(), ["ingest: starting", "detect: starting"]);
        health.ready(Role::Ingest, STARTING);
        health.started(Role::Ingest);
        health.not_ready(Role::Ingest, "broker", "no broker");
        assert_eq!(health.unstarted(), ["detect: starting"], "what has started stays so");
        health.not_ready(Role::Detect, "catch_up", "restoring 4 partitions");
        health.ready(Role::Detect, STARTING);
        assert_eq!(health.unstarted(), ["detect: restoring 4 partitions"]);
        health.not_ready(Role::Detect, "catch_up", "catching up, 9 messages behind the start");
        health.started(Role::Detect);
        assert!(health.unstarted().is_empty(), "a backlog is no part of a start");
        health.not_ready(Role::Detect, "stopping", "stopping");
        assert!(health.unstarted().is_empty());
        assert_eq!(health.reasons().len(), 3);
    }

    #[test]
    fn loop_is_stalled_only_after_its_own_age() {
        let health = Health::new([]);
        let heart = health.heartbeat("ingest", Duration::from_secs(10));
        let age = |s| Duration::from_millis(heart.turned_ms.load(Ordering::Relaxed)) + s;
        assert!(health.stalled_after(age(Duration::from_secs(10))).is_empty());
        let stalled = health.stalled_after(age(Duration::from_millis(10_001)));
        assert_eq!(stalled.len(), 1);
        assert_eq!((stalled[0].name.as_str(), stalled[0].age.as_millis()), ("ingest", 10_001));
    }

    #[test]
    fn loop_that_ended_is_not_asked_for() {
        let health = Health::new([]);
        drop(health.heartbeat("detect", Duration::ZERO));
        assert!(health.stalled_after(Duration::from_hours(1)).is_empty());
    }
}

//! What the probes say: ready when every role has its partitions and has caught up, live while the
//! poll loops move. Never the reachability of the broker: a restart would not mend that.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::metrics::Role;

/// A loop that has not come round for this long is stuck. Longer than any single call it makes.
pub const STUCK_AFTER: Duration = Duration::from_secs(60);

/// State of the roles, written by their threads and read by the probes.
#[derive(Debug)]
pub struct Status {
    started: Instant,
    roles: Vec<RoleStatus>,
}

#[derive(Debug)]
struct RoleStatus {
    role: Role,
    /// Why it is not ready; empty when it is.
    waiting: Mutex<String>,
    /// Milliseconds after the start at which its loop last came round.
    beat_ms: AtomicU64,
}

impl Status {
    /// For the roles of this process; none is ready yet.
    #[must_use]
    pub fn new(roles: &[Role]) -> Self {
        let status = |role: &Role| RoleStatus {
            role: *role,
            waiting: Mutex::new("starting".to_owned()),
            beat_ms: AtomicU64::new(0),
        };
        Self { started: Instant::now(), roles: roles.iter().map(status).collect() }
    }

    /// The role is not ready, and why.
    pub fn waiting(&self, role: Role, why: &str) {
        self.set(role, why);
    }

    /// The role is ready.
    pub fn ready(&self, role: Role) {
        self.set(role, "");
    }

    /// No role is ready, and why.
    pub fn all_waiting(&self, why: &str) {
        for role in &self.roles {
            self.set(role.role, why);
        }
    }

    fn set(&self, role: Role, why: &str) {
        if let Some(status) = self.roles.iter().find(|status| status.role == role) {
            let mut waiting = status.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if *waiting != why {
                why.clone_into(&mut waiting);
            }
        }
    }

    /// The role's loop has come round.
    pub fn beat(&self, role: Role) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        for status in self.roles.iter().filter(|status| status.role == role) {
            status.beat_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Why the process is not ready, one line a role; empty when it is.
    #[must_use]
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        for status in &self.roles {
            let waiting = status.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if !waiting.is_empty() {
                reasons.push(format!("{}: {waiting}", status.role.as_str()));
            }
        }
        reasons
    }

    /// Why the process is not live, one line a role; empty when it is.
    #[must_use]
    pub fn not_live(&self) -> Vec<String> {
        let now = self.started.elapsed();
        let mut reasons = Vec::new();
        for status in &self.roles {
            let beat = Duration::from_millis(status.beat_ms.load(Ordering::Relaxed));
            let still = now.saturating_sub(beat);
            if still > STUCK_AFTER {
                let role = status.role.as_str();
                reasons.push(format!("{role}: its loop has not moved for {} s", still.as_secs()));
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_ready_only_when_every_role_is() {
        let status = Status::new(&Role::ALL);
        assert_eq!(status.not_ready(), ["ingest: starting", "detect: starting"]);
        status.ready(Role::Ingest);
        status.waiting(Role::Detect, "12 records behind");
        assert_eq!(status.not_ready(), ["detect: 12 records behind"]);
        status.ready(Role::Detect);
        assert!(status.not_ready().is_empty());
        status.all_waiting("no broker");
        assert_eq!(status.not_ready().len(), 2);
    }

    #[test]
    fn a_role_that_is_not_of_this_process_is_not_waited_for() {
        let status = Status::new(&[Role::Ingest]);
        status.ready(Role::Ingest);
        status.waiting(Role::Detect, "elsewhere");
        assert!(status.not_ready().is_empty());
        assert!(status.not_live().is_empty());
    }
}

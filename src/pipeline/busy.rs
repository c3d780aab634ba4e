//! How much of its time a loop works: what it does not spend waiting.

use std::time::{Duration, Instant};

use crate::metrics::{Metrics, Role, family::Seconds};

/// The clock of one loop.
pub(super) struct Busy {
    seconds: Seconds,
    since: Instant,
}

impl Busy {
    /// Of the loop `thread` of `role`; working from now on.
    pub(super) fn new(metrics: &Metrics, role: Role, thread: &str) -> Self {
        let seconds = metrics.busy_seconds.with_label_values(&[role.as_str(), thread]);
        Self { seconds, since: Instant::now() }
    }

    /// [`Self::idle`] if it may wait for as long as `timeout`; at once, the clock is not asked.
    pub(super) fn idle_for<T>(&mut self, timeout: Duration, wait: impl FnOnce() -> T) -> T {
        if timeout.is_zero() { wait() } else { self.idle(wait) }
    }

    /// Waits in `wait`, which does not count.
    pub(super) fn idle<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        self.seconds.inc_by(self.since.elapsed().as_secs_f64());
        let waited = wait();
        self.since = Instant::now();
        waited
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn what_is_waited_does_not_count_and_what_is_worked_does() {
        let metrics = Metrics::new();
        let mut busy = Busy::new(&metrics, Role::Detect, "worker-0");
        let started = Instant::now();
        busy.idle(|| sleep(Duration::from_millis(200)));
        let idle = started.elapsed().as_secs_f64();
        sleep(Duration::from_millis(20));
        busy.idle(|| ());
        let whole = started.elapsed().as_secs_f64();
        let counted = metrics.busy_seconds.with_label_values(&["detect", "worker-0"]).get();
        assert!(counted >= 0.02 && counted <= whole - 0.2, "{counted} of {whole}, {idle} idle");
    }
}

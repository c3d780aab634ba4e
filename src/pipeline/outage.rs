//! A broker that is away while we run: readiness says so, and one line every few seconds.

use std::time::{Duration, Instant};

use rdkafka::Statistics;
use tracing::{info, warn};

use super::{Shared, cause};
use crate::metrics::Role;

/// Between two lines about the same outage.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// What one role knows of an outage.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    said: Option<Instant>,
}

impl Outage {
    /// No broker answers: what was last heard of the ends of topics is stale.
    pub(super) const fn is_on(&self) -> bool {
        self.since.is_some()
    }
}

impl Shared {
    /// Takes note of a consumer's connections. librdkafka reconnects by itself.
    pub(super) fn note_brokers(&self, role: Role, statistics: &Statistics, outage: &mut Outage) {
        let up = statistics.brokers.values().any(|broker| broker.state == "UP");
        let role_name = role.as_str();
        if up {
            if let Some(since) = outage.since.take() {
                info!(role = role_name, seconds = since.elapsed().as_secs(), "broker is back");
            }
            outage.said = None;
            self.health.ready(role, cause::BROKER);
            return;
        }
        let since = *outage.since.get_or_insert_with(Instant::now);
        let servers = &self.config.kafka.bootstrap_servers;
        let reason =
            format!("no connection to the broker at {servers} for {} s", since.elapsed().as_secs());
        if outage.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            outage.said = Some(Instant::now());
            warn!(role = role_name, "{reason}; reconnecting");
        }
        self.health.not_ready(role, cause::BROKER, reason);
    }
}

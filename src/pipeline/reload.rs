//! Watches the rule files and puts changed rules in force (DESIGN 9): workers take them at their
//! next batch boundary, ingest at a committed boundary. A bad change keeps the rules in force.
//! Also here, because it is slow: saying which have matched nothing for a day, and when
//! certificates expire.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{Shared, certificates::Certificates, clock, system::Condition};
use crate::{
    alert::SystemKind,
    config::{Config, Loaded, Watched},
    rules::{Severity, written},
};

/// Between two looks at the files.
const EVERY: Duration = Duration::from_secs(1);
/// Between two looks for silent rules and at certificates.
const SLOW_EVERY: Duration = Duration::from_mins(1);
/// A rule or catalogue entry that has matched nothing for this long is probably wrong.
const SILENT_AFTER_S: f64 = 24.0 * 3600.0;
/// Scope of the reload alert.
const SCOPE: &str = "rules";

/// Starts the watcher; it ends with the pipeline. `watched` are the files of the rules in force.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn watch(shared: &Arc<Shared>, mut watched: Watched) -> std::io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    thread::Builder::new().name("reload".to_owned()).spawn(move || {
        let mut slow_at = Instant::now();
        let mut silent = BTreeMap::new();
        let mut certificates = Certificates::default();
        certificates.look(&shared);
        while !shared.stopping() {
            shared.stop.sleep(EVERY);
            if watched.have_changed() {
                reload(&shared, &mut watched);
            }
            if slow_at.elapsed() >= SLOW_EVERY {
                slow_at = Instant::now();
                warn_of_silence(&shared, &mut silent);
                certificates.look(&shared);
            }
        }
    })
}

/// Loads the rules again; publishes them if they are good and different.
fn reload(shared: &Shared, watched: &mut Watched) {
    let count = |result| {
        shared.metrics.rule_reloads.with_label_values(&[result]).inc();
        shared.metrics.rules_refused.set(f64::from(u8::from(result == "refused")));
    };
    let Loaded { config, warnings } = match watched.load() {
        Ok(loaded) => loaded,
        Err(faults) => {
            count("refused");
            warn!("changed rules are refused, those in force stay:\n{faults}");
            let revision = shared.rules.load().revision.clone();
            shared.publisher.raise(Condition {
                kind: SystemKind::Reload,
                scope: SCOPE.to_owned(),
                severity: Severity::Medium,
                message: format!(
                    "changed rules were refused and revision {revision} stays in force: {faults}"
                ),
                details: vec![("revision", revision)],
            });
            return;
        }
    };
    for warning in warnings {
        warn!("{warning}");
    }
    let others = shared.config.differs_in(&config);
    if !others.is_empty() {
        warn!("changed outside the rules: {}; that takes a restart", others.join(", "));
    }
    // A key takes a restart, and so does the rule that goes with it.
    let config = Config { canary: shared.config.canary.clone(), ..config };
    let rules = Arc::new(config.rule_set());
    let before = shared.rules.load_full();
    let message =
        format!("revision {} is in force with {} rules", rules.revision, rules.rules.len());
    if rules.revision == before.revision {
        count("unchanged");
    } else {
        shared.metrics.rules_in_force(&rules, clock::now());
        shared.health.set_rules_revision(&rules.revision);
        shared.rules.store(rules);
        count("applied");
        info!(before = before.revision, "rules changed: {message}");
        // Closed at once below: a change is news, not a condition.
        shared.publisher.clear(SystemKind::Reload, SCOPE, &message);
        shared.publisher.raise(Condition {
            kind: SystemKind::Reload,
            scope: SCOPE.to_owned(),
            severity: Severity::Informational,
            message: message.clone(),
            details: vec![("before", before.revision.clone())],
        });
    }
    shared.publisher.clear(SystemKind::Reload, SCOPE, &message);
}

/// Warns once a day of rules and catalogue entries that match nothing: as a rule a wrong glob.
fn warn_of_silence(shared: &Shared, warned: &mut BTreeMap<String, f64>) {
    #[expect(clippy::cast_precision_loss, reason = "seconds since the epoch")]
    let now = clock::now().millis() as f64 / 1000.0;
    let mut look = |what: &str, name: &str, last: f64| {
        let silent = now - last >= SILENT_AFTER_S;
        let key = format!("{what} `{name}`");
        let lately = warned.get(&key).is_some_and(|at| now - at < SILENT_AFTER_S);
        if silent && !lately {
            warn!(
                "{key} has matched nothing for 24 h on this member; `exfilwatch check --online` \
                 shows what the inputs hold"
            );
            warned.insert(key, now);
        }
    };
    if shared.config.roles.detect {
        // Canaries come when somebody sends one.
        let rules = shared.rules.load();
        for rule in rules.rules.iter().filter(|rule| rule.id != written::CANARY) {
            let last = shared.metrics.rule_last_matched.with_label_values(&[rule.id.as_str()]);
            look("rule", &rule.id, last.get());
        }
    }
    if shared.config.roles.ingest {
        for entry in &shared.config.catalog {
            let name = entry.object.as_str();
            let last = shared.metrics.catalog_last_matched.with_label_values(&[name]);
            look("catalogue entry", name, last.get());
        }
    }
}

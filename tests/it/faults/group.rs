//! A deployment under faults: its members, the flow through them, and the end of it all.

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    Random,
    flow::{Closes, Fold, PARTITIONS, Shape, Tap, pour, probe},
    outcome::{CENSUS_RULE, Outcome, accepted_checkpoints},
    until,
    watch::Watch,
};
use crate::{
    kafka::Client,
    service::{Service, Setup},
    steps::{applied, one_input},
};

/// Alerts and checkpoints in one transaction (D4).
pub(super) const TRANSACTIONS: &str = "alerts: {transactional: true}\n";
/// Members to begin with.
pub(super) const MEMBERS: usize = 3;
/// The session time-out of the tests.
pub(super) const SESSION: Duration = Duration::from_secs(5);
/// A member that is asked to stop has ended by then.
pub(super) const EXIT_MAX: Duration = Duration::from_secs(20);
/// A member is ready by then, whatever the others are going through.
const READY_MAX: Duration = Duration::from_mins(1);
/// Everything is counted and told within this time after the last event.
const SETTLED_MAX: Duration = Duration::from_mins(3);
/// The sum of what members say stays for so long before it is believed: while partitions move,
/// none or two of them may show one.
const STAYS: Duration = Duration::from_secs(2);

/// What is done to a deployment.
pub(super) struct Plan {
    /// Of the fault matrix.
    pub(super) row: u32,
    pub(super) name: &'static str,
    /// Of the configuration.
    pub(super) more: &'static str,
    /// `kafka.properties`.
    pub(super) properties: &'static [(&'static str, &'static str)],
    /// Copies of each topic.
    pub(super) copies: u32,
    pub(super) shape: Shape,
    /// At least so many of each.
    pub(super) events: usize,
    pub(super) faults: usize,
}

impl Plan {
    /// A row with nothing special in it.
    pub(super) fn of(row: u32, name: &'static str, shape: Shape) -> Self {
        let (properties, copies) = (&[][..], 1);
        Self { row, name, more: "", properties, copies, shape, events: 0, faults: 0 }
    }
}

/// Members of one deployment, and what is known of those that are gone.
pub(super) struct Group<'a> {
    setup: &'a Setup,
    lines: String,
    pub(super) members: Vec<Service>,
    pub(super) random: Random,
    pub(super) faults: usize,
    /// Checkpoints that were refused to members that have ended.
    refused: i64,
    /// The longest that a member took to end after it was asked to.
    slowest_stop: Duration,
}

impl Group<'_> {
    pub(super) fn start(&mut self) {
        self.members.push(self.setup.start(&self.lines));
    }

    /// The next fault hits this member.
    pub(super) fn take_one(&mut self) -> Service {
        let one = self.random.index(self.members.len());
        self.take(one)
    }

    pub(super) fn take(&mut self, one: usize) -> Service {
        self.members.remove(one)
    }

    /// Ends a member as a crash would.
    pub(super) fn kill(&mut self, member: Service) {
        self.refused += refused(&member);
        member.kill();
    }

    /// Asks a member to stop, and holds it to that.
    pub(super) fn stop(&mut self, mut member: Service) {
        self.refused += refused(&member);
        let asked = Instant::now();
        let status = member.stop_within(EXIT_MAX);
        self.slowest_stop = self.slowest_stop.max(asked.elapsed());
        assert!(status.success(), "{status} after SIGTERM");
    }

    /// Waits until every member is ready.
    pub(super) fn ready(&mut self) {
        let is_ready = |one: &Service| one.get("/readyz").is_some_and(|(status, _)| status == 200);
        until("readiness of every member", READY_MAX, || {
            self.all_there();
            self.members.iter().all(is_ready)
        });
    }

    /// Waits for some time between two.
    pub(super) fn pause(&mut self, from_s: u64, to_s: u64) {
        let (from, to) = (Duration::from_secs(from_s), Duration::from_secs(to_s));
        thread::sleep(self.random.between(from, to));
    }

    /// Nobody ends without being asked or killed.
    fn all_there(&mut self) {
        for member in &mut self.members {
            let ended = member.ended();
            assert!(ended.is_none(), "a member ended by itself: {ended:?}");
        }
    }
}

/// Checkpoints that were refused to a process that can still be asked.
fn refused(member: &Service) -> i64 {
    member.metrics().sum("exfilwatch_checkpoints_total", &[("result", "failed")])
}

/// Lets a flow go through a deployment while `fault` is done to it again and again, until there
/// were enough events and faults; then compares everything. `fault` waits for its own time.
pub(super) fn under(kafka: &Client, plan: &Plan, mut fault: impl FnMut(&mut Group<'_>)) {
    let setup = Setup::new(kafka, plan.name);
    setup.create_topics(match plan.copies {
        3 => "{partitions: 6, replication: 3}",
        _ => "{partitions: 6, replication: 1}",
    });
    plan.properties.iter().for_each(|(name, value)| setup.property(name, value));
    let topic = setup.input("json", PARTITIONS);
    let lines = one_input(&topic) + "detect: {checkpoint_interval: 1s}\n" + plan.more;
    let random = Random(Random::seed());
    let (members, faults, refused) = (Vec::new(), 0, 0);
    let slowest_stop = Duration::ZERO;
    let mut group = Group { setup: &setup, lines, members, random, faults, refused, slowest_stop };
    (0..MEMBERS).for_each(|_| group.start());
    group.ready();
    let watch = Watch::start(setup.committed_reader("alerts"));

    let tap = Tap::default();
    let mut fold = thread::scope(|scope| {
        let (topic, tap) = (&topic, &tap);
        let _closed = Closes(tap);
        let producer = scope.spawn(move || pour(kafka, topic, plan.shape, plan.events, tap));
        while group.faults < plan.faults || tap.events.load(Ordering::Relaxed) < plan.events {
            assert!(!producer.is_finished(), "the flow has stopped");
            fault(&mut group);
            group.all_there();
        }
        tap.enough.store(true, Ordering::Relaxed);
        producer.join().expect("the flow")
    });
    let behind = settle(&mut group, &fold, &watch);
    let mut outcome =
        Outcome { row: plan.row, name: plan.name, faults: group.faults, ..Outcome::default() };
    outcome.timely(&fold, &watch.seen());
    outcome.events = fold.events;
    for member in std::mem::take(&mut group.members) {
        group.stop(member);
    }
    outcome.more.insert("checkpoints_accepted", json!(accepted_checkpoints(&setup)));
    census(kafka, &mut group, &topic, &mut fold, &watch);
    finish(&mut outcome, &group, &fold, &watch);
    outcome.more.insert("counted_after_s", json!(seconds(behind)));
    outcome.say();
    outcome.check();
    assert!(outcome.repeats == 0 || plan.more != TRANSACTIONS, "alerts came twice");
    // Who is asked to leave is followed before anybody waits.
    assert!(outcome.late == Some(0) || plan.row != 2, "alerts are late");
    let told = watch.seen().system.clone();
    for kind in ["exfilwatch.data-gap", "exfilwatch.account"] {
        assert!(!told.contains_key(kind), "nothing is missing, but: {told:?}");
    }
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// Waits until every row is counted, and no more than that, and every alert is out; how long it
/// took.
fn settle(group: &mut Group<'_>, fold: &Fold, watch: &Watch) -> Duration {
    let (started, rows) = (Instant::now(), i64::try_from(fold.events).unwrap());
    let (mut last, mut stays_since) = (-1, Instant::now());
    loop {
        group.all_there();
        let counted = group.members.iter().map(applied).sum::<i64>();
        if counted != last {
            (last, stays_since) = (counted, Instant::now());
        }
        let seen = watch.seen();
        let missing = fold.due.keys().filter(|id| !seen.first.contains_key(*id)).count();
        drop(seen);
        if counted == rows && missing == 0 && stays_since.elapsed() >= STAYS {
            return started.elapsed().saturating_sub(STAYS);
        }
        assert!(
            started.elapsed() < SETTLED_MAX,
            "{counted} of {rows} rows are counted and {missing} alerts are missing"
        );
        thread::sleep(Duration::from_millis(100));
    }
}

/// One process goes on from the state that the others have left, under one rule more, and tells
/// of everybody how much they have read.
fn census(kafka: &Client, group: &mut Group<'_>, topic: &str, fold: &mut Fold, watch: &Watch) {
    group.setup.rules("census.yaml", CENSUS_RULE);
    group.start();
    group.ready();
    probe(&mut kafka.stream(), topic, fold);
    let started = Instant::now();
    loop {
        let seen = watch.seen();
        let all = seen.census.len() >= fold.rows.len();
        let missing = fold.due.keys().any(|id| !seen.first.contains_key(id));
        drop(seen);
        if (all && !missing) || started.elapsed() > SETTLED_MAX {
            break;
        }
        thread::sleep(Duration::from_millis(200));
    }
    // What should not come has a moment to come.
    thread::sleep(STAYS);
}

fn finish(outcome: &mut Outcome, group: &Group<'_>, fold: &Fold, watch: &Watch) {
    let seen = watch.seen();
    outcome.compare(fold, &seen);
    let refused = group.refused + group.members.iter().map(refused).sum::<i64>();
    outcome.more.insert("principals", json!(fold.rows.len()));
    outcome.more.insert("alerts_due", json!(fold.due.len()));
    outcome.more.insert("checkpoints_refused", json!(refused));
    outcome.more.insert("slowest_stop_s", json!(seconds(group.slowest_stop)));
    if !seen.system.is_empty() {
        outcome.more.insert("about_itself", json!(seen.system));
    }
}

//! The fault matrix on real processes: three members of a group work through a flow of events while
//! something happens to them, and the outcome is that of an offline fold.
//!
//! The short form runs with the other tests; `EXFILWATCH_FAULTS=N` makes every flow N times as
//! long, for the figures in docs/RELIABILITY.md.

use std::{
    collections::BTreeSet,
    env, thread,
    time::{Duration, Instant},
};

use crate::{
    events::{MINUTE_MS, Read, now_ms, rows_by_principal, spread},
    findings::{Finding, RULE},
    kafka::{self, Client, Compression},
    service::{Service, Setup},
    steps::{SOON, applied, one_input, produce},
};

const INPUT_PARTITIONS: i32 = 6;
const MEMBERS: usize = 3;
/// Events a second, and seconds of the short form.
const RATE: usize = 500;
const SHORT_S: usize = 24;
/// Alerts and checkpoints in one transaction (D4).
const TRANSACTIONS: &str = "alerts: {transactional: true}\n";
/// Members are settled, whatever happened to them, within this time.
const SETTLED: Duration = Duration::from_mins(2);

/// Members of one deployment, and how to start another.
struct Group<'a> {
    setup: &'a Setup,
    lines: String,
    members: Vec<Service>,
    /// A generator of its own, so that a run can be repeated.
    random: u64,
    faults: usize,
}

impl Group<'_> {
    fn start(&mut self) {
        self.members.push(self.setup.start(&self.lines));
    }

    /// The next of a sequence that is the same in every run (`SplitMix64`).
    fn below(&mut self, limit: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit as u64).unwrap()
    }

    fn take_one(&mut self) -> Service {
        self.faults += 1;
        let one = self.below(self.members.len());
        self.members.remove(one)
    }
}

/// Ordinary people, three thieves, and one who reads exactly as much as they may.
fn flow(events: usize) -> Vec<Read> {
    let (people, end) = (events / 100, now_ms() - 5 * MINUTE_MS);
    // Well inside the window of an hour, however long the flow takes.
    let step = 20 * MINUTE_MS / i64::try_from(events).unwrap();
    let at = |n: usize| end - 20 * MINUTE_MS + i64::try_from(n).unwrap() * step;
    let every = events / 500;
    (0..events)
        .map(|n| match (n % every, n / every) {
            (0, turn) if turn < 500 => Read::of("careful-0", at(n), 1),
            (1, turn) => Read::of(&format!("thief-{}", turn % 3), at(n), 9),
            _ => Read::of(&format!("agent-{}", n % people), at(n), 1),
        })
        .collect()
}

/// Produces a flow while `fault` happens about every `every`; then compares. `more` is of the
/// configuration.
fn under(name: &str, every: Duration, more: &str, fault: impl Fn(&mut Group<'_>)) {
    let Some(kafka) = kafka::shared() else { return };
    let times: usize = env::var("EXFILWATCH_FAULTS").map_or(1, |times| times.parse().unwrap());
    let seconds = SHORT_S * times;
    let setup = Setup::new(&kafka, name);
    setup.create_topics("{partitions: 6, replication: 1}");
    let topic = setup.input("json", INPUT_PARTITIONS);
    let mut lines = one_input(&topic) + "detect: {checkpoint_interval: 1s, threads: 1}\n";
    lines += more;
    let mut group = Group { setup: &setup, lines, members: Vec::new(), random: 7, faults: 0 };
    (0..MEMBERS).for_each(|_| group.start());
    group.members.iter().for_each(Service::ready);

    let reads = flow(RATE * seconds);
    let started = Instant::now();
    thread::scope(|scope| {
        let (kafka, topic, reads) = (&kafka, &topic, &reads);
        let producer = scope.spawn(move || pace(kafka, topic, reads));
        let mut next = started + every;
        while !producer.is_finished() {
            if Instant::now() >= next {
                fault(&mut group);
                next = Instant::now() + every;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    let behind = settle(&group, reads.len());
    let findings = compare(&kafka, &setup, &topic, &reads);
    let ids: BTreeSet<&String> = findings.iter().map(|finding| &finding.message).collect();
    let repeats = findings.len() - ids.len();
    assert!(repeats == 0 || more != TRANSACTIONS, "{repeats} alerts came twice");
    eprintln!(
        "{name}: {} events, {} faults, {repeats} alerts came again under the same id, all counted \
         {behind:.1?} after the last event",
        reads.len(),
        group.faults
    );
}

/// Ten portions a second.
fn pace(kafka: &Client, topic: &str, reads: &[Read]) {
    let started = Instant::now();
    for (portion, reads) in reads.chunks(RATE / 10).enumerate() {
        let due = started + Duration::from_millis(100) * u32::try_from(portion).unwrap();
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let messages = spread(reads.iter().map(Read::canonical), INPUT_PARTITIONS);
        kafka.produce(topic, Compression::Lz4, messages);
    }
}

/// Waits until every row is counted, and no more than that; how long it took.
fn settle(group: &Group<'_>, rows: usize) -> Duration {
    let started = Instant::now();
    let rows = i64::try_from(rows).unwrap();
    let counted = || group.members.iter().map(applied).sum::<i64>();
    // While partitions move, none or two members may show one; what stays is the outcome.
    let mut stays_since = Instant::now();
    let mut last = 0;
    loop {
        let now = counted();
        if now != last {
            (last, stays_since) = (now, Instant::now());
        }
        if now == rows && stays_since.elapsed() >= Duration::from_secs(3) {
            return started.elapsed().saturating_sub(Duration::from_secs(3));
        }
        assert!(started.elapsed() < SETTLED, "{now} of {rows} rows are counted");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Every alert there should be, none else, and each under one id.
fn compare(kafka: &Client, setup: &Setup, topic: &str, reads: &[Read]) -> Vec<Finding> {
    let mut guilty: BTreeSet<String> = rows_by_principal(reads)
        .into_iter()
        .filter_map(|(principal, rows)| (rows > 500).then_some(principal))
        .collect();
    let mut reader = setup.committed_reader("alerts");
    let found = |seen: &[kafka::Record]| -> BTreeSet<String> {
        Finding::all(seen, RULE).into_iter().map(|finding| finding.key).collect()
    };
    let seen = reader.until("every alert", SOON, |seen| found(seen).is_superset(&guilty));
    assert_eq!(found(seen), guilty, "nobody else is accused");
    // One record more of whoever read exactly as much as they may: not one was lost or repeated.
    produce(kafka, topic, &[Read::of("careful-0", now_ms() - MINUTE_MS, 1)]);
    guilty.insert("careful-0".to_owned());
    let seen = reader.until("the last alert", SOON, |seen| found(seen) == guilty);
    let findings = Finding::all(seen, RULE);
    let careful: Vec<_> = findings.iter().filter(|one| one.key == "careful-0").collect();
    assert_eq!(careful[0].counts(500), (501, 501));
    for key in &guilty {
        let of_key = findings.iter().filter(|finding| finding.key == *key);
        let episodes: BTreeSet<&String> = of_key.map(|finding| &finding.episode).collect();
        assert_eq!(episodes.len(), 1, "{key} has one episode");
    }
    findings
}

#[test]
fn members_killed_at_random_lose_nothing_and_repeat_nothing() {
    under("kill", Duration::from_secs(6), "", |group| {
        group.take_one().kill();
        group.start();
    });
}

#[test]
fn with_transactions_members_killed_at_random_repeat_no_alert_either() {
    under("transactions", Duration::from_secs(6), TRANSACTIONS, |group| {
        group.take_one().kill();
        group.start();
    });
}

#[test]
fn members_rolled_one_after_the_other_lose_nothing_and_repeat_nothing() {
    under("roll", Duration::from_secs(3), "", |group| {
        assert!(group.take_one().stop().success(), "exit code 0");
        group.start();
    });
}

#[test]
fn members_frozen_past_their_session_lose_nothing_and_repeat_nothing() {
    under("freeze", Duration::from_secs(2), "", |group| {
        let frozen = group.take_one();
        frozen.signal("STOP");
        // The session time-out of the tests is 5 s.
        thread::sleep(Duration::from_secs(10));
        frozen.signal("CONT");
        group.members.push(frozen);
    });
}

#[test]
fn members_that_come_and_go_lose_nothing_and_repeat_nothing() {
    under("churn", Duration::from_secs(3), "", |group| {
        if group.members.len() > MEMBERS {
            assert!(group.take_one().stop().success(), "exit code 0");
        } else {
            group.faults += 1;
            group.start();
        }
    });
}

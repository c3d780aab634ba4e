//! Row 10: records that are gone before they were read. Each gap has an alert that names it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Form, Random, flow::PARTITIONS, outcome::Outcome};
use crate::{
    events::{Read, now_ms},
    findings::Finding,
    kafka::{self, Client, Compression, Reader},
    service::{Service, Setup},
    steps::{applied, one_input},
};

/// Records of one partition that nobody can read any more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Gap {
    topic: String,
    partition: i32,
    from: i64,
    to: i64,
}

/// A gap is told within this time after somebody could have noticed.
const TOLD: Duration = Duration::from_secs(30);

/// A deployment of one member, whose records are taken away from under it.
struct Losing<'a> {
    kafka: &'a Client,
    setup: &'a Setup,
    topic: String,
    lines: String,
    random: Random,
    /// Next offset of each input partition.
    ends: Vec<i64>,
    made: BTreeSet<Gap>,
    /// Rows that are to be counted.
    rows: i64,
    people: usize,
}

impl Losing<'_> {
    /// Produces a few records to one partition.
    fn produce(&mut self, partition: i32, records: i64) {
        let messages = (0..records).map(|_| {
            self.people += 1;
            // Nobody reads more than once: that makes no alerts but those about gaps.
            Read::of(&format!("agent-{}", self.people), now_ms(), 1).canonical().to(partition)
        });
        let messages: Vec<_> = messages.collect();
        self.kafka.produce(&self.topic, Compression::None, messages);
        self.ends[usize::try_from(partition).unwrap()] += records;
        self.rows += records;
    }

    /// Takes records away that were produced since `from`; a few are left.
    fn delete(&mut self, partition: i32, from: i64) {
        let end = self.ends[usize::try_from(partition).unwrap()];
        let lost = 1 + self.random.below(u64::try_from(end - from).unwrap());
        let lost = i64::try_from(lost).unwrap();
        self.kafka.delete_in(&self.topic, partition, from + lost);
        let (topic, to) = (self.topic.clone(), from + lost - 1);
        self.made.insert(Gap { topic, partition, from, to });
        self.rows -= lost;
    }

    fn counted(&self, service: &Service) {
        let deadline = Instant::now() + TOLD;
        let mut found = applied(service);
        while found != self.rows {
            assert!(Instant::now() < deadline, "{found} of {} rows in {TOLD:?}", self.rows);
            std::thread::sleep(Duration::from_millis(50));
            found = applied(service);
        }
    }

    /// While nobody reads, and before anybody does again, records go from some partitions.
    fn stopped(&mut self, mut service: Service) -> Service {
        assert!(service.stop().success());
        for partition in 0..PARTITIONS {
            let from = self.ends[usize::try_from(partition).unwrap()];
            self.produce(partition, 20);
            if self.random.below(2) == 0 {
                self.delete(partition, from);
            }
        }
        let service = self.setup.run(&self.lines);
        self.counted(&service);
        service
    }

    /// The same while the reader holds its partitions and sleeps.
    fn running(&mut self, service: &Service) {
        service.signal("STOP");
        // What it asked for before it fell asleep is answered with nothing, after half a second.
        std::thread::sleep(Duration::from_millis(1500));
        for partition in 0..PARTITIONS {
            let from = self.ends[usize::try_from(partition).unwrap()];
            self.produce(partition, 20);
            if self.random.below(2) == 0 {
                self.delete(partition, from);
            }
        }
        service.signal("CONT");
        self.counted(service);
    }

    /// The same in the events topic: ingest alone goes on, and what it writes is lost.
    fn behind(&mut self, mut service: Service) -> Service {
        assert!(service.stop().success());
        let events = self.setup.topic("events");
        let before = self.kafka.ends(&events);
        let mut ingest = self.setup.run(&format!("{}roles: [ingest]\n", self.lines));
        let rows = self.rows;
        (0..PARTITIONS).for_each(|partition| self.produce(partition, 5));
        let read = || crate::steps::events_read(&ingest);
        ingest.until("all read", TOLD, || read() == self.rows - rows);
        assert!(ingest.stop().success());
        for (partition, (from, end)) in (0..).zip(before.iter().zip(self.kafka.ends(&events))) {
            if *from < end {
                self.kafka.delete_in(&events, partition, end);
                let topic = events.clone();
                self.made.insert(Gap { topic, partition, from: *from, to: end - 1 });
            }
        }
        self.rows = rows;
        let service = self.setup.run(&self.lines);
        self.counted(&service);
        service
    }
}

/// Every gap that was told of.
fn told(reader: &mut Reader) -> Vec<Gap> {
    let records = reader.during(Duration::from_millis(500));
    Finding::all(records, "exfilwatch.data-gap").iter().map(gap).collect()
}

/// As its alert names it.
fn gap(finding: &Finding) -> Gap {
    let scope = finding.key.strip_prefix("exfilwatch/").expect("the key of a system alert");
    let (place, _) = scope.rsplit_once('@').expect("an offset");
    let (topic, partition) = place.rsplit_once('/').expect("a partition");
    let detail = |name: &str| {
        let details = &finding.json["unmapped"]["exfilwatch"]["details"];
        let text = details[name].as_str().unwrap_or_else(|| panic!("no {name} in {details}"));
        text.parse::<i64>().expect("an offset")
    };
    Gap {
        topic: topic.to_owned(),
        partition: partition.parse().expect("a number"),
        from: detail("expected_offset"),
        to: detail("first_offset") - 1,
    }
}

fn gaps(name: &'static str, properties: &[(&str, &str)]) {
    let Some(kafka) = kafka::shared() else { return };
    let form = Form::now();
    let setup = Setup::new(&kafka, name);
    setup.create_topics("{partitions: 2, replication: 1}");
    for (name, value) in properties {
        setup.property(name, value);
    }
    // A sleeper keeps its place.
    setup.property("session.timeout.ms", "20000");
    let topic = setup.input("json", PARTITIONS);
    let mut losing = Losing {
        kafka: &kafka,
        setup: &setup,
        lines: one_input(&topic) + "detect: {checkpoint_interval: 1s}\n",
        topic,
        random: Random(Random::seed()),
        ends: vec![0; usize::try_from(PARTITIONS).unwrap()],
        made: BTreeSet::new(),
        rows: 0,
        people: 0,
    };
    (0..PARTITIONS).for_each(|partition| losing.produce(partition, 10));
    let mut service = setup.run(&losing.lines);
    losing.counted(&service);
    for _ in 0..form.of(1, 12) {
        service = losing.stopped(service);
        losing.running(&service);
        service = losing.behind(service);
    }
    // Stopped right after a gap: the next has nothing to tell of it.
    assert!(service.stop().success());
    let service = setup.run(&losing.lines);
    losing.counted(&service);
    let mut reader = setup.reader("alerts");
    let mut found = told(&mut reader);
    for _ in 0..10 {
        if found.len() < losing.made.len() {
            found = told(&mut reader);
        }
    }
    let once: BTreeSet<Gap> = found.iter().cloned().collect();
    let mut outcome = Outcome {
        row: 10,
        name,
        events: losing.people,
        faults: losing.made.len(),
        missing: losing.made.difference(&once).count(),
        false_ids: once.difference(&losing.made).count(),
        repeats: found.len() - once.len(),
        ..Outcome::default()
    };
    outcome.more.insert("gaps_told", json!(once.len()));
    outcome.say();
    assert_eq!(once, losing.made, "gaps told, gaps made");
    assert_eq!(outcome.repeats, 0, "each gap is told of once");
    outcome.check();
}

#[test]
fn every_gap_is_told_with_topic_partition_and_offsets() {
    gaps("gaps", &[]);
}

#[test]
fn every_gap_is_told_under_an_eager_assignor_too() {
    gaps("gaps-eager", &[("partition.assignment.strategy", "roundrobin")]);
}

//! Row 7: a topic that takes nothing for a while.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Form, outcome::Outcome, transactions::theft, until, watch::Watch};
use crate::{
    events::{Read, now_ms},
    kafka::{self, Broker, Stream},
    proxy::{Fault, PRODUCE, Proxy},
    service::{Service, Setup},
    steps::{SOON, all_counted, applied, events_read, one_input},
};

/// After the block everything is delivered within this time.
const DELIVERED: Duration = Duration::from_mins(3);
/// Memory is flat when it is no more than this above what it was, MiB.
const FLAT_MIB: usize = 32;
/// And when it never was this far above, even while something was on its way.
const PEAK_MIB: usize = 128;

/// A broker behind a proxy that can keep one topic from being written.
struct Gate {
    broker: Broker,
    shut: Arc<Mutex<Option<String>>>,
}

impl Gate {
    fn new() -> Option<Self> {
        let shut = Arc::new(Mutex::new(None::<String>));
        let seen = Arc::clone(&shut);
        let decide = move |api, request: &[u8]| {
            let topic = seen.lock().unwrap().clone().filter(|_| api == PRODUCE)?;
            let named = request.windows(topic.len()).any(|window| window == topic.as_bytes());
            named.then_some(Fault::Lost)
        };
        let start = |port, broker| drop(Proxy::start(port, broker, decide));
        Some(Self { broker: kafka::behind(start)?, shut })
    }

    fn shut(&self, topic: &str) {
        *self.shut.lock().unwrap() = Some(topic.to_owned());
    }

    fn open(&self) {
        *self.shut.lock().unwrap() = None;
    }
}

/// What a process says while it cannot write: that it lives and keeps its place, and what it needs.
struct Patience {
    rebalances: i64,
    before_mib: usize,
    highest_mib: usize,
    after_mib: usize,
}

impl Patience {
    fn begin(service: &Service) -> Self {
        let mib = service.resident_mib();
        let rebalances = rebalances(service);
        Self { rebalances, before_mib: mib, highest_mib: mib, after_mib: mib }
    }

    /// Holds on for a while; `each` second something may be produced.
    fn hold(&mut self, service: &Service, time: Duration, mut each: impl FnMut()) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            each();
            thread::sleep(Duration::from_secs(1));
            self.after_mib = service.resident_mib();
            self.highest_mib = self.highest_mib.max(self.after_mib);
            assert_eq!(service.get("/healthz").map(|(status, _)| status), Some(200));
        }
        assert_eq!(rebalances(service), self.rebalances, "it kept its place in its groups");
        let Self { before_mib, highest_mib, after_mib, .. } = *self;
        let flat = after_mib < before_mib + FLAT_MIB && highest_mib < before_mib + PEAK_MIB;
        assert!(flat, "{before_mib} MiB, at most {highest_mib}, {after_mib} at last");
    }
}

fn rebalances(service: &Service) -> i64 {
    service.metrics().sum("exfilwatch_rebalances_total", &[])
}

fn report(outcome: Outcome, patience: &Patience, opened: Instant) {
    let mut outcome = Outcome { row: 7, faults: 1, ..outcome };
    outcome.worst_ms = i64::try_from(opened.elapsed().as_millis()).ok();
    outcome.more.insert("before_mib", json!(patience.before_mib));
    outcome.more.insert("highest_mib", json!(patience.highest_mib));
    outcome.more.insert("after_mib", json!(patience.after_mib));
    outcome.say();
    outcome.check();
}

#[test]
fn an_alert_topic_that_takes_nothing_stops_reading_and_everything_is_delivered_after() {
    /// More than one worker keeps undelivered.
    const FIRST: usize = 30_000;
    const PORTION: usize = 1000;
    let Some(gate) = Gate::new() else { return };
    let (kafka, form) = (gate.broker.client(), Form::now());
    let setup = Setup::new(&kafka, "blocked-alerts");
    setup.create_topics("{partitions: 1, replication: 1}");
    // Small queues are full before the tests have produced much.
    setup.property("queued.max.messages.kbytes", "4096");
    let topic = setup.input("json", 1);
    let small = "detect: {threads: 1, queue_bytes: 1MiB}\nalerts: {queue_bytes: 4MiB}\n";
    let service = setup.run(&(one_input(&topic) + small));
    let watch = Watch::start(setup.committed_reader("alerts"));
    gate.shut(&setup.topic("alerts"));
    let mut stream = kafka.stream();
    for portion in 0..FIRST / PORTION {
        let thieves = portion * PORTION..(portion + 1) * PORTION;
        thieves.for_each(|n| stream.send(&topic, &theft(n).canonical()));
        stream.finish(SOON);
        // A worker is full only between two messages, so none may hold all of it.
        thread::sleep(Duration::from_millis(100));
    }
    service.until("the worker is full", SOON, || applied(&service) > 4000);
    // Queues fill up to their limits, and then no more.
    thread::sleep(Duration::from_secs(4));
    let stopped_at = applied(&service);
    let mut patience = Patience::begin(&service);
    let mut thieves = FIRST;
    // Longer than `max.poll.interval.ms` in a release: whoever does not poll is out by then.
    patience.hold(&service, form.time(8, 320), || {
        if thieves < FIRST + 10_000 {
            (thieves..thieves + 1000).for_each(|n| stream.send(&topic, &theft(n).canonical()));
            thieves += 1000;
        }
    });
    stream.finish(SOON);
    assert_eq!(applied(&service), stopped_at, "it counts no further");
    assert!(watch.seen().first.is_empty(), "nothing was delivered");
    let opened = Instant::now();
    gate.open();
    until("every alert", DELIVERED, || watch.seen().keys.len() >= thieves);
    all_counted(&[&service], thieves);
    let seen = watch.seen();
    let name = "blocked-alerts";
    let (repeats, false_ids) = (seen.repeats, seen.first.len() - thieves);
    let outcome = Outcome { name, events: thieves, repeats, false_ids, ..Outcome::default() };
    report(outcome, &patience, opened);
}

/// Sends reads of one record by enough people that none is conspicuous.
fn send(stream: &mut Stream, topic: &str, numbers: Range<usize>) {
    for n in numbers {
        let read = Read::of(&format!("agent-{}", n % 10_000), now_ms(), 1);
        stream.send(topic, &read.canonical().to(i32::from(n % 2 == 0)));
    }
}

#[test]
fn an_events_topic_that_takes_nothing_stops_reading_and_everything_is_counted_after() {
    let Some(gate) = Gate::new() else { return };
    let (kafka, form) = (gate.broker.client(), Form::now());
    let setup = Setup::new(&kafka, "blocked-events");
    setup.create_topics("{partitions: 2, replication: 1}");
    setup.property("queue.buffering.max.kbytes", "4096");
    setup.property("queued.max.messages.kbytes", "4096");
    let topic = setup.input("json", 2);
    let service = setup.run(&(one_input(&topic) + "ingest: {hold_bytes: 4MiB}\n"));
    let mut stream = kafka.stream();
    send(&mut stream, &topic, 0..1000);
    all_counted(&[&service], 1000);
    gate.shut(&setup.topic("events"));
    let mut events = 200_000;
    send(&mut stream, &topic, 1000..events);
    let paused = [("role", "ingest"), ("reason", "backpressure")];
    service.metrics_until("input partitions paused", Duration::from_secs(30), |metrics| {
        metrics.sum("exfilwatch_partitions_paused", &paused) == 2
    });
    thread::sleep(Duration::from_secs(2));
    let stopped_at = events_read(&service);
    let mut patience = Patience::begin(&service);
    patience.hold(&service, form.time(8, 320), || {
        if events < 400_000 {
            send(&mut stream, &topic, events..events + 25_000);
            events += 25_000;
        }
    });
    stream.finish(SOON);
    assert_eq!(events_read(&service), stopped_at, "it reads no further");
    assert!(stopped_at < i64::try_from(events).unwrap(), "there is more to read");
    let opened = Instant::now();
    gate.open();
    let counted = || usize::try_from(applied(&service)).unwrap();
    until("every row counted", DELIVERED, || counted() >= events);
    all_counted(&[&service], events);
    let (lost, double) = (events.abs_diff(counted().min(events)), counted() - events);
    let (lost, double) = (lost as u64, double as u64);
    let name = "blocked-events";
    let outcome = Outcome { name, events, lost, double, ..Outcome::default() };
    report(outcome, &patience, opened);
}

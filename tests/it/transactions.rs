//! Alerts on their way: ends of transactions that get lost, an alert topic that takes nothing.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    events::{MINUTE_MS, Read, now_ms},
    findings::{Finding, RULE, openings},
    kafka::{self, Record},
    proxy::{END_TXN, Fault, PRODUCE, Proxy},
    service::Setup,
    steps::{SOON, applied, one_input, produce},
};

/// A thief every time, seconds of the short form.
const EVERY: Duration = Duration::from_millis(300);
const SHORT_S: u32 = 24;

fn times() -> u32 {
    env::var("EXFILWATCH_FAULTS").map_or(1, |times| times.parse().unwrap())
}

/// One thief: more than an hour allows, in one read.
fn theft(number: usize) -> Read {
    Read::of(&format!("thief-{number}"), now_ms() - MINUTE_MS, 501)
}

fn message_ids(seen: &[Record]) -> Vec<String> {
    seen.iter().map(|record| Finding::of(record).message).collect()
}

#[test]
fn ends_of_transactions_that_are_lost_or_late_lose_no_alert_and_repeat_none() {
    let proxy = RefCell::new(None);
    let faults = [Fault::Lost, Fault::Unanswered, Fault::Late(Duration::from_secs(1))];
    let ends = AtomicUsize::new(0);
    let decide = move |api, _: &[u8]| {
        let number = if api == END_TXN { ends.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        (number > 0 && number % 3 == 0).then(|| faults[number / 3 % faults.len()])
    };
    let start = |port, broker| *proxy.borrow_mut() = Some(Proxy::start(port, broker, decide));
    let Some(broker) = kafka::behind(start) else { return };
    let kafka = broker.client();
    let setup = Setup::new(&kafka, "end-txn");
    setup.create_topics("{partitions: 2, replication: 1}");
    let topic = setup.input("json", 2);
    let lines =
        one_input(&topic) + "detect: {checkpoint_interval: 1s}\nalerts: {transactional: true}\n";
    let _service = setup.run(&lines);
    let until = Instant::now() + Duration::from_secs(u64::from(SHORT_S * times()));
    let mut thieves = 0;
    while Instant::now() < until {
        produce(&kafka, &topic, &[theft(thieves)]);
        thieves += 1;
        thread::sleep(EVERY);
    }
    let mut reader = setup.committed_reader("alerts");
    let seen = reader.until("every alert", Duration::from_mins(1), |seen| {
        let keys = Finding::all(seen, RULE).into_iter().map(|finding| finding.key);
        keys.collect::<BTreeSet<_>>().len() == thieves
    });
    assert_eq!(openings(seen).len(), thieves);
    let seen = reader.during(Duration::from_secs(3));
    let ids = message_ids(seen);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "each id once");
    let faults = proxy.borrow().as_ref().map_or(0, Proxy::faults);
    assert!(faults >= 6, "{faults} requests were interfered with");
    eprintln!("end-txn: {thieves} thieves, {faults} faults; {} alerts, no id twice", ids.len());
}

#[test]
fn an_alert_topic_that_takes_nothing_stops_reading_and_everything_is_delivered_after() {
    /// More than one worker keeps undelivered.
    const THIEVES: usize = 30_000;
    let blocked = Arc::new(Mutex::new(None::<String>));
    let seen_by_proxy = Arc::clone(&blocked);
    let decide = move |api, request: &[u8]| {
        let topic = seen_by_proxy.lock().unwrap().clone().filter(|_| api == PRODUCE)?;
        let named = request.windows(topic.len()).any(|window| window == topic.as_bytes());
        named.then_some(Fault::Lost)
    };
    let start = |port, broker| drop(Proxy::start(port, broker, decide));
    let Some(broker) = kafka::behind(start) else { return };
    let kafka = broker.client();
    let setup = Setup::new(&kafka, "blocked");
    setup.create_topics("{partitions: 1, replication: 1}");
    let topic = setup.input("json", 1);
    let service = setup.run(&(one_input(&topic) + "detect: {threads: 1}\n"));
    *blocked.lock().unwrap() = Some(setup.topic("alerts"));
    let thefts: Vec<Read> = (0..THIEVES).map(theft).collect();
    let (first, rest) = thefts.split_at(THIEVES / 2);
    for portion in first.chunks(1000) {
        produce(&kafka, &topic, portion);
    }
    service.until("the worker is full", SOON, || applied(&service) > 10_000);
    thread::sleep(Duration::from_secs(1));
    let stopped_at = applied(&service);
    let before = service.resident_mib();
    for portion in rest.chunks(1000) {
        produce(&kafka, &topic, portion);
    }
    thread::sleep(Duration::from_secs(u64::from(8 * times())));
    let after = service.resident_mib();
    assert_eq!(applied(&service), stopped_at, "it counts no further");
    assert!(after < before + 100, "{before} MiB, and {after} MiB while nothing goes out");
    assert_eq!(service.get("/healthz").map(|(status, _)| status), Some(200));
    assert!(setup.committed_reader("alerts").during(Duration::from_millis(500)).is_empty());
    *blocked.lock().unwrap() = None;
    let mut reader = setup.committed_reader("alerts");
    let seen = reader.until("every alert", Duration::from_mins(1), |seen| seen.len() >= THIEVES);
    assert_eq!(openings(seen).len(), THIEVES);
    eprintln!("blocked: {THIEVES} thieves, {before} MiB before and {after} MiB while blocked");
}

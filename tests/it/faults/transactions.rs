//! Row 6: ends of transactions that get lost on the way, and what no transaction ever holds.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use serde_json::json;

use super::{Form, outcome::Outcome, watch::Watch};
use crate::{
    events::{MINUTE_MS, Read, now_ms},
    kafka,
    proxy::{ADD_OFFSETS_TO_TXN, END_TXN, Fault, OFFSET_COMMIT, Proxy, TXN_OFFSET_COMMIT},
    service::Setup,
    steps::{all_counted, one_input},
};

/// A thief every time.
const EVERY: Duration = Duration::from_millis(300);
/// What may happen to the end of a transaction, in turn.
const FAULTS: [Fault; 3] = [Fault::Lost, Fault::Unanswered, Fault::Late(Duration::from_secs(1))];

/// One thief: more than an hour allows, in one read.
pub(super) fn theft(number: usize) -> Read {
    Read::of(&format!("thief-{number}"), now_ms() - MINUTE_MS, 501)
}

#[test]
fn ends_of_transactions_that_are_lost_or_late_lose_no_alert_and_repeat_none() {
    let proxy = RefCell::new(None);
    let ends = AtomicUsize::new(0);
    let decide = move |api, _: &[u8]| {
        let number = if api == END_TXN { ends.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        (number > 0 && number % 3 == 0).then(|| FAULTS[number / 3 % FAULTS.len()])
    };
    let start = |port, broker| *proxy.borrow_mut() = Some(Proxy::start(port, broker, decide));
    let Some(broker) = kafka::behind(start) else { return };
    let proxy = proxy.into_inner().expect("the proxy was started");
    let kafka = broker.client();
    let setup = Setup::new(&kafka, "end-txn");
    setup.create_topics("{partitions: 2, replication: 1}");
    let topic = setup.input("json", 2);
    let lines =
        one_input(&topic) + "detect: {checkpoint_interval: 1s}\nalerts: {transactional: true}\n";
    let service = setup.run(&lines);
    let watch = Watch::start(setup.committed_reader("alerts"));
    let (wanted, mut thieves, mut produced) = (Form::now().of(15, 200), 0, BTreeMap::new());
    let mut stream = kafka.stream();
    while proxy.faults() < wanted {
        let theft = theft(thieves);
        produced.insert(theft.principal.clone(), now_ms());
        stream.send(&topic, &theft.canonical().to(i32::from(thieves % 2 == 0)));
        thieves += 1;
        thread::sleep(EVERY);
    }
    stream.finish(Duration::from_mins(1));
    super::until("every alert", Duration::from_mins(1), || watch.seen().keys.len() >= thieves);
    thread::sleep(Duration::from_secs(3));
    all_counted(&[&service], thieves);
    let seen = watch.seen();
    let keys: BTreeSet<&String> = seen.keys.keys().collect();
    let mut outcome = Outcome {
        row: 6,
        name: "end-txn",
        events: thieves,
        faults: proxy.faults(),
        missing: produced.keys().filter(|key| !keys.contains(key)).count(),
        // One episode a thief, one message an episode.
        false_ids: seen.first.len().saturating_sub(thieves),
        repeats: seen.repeats,
        ..Outcome::default()
    };
    outcome.delays(produced.iter().filter_map(|(key, at_ms)| Some(seen.keys.get(key)? - at_ms)));
    let requests = |kind| json!(proxy.requests(kind));
    outcome.more.insert("end_txn", requests(END_TXN));
    outcome.more.insert("offset_commit", requests(OFFSET_COMMIT));
    outcome.more.insert("txn_offset_commit", requests(TXN_OFFSET_COMMIT));
    outcome.say();
    outcome.check();
    assert_eq!(outcome.repeats, 0, "no id is seen twice by who reads committed alerts");
    // Positions are in the state topic, in the transaction of the alerts they belong to.
    assert!(proxy.requests(OFFSET_COMMIT) > 0, "the proxy sees what offsets are committed by");
    assert_eq!(proxy.requests(ADD_OFFSETS_TO_TXN) + proxy.requests(TXN_OFFSET_COMMIT), 0);
}

//! D1 for sources that retry: an event that comes again at another place is counted once.

use std::borrow::Cow;

use crate::{event::Object, rules::Severity::High};

use super::*;

/// One rule by principal, with a limit that two reads of 60 pass.
fn rig() -> Rig {
    Rig::new(&[rule("r", &[(HOUR, 100, High)])])
}

fn read(id: &str) -> Event<'static> {
    Event { event_id: Some(id.to_owned().into()), ..event("ann", 0, 60) }
}

impl Rig {
    /// Applies an event from a source partition that retries, at the next offset.
    fn retried(&mut self, partition: i32, event: &Event<'_>) {
        let id = self.router.source_that_retries(&source(partition));
        self.router.push(id, Offset(self.offset), 0, event);
        self.offset += 1;
        self.flush();
    }

    /// Applied, duplicate, sent again, ids used again.
    fn counts(&self) -> [u64; 4] {
        let stats = self.engine.stats();
        assert_eq!(stats.rows_read, stats.applied + stats.duplicate + stats.too_late);
        [stats.applied, stats.duplicate, stats.repeated, stats.reused_ids]
    }
}

#[test]
fn an_event_sent_again_to_any_partition_at_any_offset_is_counted_once() {
    let mut rig = rig();
    for partition in [0, 0, 1, 2, 1] {
        rig.retried(partition, &read("a"));
    }
    assert_eq!(rig.counts(), [1, 4, 4, 0]);
    assert!(rig.alerts().is_empty());
    rig.retried(0, &read("b"));
    assert_eq!(rig.alerts().len(), 1, "another read is another read");
}

#[test]
fn a_message_that_comes_again_is_no_event_that_was_sent_again() {
    let mut rig = rig();
    let id = rig.router.source_that_retries(&source(0));
    rig.router.push(id, Offset(0), 0, &read("a"));
    let mut messages = Vec::new();
    rig.router.flush(&mut messages).unwrap();
    let batch = Batch::decode(&messages[0].payload).unwrap();
    rig.engine.apply(&batch, rig.broker_time);
    rig.engine.apply(&batch, rig.broker_time);
    assert_eq!(rig.counts(), [1, 1, 0, 0]);
}

#[test]
fn the_same_id_with_any_other_content_is_counted_and_metered() {
    let changes: [fn(&mut Event<'_>); 9] = [
        |event| event.principal.id = "eve".into(),
        |event| event.source.kind = "mysql".into(),
        |event| event.source.instance = Some("b".into()),
        |event| event.source.database = Some("b".into()),
        |event| event.event_time = event.event_time.plus_millis(1),
        |event| event.rows = Some(61),
        |event| event.rows = None,
        |event| event.bytes = Some(0),
        |event| event.rows_quality = RowsQuality::UpperBound,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut rig = rig();
        rig.retried(0, &read("a"));
        let mut other = read("a");
        change(&mut other);
        rig.retried(0, &other);
        // An id belongs to its source.
        let reused = u64::from(!(1..=3).contains(&number));
        assert_eq!(rig.counts(), [2, 0, 0, reused], "change {number}");
        rig.retried(1, &other);
        assert_eq!(rig.counts(), [2, 1, 1, reused], "change {number}");
    }
}

#[test]
fn what_makes_no_repeat_may_differ() {
    let changes: [fn(&mut Event<'_>); 4] = [
        |event| event.client_address = Some("127.0.0.1".into()),
        |event| event.query_id = Some("other".into()),
        |event| event.success = Some(false),
        |event| event.principal.groups.push("support".into()),
    ];
    let mut rig = rig();
    rig.retried(0, &read("a"));
    for change in changes {
        let mut again = read("a");
        change(&mut again);
        rig.retried(0, &again);
    }
    assert_eq!(rig.counts(), [1, 4, 4, 0]);
}

#[test]
fn a_client_that_never_changes_its_id_is_found() {
    let mut rig = rig();
    for second in 0..2 {
        let again = Event { event_id: Some("constant".into()), ..event("ann", second, 60) };
        rig.retried(0, &again);
    }
    assert_eq!(rig.counts(), [2, 0, 0, 1]);
    assert_eq!(rig.alerts().len(), 1);
}

#[test]
fn without_an_id_or_from_a_source_that_does_not_retry_nothing_is_compared() {
    let mut rig = rig();
    for partition in 0..2 {
        rig.retried(partition, &event("ann", 0, 60));
        let id = rig.router.source(&source(partition + 2));
        rig.router.push(id, Offset(0), 0, &read("a"));
        rig.flush();
    }
    assert_eq!(rig.counts(), [4, 0, 0, 0]);
    assert_eq!((rig.engine.dedup().len(), rig.engine.dedup().bytes()), (0, 0));
}

#[test]
fn an_event_counts_once_on_every_route_and_for_every_object() {
    let mut by_object = rule("o", &[(HOUR, 100, High)]);
    by_object.group_by = GroupBy::Object;
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)]), by_object]);
    let mut join = read("a");
    for name in ["crm.a", "crm.b"] {
        let name = Cow::Borrowed(name);
        join.objects.push(Object { name, full: true, ..Object::default() });
    }
    rig.retried(0, &join);
    assert_eq!(rig.counts(), [3, 0, 0, 0], "its rows are no repeats of one another");
    rig.retried(1, &join);
    assert_eq!(rig.counts(), [3, 3, 3, 0]);
    assert!(rig.alerts().is_empty());
}

#[test]
fn what_was_forgotten_or_is_not_remembered_at_all_counts_again() {
    let mut rig = rig();
    for n in 0..100 {
        rig.retried(0, &read(&n.to_string()));
    }
    rig.retried(1, &read("0"));
    assert_eq!(rig.counts(), [100, 1, 1, 0]);
    rig.retried(0, &read("100"));
    rig.retried(1, &read("0"));
    assert_eq!(rig.counts(), [102, 1, 1, 0]);
    assert_eq!(rig.engine.dedup().evicted(), 2);

    let mut rig = self::rig();
    rig.engine.dedup = Dedup::new(0);
    rig.retried(0, &read("a"));
    rig.retried(1, &read("a"));
    assert_eq!(rig.counts(), [2, 0, 0, 0]);
}

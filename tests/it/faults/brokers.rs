//! Row 5: what happens to brokers. Three of them, three copies, two of which must be written.

use std::time::Duration;

use super::{
    Form, Random,
    flow::Shape,
    group::{Plan, under},
    until,
};
use crate::kafka;

/// A broker that is back has caught up with the others by then.
const WHOLE_MAX: Duration = Duration::from_mins(2);

#[test]
fn brokers_killed_one_at_a_time_lose_nothing_and_repeat_nothing() {
    let Some(mut cluster) = kafka::cluster() else { return };
    let kafka = cluster.client();
    let form = Form::now();
    let shape = Shape { people: form.size(200, 10_000), rate: form.size(300, 1000) };
    let plan = Plan { copies: 3, faults: form.of(3, 20), ..Plan::of(5, "broker", shape) };
    let mut which = Random(Random::seed());
    under(&kafka, &plan, |group| {
        group.pause(1, 3);
        let node = cluster.node(which.index(3));
        group.faults += 1;
        node.stop();
        group.pause(2, 6);
        node.restart();
        // Two brokers away at a time are no broker too many, but one too few.
        until("copies of everything on every broker", WHOLE_MAX, || kafka.is_whole());
    });
}

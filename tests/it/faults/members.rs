//! Rows 1 to 4: what happens to members.

use std::{thread, time::Duration};

use super::{
    Form,
    flow::Shape,
    group::{MEMBERS, Plan, SESSION, TRANSACTIONS, under},
};
use crate::kafka;

/// People and events a second where the size does not matter.
fn small(form: Form) -> Shape {
    Shape { people: form.size(200, 10_000), rate: form.size(500, 2000) }
}

/// Kills one of three at random.
fn kills(name: &'static str, more: &'static str, (events, faults): (usize, usize)) {
    let Some(kafka) = kafka::shared() else { return };
    let form = Form::now();
    let shape = Shape { people: form.size(200, 100_000), rate: form.size(500, 20_000) };
    let plan = Plan { more, events, faults, ..Plan::of(1, name, shape) };
    under(&kafka, &plan, |group| {
        // In the short form more often: sessions end after five seconds.
        group.pause(form.part.map_or(4, |_| 5), form.part.map_or(7, |_| 15));
        let member = group.take_one();
        group.faults += 1;
        group.kill(member);
        group.start();
    });
}

#[test]
fn members_killed_at_random_lose_nothing_and_repeat_nothing() {
    let form = Form::now();
    kills("kill", "", (form.of(0, 10_000_000), form.of(4, 40)));
}

#[test]
fn with_transactions_members_killed_at_random_repeat_no_alert_either() {
    let form = Form::now();
    kills("kill-transactional", TRANSACTIONS, (form.of(0, 4_000_000), form.of(4, 16)));
}

#[test]
fn members_rolled_one_after_the_other_lose_nothing_and_no_alert_is_late() {
    let Some(kafka) = kafka::shared() else { return };
    let form = Form::now();
    let rounds = form.of(2, 20);
    let plan = Plan { faults: rounds * MEMBERS, ..Plan::of(2, "roll", small(form)) };
    under(&kafka, &plan, |group| {
        let member = group.take(0);
        group.faults += 1;
        group.stop(member);
        group.start();
        group.ready();
        group.pause(0, 1);
    });
}

#[test]
fn members_frozen_past_their_session_lose_nothing_and_write_nothing_afterwards() {
    let Some(kafka) = kafka::shared() else { return };
    let form = Form::now();
    let plan = Plan { faults: form.of(2, 20), ..Plan::of(3, "freeze", small(form)) };
    under(&kafka, &plan, |group| {
        group.pause(1, 5);
        let frozen = group.take_one();
        group.faults += 1;
        frozen.signal("STOP");
        thread::sleep(2 * SESSION);
        frozen.signal("CONT");
        group.members.push(frozen);
        group.ready();
    });
}

/// A member joins, then one leaves, every three seconds.
fn churn(name: &'static str, properties: &'static [(&'static str, &'static str)]) {
    let Some(kafka) = kafka::shared() else { return };
    let form = Form::now();
    let plan = Plan { properties, faults: form.of(7, 200), ..Plan::of(4, name, small(form)) };
    under(&kafka, &plan, |group| {
        thread::sleep(Duration::from_secs(3));
        group.faults += 1;
        if group.members.len() > MEMBERS {
            let member = group.take_one();
            group.stop(member);
        } else {
            group.start();
        }
    });
}

#[test]
fn members_that_come_and_go_lose_nothing_and_repeat_nothing() {
    churn("churn-cooperative", &[]);
}

#[test]
fn members_that_come_and_go_under_an_eager_assignor_lose_nothing_either() {
    churn("churn-eager", &[("partition.assignment.strategy", "range")]);
}

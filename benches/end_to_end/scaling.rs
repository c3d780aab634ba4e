//! What more partitions and more members take away: the same events, read by one member over 1 and
//! over 16 partitions, and over 16 partitions by one member and by two.

use crate::{
    deployment::Deployment,
    events::Shape,
    kafka::Client,
    program::{Cost, RULES},
    report,
};

/// Partitions of the input and of the events topic, and members.
const SETTINGS: [(i32, usize); 3] = [(1, 1), (16, 1), (16, 2)];

/// Prints every run, and how each compares with the one before it.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
pub(crate) fn measure(client: &Client, shape: Shape, events: u64) {
    let mut before: Option<Cost> = None;
    for (partitions, members) in SETTINGS {
        let deployment = Deployment { partitions, members, rules: RULES };
        let text = |n| shape.event(n, events).json();
        let cost = deployment.count(client, events, events as f64, text).cost;
        report(&format!("{partitions} partitions, {members} members"), events, &cost);
        if let Some(before) = before.replace(cost) {
            let fewer = 100.0 * (1.0 - before.cpu_s / cost.cpu_s);
            let faster = before.wall_s / cost.wall_s;
            println!("  {fewer:.1} % fewer events a core-second, {faster:.2} times as fast");
        }
    }
}

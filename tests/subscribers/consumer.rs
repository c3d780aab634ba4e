//! Follows the alerts, each once, and knows which findings are open. Needs `rdkafka` and
//! `serde_json`.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message as _,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};
use serde_json::Value;

/// Ids remembered; repeats come within minutes of the first.
const SEEN_MAX: usize = 100_000;

/// Calls `say` with a line for each alert, until it answers false.
pub(crate) fn follow(
    brokers: &str,
    topic: &str,
    group: &str,
    mut say: impl FnMut(String) -> bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("enable.auto.offset.store", "false") // only what was handled counts as read
        .create()?;
    consumer.subscribe(&[topic])?;
    let (mut seen, mut order) = (HashSet::new(), VecDeque::new());
    let mut findings: HashMap<String, Value> = HashMap::new();
    loop {
        let Some(message) = consumer.poll(Duration::from_secs(1)) else { continue };
        let message = message?;
        let headers = message.headers().ok_or("no headers")?;
        let id = headers.iter().find(|header| header.key == "ce_id").and_then(|it| it.value);
        let id = id.ok_or("no ce_id")?.to_vec();
        if seen.insert(id.clone()) {
            order.push_back(id);
            if order.len() > SEEN_MAX {
                order.pop_front().map(|oldest| seen.remove(&oldest));
            }
            let alert: Value = serde_json::from_slice(message.payload().ok_or("no value")?)?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let finding = text(&alert["finding_info"]["uid"]);
            let line = [
                text(&alert["activity_name"]),
                text(&alert["finding_info"]["analytic"]["uid"]),
                String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                text(&alert["severity"]),
            ];
            if alert["activity_id"] == 3 {
                findings.remove(&finding); // Close
            } else {
                findings.insert(finding, alert); // Create, Update
            }
            if !say(format!("{} {}", line.join(" "), findings.len())) {
                return Ok(());
            }
        }
        consumer.store_offset_from_message(&message)?;
    }
}

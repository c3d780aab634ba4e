//! One canary: written to an input, awaited on the alert topic. It joins no group, and waits for
//! its own alert only.
//!
//! Never here: deciding which input or key; judging what was seen.

use std::{
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::BorrowedMessage,
};
use serde::Serialize;

use super::clock;
use crate::{
    config::Config,
    event::canary::{self, CanaryKey},
    kafka::{
        Error,
        client::{self, Context},
        group::CALL_TIMEOUT,
        producer::{Message, Producer, Refused, Report},
        topics::Topics,
    },
    rules::written::CANARY,
};

/// Between two looks at whether the event is acknowledged.
const POLL: Duration = Duration::from_millis(20);

/// What to send, and for how long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Broker, input and alert topic.
    pub config: &'a Config,
    /// To sign with.
    pub key: &'a CanaryKey,
    /// Input that takes canonical JSON.
    pub topic: &'a str,
    /// Never used before.
    pub event_id: &'a str,
    /// For everything together.
    pub timeout: Duration,
}

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// What was seen of a canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Seen {
    /// Its principal.
    pub principal: String,
    /// Where its event is; none: the broker has not acknowledged it.
    pub event: Option<Place>,
    /// Where its alert is; none: it has not come.
    pub alert: Option<Place>,
    /// From the event time to the moment the alert was read.
    pub latency_seconds: Option<f64>,
    /// Alerts read meanwhile, its own included.
    pub alerts_read: u64,
}

/// Sends a canary and waits until its alert has come, or the time is up. `doing` is told what is
/// waited for.
///
/// # Errors
/// The broker does not answer or refuses, or a topic is missing.
pub fn send(order: &Order<'_>, doing: &dyn Fn(&str)) -> Result<Seen, Error> {
    let until = Instant::now() + order.timeout;
    doing("asking the brokers");
    let topics = Topics::new(order.config)?;
    partitions(&topics, order.topic)?;
    let reader = reader(order.config)?;
    // Before the event is written, or its alert could come before anybody listens.
    let ends = ends(&reader, &topics, &order.config.topics.alerts)?;
    reader.assign(&ends).map_err(Error::call("cannot start reading alerts"))?;
    let (producer, reports) = Producer::with_channel(&order.config.kafka, "canary", false)?;
    let sent_at = Instant::now();
    let principal = canary::principal(order.event_id);
    write(order, &principal, &producer)?;
    doing(&format!("waiting for the alert of {principal}"));
    let mut seen = Seen { principal, ..Seen::default() };
    while seen.alert.is_none() && Instant::now() < until {
        settle(order.topic, &producer, &reports, Duration::ZERO, &mut seen)?;
        match reader.poll(POLL) {
            Some(Ok(alert)) => seen.read(&alert, sent_at),
            Some(Err(cause)) => {
                let cause = Error::call("cannot read alerts")(cause);
                if !cause.is_transient() {
                    return Err(cause);
                }
            }
            None => {}
        }
    }
    if seen.event.is_none() {
        settle(order.topic, &producer, &reports, POLL, &mut seen)?;
    }
    producer.purge();
    Ok(seen)
}

impl Seen {
    fn read(&mut self, alert: &BorrowedMessage<'_>, sent_at: Instant) {
        self.alerts_read += 1;
        if alert.payload().is_some_and(|payload| is_alert_of(&self.principal, payload)) {
            self.latency_seconds = Some(sent_at.elapsed().as_secs_f64());
            self.alert = Some(Place {
                topic: alert.topic().to_owned(),
                partition: alert.partition(),
                offset: alert.offset(),
            });
        }
    }
}

/// By the principal as it was written: the key of the alert is what `identity` has made of it.
fn is_alert_of(principal: &str, payload: &[u8]) -> bool {
    let Ok(alert) = serde_json::from_slice::<serde_json::Value>(payload) else { return false };
    alert.pointer("/finding_info/analytic/uid").is_some_and(|rule| rule == CANARY)
        && alert.pointer("/actor/user/uid").is_some_and(|uid| uid == principal)
}

fn reader(config: &Config) -> Result<BaseConsumer<Context>, Error> {
    // Assigning by hand needs a group's name, but joins none.
    let group = format!("{}-canary", config.kafka.group_id);
    let mut settings = client::consumer(&config.kafka, "canary", &group);
    settings.set("isolation.level", "read_committed");
    settings.set("statistics.interval.ms", "0");
    client::reader(&config.kafka, "canary", &settings)
}

/// How many partitions a topic has.
fn partitions(topics: &Topics<'_>, topic: &str) -> Result<i32, Error> {
    let found = topics.partitions(topic)?.and_then(|count| i32::try_from(count).ok());
    found.ok_or_else(|| {
        let hint = "`exfilwatch check --online` tells which are missing";
        let fault = format!("there is no topic `{topic}`\n  hint: {hint}");
        Error::Topics { faults: vec![fault] }
    })
}

/// The ends of the alert topic.
fn ends(
    reader: &BaseConsumer<Context>,
    topics: &Topics<'_>,
    topic: &str,
) -> Result<TopicPartitionList, Error> {
    let mut ends = TopicPartitionList::new();
    for partition in 0..partitions(topics, topic)? {
        let (_, end) = reader
            .fetch_watermarks(topic, partition, CALL_TIMEOUT)
            .map_err(Error::call(format!("cannot find the end of {topic}[{partition}]")))?;
        ends.add_partition_offset(topic, partition, Offset::Offset(end))
            .map_err(Error::call("cannot start reading alerts"))?;
    }
    Ok(ends)
}

fn write(order: &Order<'_>, principal: &str, producer: &Producer<()>) -> Result<(), Error> {
    let event_time = clock::now();
    let signature = order.key.sign(order.event_id, event_time);
    let payload = canary::json(order.event_id, event_time);
    let message = Message {
        topic: order.topic,
        partition: None,
        // A keyed input demands it; each canary goes to another partition by it.
        key: Some(principal.as_bytes()),
        payload: Some(payload.as_bytes()),
        headers: vec![(canary::HEADER, signature.as_bytes())],
    };
    producer.send(&message, ()).map_err(|refused| match refused {
        Refused::Failed((), cause) => {
            Error::call(format!("cannot write to `{}`", order.topic))(cause)
        }
        Refused::Full(()) => {
            let reason = "its queue is full before anything was sent".to_owned();
            Error::Fatal { client: "canary".to_owned(), reason }
        }
    })
}

/// Notes the acknowledgement of the event, waiting for it for at most `timeout`.
fn settle(
    topic: &str,
    producer: &Producer<()>,
    reports: &Receiver<Report<()>>,
    timeout: Duration,
    seen: &mut Seen,
) -> Result<(), Error> {
    producer.poll_after(timeout);
    if let Ok(Report { result, .. }) = reports.try_recv() {
        let (partition, offset) =
            result.map_err(Error::call(format!("cannot write to `{topic}`")))?;
        seen.event = Some(Place { topic: topic.to_owned(), partition, offset });
    }
    producer.fatal().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_alert_is_known_by_its_rule_and_the_principal_as_it_was_written() {
        let alert = |rule: &str, uid: &str| {
            let info = json!({"analytic": {"uid": rule}});
            json!({"finding_info": info, "actor": {"user": {"uid": uid}}}).to_string()
        };
        let mine = "exfilwatch-canary/ab";
        assert!(is_alert_of(mine, alert("exfilwatch.canary", mine).as_bytes()));
        assert!(!is_alert_of(mine, alert("exfilwatch.canary", "exfilwatch-canary/ac").as_bytes()));
        assert!(!is_alert_of(mine, alert("customer-records", mine).as_bytes()));
        assert!(!is_alert_of(
            mine,
            br#"{"finding_info":{"analytic":{"uid":"exfilwatch.canary"}}}"#
        ));
        assert!(!is_alert_of(mine, b"no JSON"));
    }
}

//! Events of the tests, in every input format, and the offline fold they are compared with.

use std::{collections::BTreeMap, time::SystemTime};

use serde_json::{Value, json};

use crate::kafka::Message;

/// One read, as little of it as the tests need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    /// Event time, ms since the epoch.
    pub(crate) at_ms: i64,
    pub(crate) principal: String,
    pub(crate) table: &'static str,
    pub(crate) rows: u64,
}

impl Read {
    /// A read of `crm.public.customers`.
    pub(crate) fn of(principal: &str, at_ms: i64, rows: u64) -> Self {
        Self { at_ms, principal: principal.to_owned(), table: "customers", rows }
    }

    /// The canonical form, as JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "event_id": format!("e-{}-{}", self.principal, self.at_ms),
            "event_time": self.at_ms,
            "principal": {"id": self.principal, "groups": ["support-l1"], "tenant": "acme"},
            "source": {"kind": "postgresql", "instance": "crm-db-1", "database": "crm"},
            "objects": [{"schema": "public", "name": self.table}],
            "operation": "select",
            "destination": "client",
            "rows": self.rows,
            "client": {"address": "127.0.0.9", "application": "support-console"},
            "query": {"id": format!("q-{}", self.at_ms)},
        })
    }

    /// The canonical form as a record with a null key.
    pub(crate) fn canonical(&self) -> Message {
        Message::new(self.json().to_string())
    }

    /// The form of Trino's Kafka event listener, with a null key as it sends them.
    pub(crate) fn trino(&self) -> Message {
        let record = json!({
            "eventPayload": {
                "metadata": {
                    "queryId": format!("20260401_093342_{}_pzafy", self.at_ms),
                    "queryState": "FINISHED",
                    "query": "SELECT 1",
                },
                "statistics": {
                    "cpuTime": 25.975, "totalRows": self.rows * 100, "outputRows": self.rows,
                    "outputBytes": self.rows * 64, "writtenRows": 0,
                },
                "context": {
                    "user": self.principal, "principal": self.principal, "groups": [],
                    "remoteClientAddress": "127.0.0.7", "queryType": "SELECT",
                    "serverAddress": "lake", "environment": "test",
                },
                "ioMetadata": {"inputs": [{
                    "catalogName": "crm", "schema": "public", "table": self.table,
                    "columns": ["id"], "physicalInputRows": self.rows * 100,
                }]},
                "createTime": self.iso(),
                "executionStartTime": self.iso(),
                "endTime": self.iso(),
            },
            "eventMetadata": {},
        });
        Message::new(record.to_string())
    }

    fn iso(&self) -> String {
        jiff::Timestamp::from_millisecond(self.at_ms).expect("a time in range").to_string()
    }
}

/// Spreads records over partitions, one after the other.
pub(crate) fn spread(
    messages: impl IntoIterator<Item = Message>,
    partitions: i32,
) -> impl Iterator<Item = Message> {
    messages.into_iter().zip((0..partitions).cycle()).map(|(message, p)| message.to(p))
}

/// Wall-clock time in ms, for events that must lie close to broker time.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}

/// A minute in ms.
pub(crate) const MINUTE_MS: i64 = 60_000;
/// An hour in ms.
pub(crate) const HOUR_MS: i64 = 60 * MINUTE_MS;

/// The offline fold: exact rows per principal, nothing of exfilwatch in it.
pub(crate) fn rows_by_principal(reads: &[Read]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for read in reads {
        *sums.entry(read.principal.clone()).or_default() += read.rows;
    }
    sums
}

/// Exact rows of one principal in the trailing window that ends with `until_ms`, of the reads up
/// to then.
pub(crate) fn exact(reads: &[Read], principal: &str, window_ms: i64, until_ms: i64) -> u64 {
    reads
        .iter()
        .filter(|read| read.principal == principal)
        .filter(|read| read.at_ms <= until_ms && read.at_ms > until_ms - window_ms)
        .map(|read| read.rows)
        .sum()
}

/// A day of ordinary support work: `people` principals, each `reads` small reads within one hour
/// that ends at `end_ms`, in the order of time.
pub(crate) fn ordinary_hour(people: i64, reads: i64, end_ms: i64) -> Vec<Read> {
    let count = people * reads;
    let step = (50 * MINUTE_MS) / count;
    (0..count)
        .map(|index| {
            let principal = format!("agent-{:02}", index % people);
            // 1 to 5 rows: below every limit of the tests.
            let rows = u64::try_from(index % 5 + 1).expect("positive");
            Read::of(&principal, end_ms - 50 * MINUTE_MS + index * step, rows)
        })
        .collect()
}

/// A thief takes `reads` times 7 records within the last 45 minutes before `end_ms`: so late in
/// the hour that no coarse slice of 12 minutes holds one of them and crosses the window's edge,
/// and `lo` and `hi` are exact whatever the order in which the partitions are read (W1).
pub(crate) fn theft(principal: &str, reads: i64, end_ms: i64) -> Vec<Read> {
    let step = 45 * MINUTE_MS / reads;
    let at = |index| end_ms - 45 * MINUTE_MS + index * step;
    (0..reads).map(|index| Read::of(principal, at(index), 7)).collect()
}

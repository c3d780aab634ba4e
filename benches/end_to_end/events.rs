//! The events of the bench: about 500 bytes of JSON each, event time over two hours.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt64Array},
    ipc::writer::StreamWriter,
};

use crate::kafka::Message;

/// 2026-03-02T09:00:00Z, in milliseconds.
const START_MS: i64 = 1_772_442_000_000;
pub(crate) const SPAN_MS: u64 = 2 * 3_600_000;
/// Rows in one Arrow message.
pub(crate) const ARROW_ROWS: u64 = 4096;

/// One event, from which every format is made.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub(crate) n: u64,
    pub(crate) principal: u64,
    pub(crate) at_ms: i64,
    pub(crate) rows: u64,
}

impl Event {
    /// The name of a principal.
    pub(crate) fn name(principal: u64) -> String {
        format!("user-{principal:07}")
    }

    /// As the canonical format writes it.
    pub(crate) fn json(self) -> String {
        let Self { n, at_ms, rows, .. } = self;
        format!(
            concat!(
                r#"{{"event_id":"20260302_090000_{n:08}_bench","event_time":{at_ms},"#,
                r#""principal":{{"id":"{name}","type":"user","groups":["support-l1","#,
                r#""emea"],"tenant":"acme"}},"source":{{"kind":"postgresql","#,
                r#""instance":"crm-db-1","database":"crm"}},"objects":[{{"schema":"public","#,
                r#""name":"customers","#,
                r#""labels":["pii"],"row_count":12000000}}],"operation":"select","#,
                r#""destination":"client","rows":{rows},"rows_quality":"exact","bytes":{bytes},"#,
                r#""client":{{"address":"127.0.{a}.{b}","application":"support-console"}},"#,
                r#""query":{{"id":"q-{n:010}","fingerprint":"a9f0c3d1"}},"success":true}}"#,
            ),
            n = n,
            at_ms = at_ms,
            name = Self::name(self.principal),
            rows = rows,
            bytes = 400 * rows,
            a = n % 16,
            b = n % 250,
        )
    }
}

/// Who the events are of.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) principals: u64,
    /// Zipf with exponent 1 instead of uniform.
    pub(crate) skewed: bool,
}

impl Shape {
    /// Event `n` of `events`.
    pub(crate) fn event(self, n: u64, events: u64) -> Event {
        let (principal, at_ms) = (self.principal(n), Self::time_ms(n, events));
        Event { n, principal, at_ms, rows: n % 9 + 1 }
    }

    /// The principal of event `n`: a fixed shuffle, so that every run has the same events.
    fn principal(self, n: u64) -> u64 {
        let random = mix(n);
        if self.skewed {
            // Inverse of the harmonic distribution: rank = exp(u * ln(principals)).
            #[expect(clippy::cast_precision_loss, reason = "a random rank")]
            let (u, all) = ((random >> 11) as f64 / (1_u64 << 53) as f64, self.principals as f64);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
            let rank = all.powf(u) as u64;
            rank.min(self.principals) - 1
        } else {
            random % self.principals
        }
    }

    /// Event time of event `n` of `events`.
    pub(crate) fn time_ms(n: u64, events: u64) -> i64 {
        START_MS + i64::try_from(n * SPAN_MS / events).unwrap()
    }

    /// One event a record.
    pub(crate) fn json(self, events: u64) -> impl Iterator<Item = Message> {
        (0..events).map(move |n| {
            Message::new(self.event(n, events).json()).to(i32::try_from(n % 2).unwrap())
        })
    }

    /// Many events a record.
    pub(crate) fn arrow(self, events: u64) -> impl Iterator<Item = Message> {
        (0..events).step_by(usize::try_from(ARROW_ROWS).unwrap()).map(move |from| {
            let numbers = from..(from + ARROW_ROWS).min(events);
            let batch: Vec<Event> = numbers.map(|n| self.event(n, events)).collect();
            let partition = i32::try_from(from / ARROW_ROWS % 2).unwrap();
            Message::new(arrow(&batch)).to(partition)
        })
    }
}

/// Events as one Arrow stream of eight of the canonical columns.
pub(crate) fn arrow(events: &[Event]) -> Vec<u8> {
    let same = |text: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, events.len())))
    };
    let texts = |text: fn(&Event) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(events.iter().map(text)))
    };
    let times = events.iter().map(|event| event.at_ms);
    let rows = events.iter().map(|event| event.rows);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("event_id", texts(|event| format!("20260302_090000_{:08}_bench", event.n))),
        ("event_time", Arc::new(Int64Array::from_iter_values(times))),
        ("principal.id", texts(|event| Event::name(event.principal))),
        ("source.kind", same("postgresql")),
        ("source.instance", same("crm-db-1")),
        ("operation", same("select")),
        ("client.address", texts(|event| format!("127.0.{}.{}", event.n % 16, event.n % 250))),
        ("rows", Arc::new(UInt64Array::from_iter_values(rows))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// `SplitMix64` (Steele, Lea and Flood, 2014).
fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

//! The events that everybody counts: those of the other bench, with a few thieves among them.

use std::collections::{BTreeMap, HashMap};

use crate::{
    PARTITIONS,
    events::{self, ARROW_ROWS, Event, SPAN_MS, Shape},
    kafka::{self, Client, Compression, Message},
};

/// How often a thief reads.
const READS: u64 = 60;
const MINUTE_MS: u64 = 60_000;

/// When a thief begins, for how long, and how many rows that brings, in half minutes and thousands.
/// Some pass a limit plainly, some only as a coarse count sees it, and some never.
const THIEVES: [(u64, u64, u64); 8] = [
    (20, 1, 150),   // 150 of 100 in a minute
    (30, 5, 150),   // 60 in a minute: nobody may tell
    (40, 80, 300),  // 300 of 200 in an hour
    (10, 200, 300), // 180 in an hour, 216 in its longest count
    (6, 220, 270),  // 147 in an hour, 177 in its longest count: nobody may tell
    (5, 220, 340),  // 185 in an hour, 222 in its longest count
    (4, 220, 600),  // 600 of 500 in a day
    (3, 220, 1200), // 1,200 of 1,000 in thirty days
];

/// How a topic is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    Json,
    Trino,
    Arrow,
    /// With the principal as the record's key, which decides the partition.
    KeyedJson,
    /// Each message of one principal, which is its key and decides the partition.
    KeyedArrow,
    /// The same, to be re-keyed all the same.
    RekeyedArrow,
}

impl Format {
    /// The input's `format`, and what else the input needs to say.
    pub(crate) const fn input(self) -> &'static str {
        match self {
            Self::Json => "canonical",
            // The peers do not look for events that came before.
            Self::Trino => "trino, retries: false",
            Self::Arrow | Self::RekeyedArrow => "arrow",
            Self::KeyedJson => "canonical, keyed: true",
            Self::KeyedArrow => "arrow, keyed: true",
        }
    }

    const fn is_keyed(self) -> bool {
        matches!(self, Self::KeyedJson | Self::KeyedArrow | Self::RekeyedArrow)
    }
}

/// A data set.
pub(crate) struct Data {
    pub(crate) shape: Shape,
    pub(crate) events: u64,
    /// The events that are a thief's, by number: whose, and how many rows.
    thefts: HashMap<u64, (u64, u64)>,
}

impl Data {
    pub(crate) fn new(shape: Shape, events: u64) -> Self {
        let mut thefts = HashMap::new();
        for (thief, (begin, length, thousands)) in (0..).zip(THIEVES) {
            for read in 0..READS {
                let at_ms = (begin * READS + length * read) * MINUTE_MS / 2 / READS;
                // Alternately on both partitions; two thieves never share an event.
                let mut n = (at_ms * events / SPAN_MS) & !1 | (read & 1);
                while thefts.contains_key(&n) {
                    n += 2;
                }
                thefts.insert(n, (shape.principals + thief, thousands * 1000 / READS));
            }
        }
        Self { shape, events, thefts }
    }

    /// Everybody who may be in it, thieves included.
    pub(crate) fn principals(&self) -> u64 {
        self.shape.principals + THIEVES.len() as u64
    }

    pub(crate) fn event(&self, n: u64) -> Event {
        let event = self.shape.event(n, self.events);
        match self.thefts.get(&n) {
            Some(&(principal, rows)) => Event { principal, rows, ..event },
            None => event,
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Event> {
        (0..self.events).map(|n| self.event(n))
    }

    /// Writes a new topic.
    pub(crate) fn fill(&self, client: &Client, format: Format) -> String {
        let topic = kafka::unique(&format!("reads-{format:?}").to_lowercase());
        // Detect takes the time of a keyed input from its broker.
        let stamp = if format.is_keyed() { "LogAppendTime" } else { "CreateTime" };
        let properties = [("max.message.bytes", "10000000"), ("message.timestamp.type", stamp)];
        client.create_topic(&topic, PARTITIONS, &properties);
        client.produce(&topic, Compression::Lz4, self.messages(format));
        topic
    }

    fn messages(&self, format: Format) -> Box<dyn Iterator<Item = Message> + '_> {
        let alternate = |event: &Event| partition(event.n);
        match format {
            Format::Json => Box::new(
                self.all().map(move |event| Message::new(event.json()).to(alternate(&event))),
            ),
            Format::Trino => Box::new(
                self.all().map(move |event| Message::new(trino(event)).to(alternate(&event))),
            ),
            Format::KeyedJson => Box::new(self.all().map(|event| {
                let key = Event::name(event.principal);
                Message::new(event.json()).key(key).to(partition(event.principal))
            })),
            Format::Arrow => Box::new(
                self.batches(|event| (event.n / ARROW_ROWS, 0))
                    .map(|((number, _), message)| message.to(partition(number))),
            ),
            Format::KeyedArrow | Format::RekeyedArrow => {
                Box::new(self.batches(|event| (at_minute(event), event.principal)).map(
                    |((_, principal), message)| {
                        message.key(Event::name(principal)).to(partition(principal))
                    },
                ))
            }
        }
    }

    /// Messages of the events of one group each: those of a period, once it is over.
    fn batches(
        &self,
        group: fn(&Event) -> (u64, u64),
    ) -> impl Iterator<Item = ((u64, u64), Message)> {
        let mut open: BTreeMap<(u64, u64), Vec<Event>> = BTreeMap::new();
        let numbers = (0..self.events).map(Some).chain([None]);
        numbers.flat_map(move |n| {
            let event = n.map(|n| self.event(n));
            let of = event.as_ref().map_or((u64::MAX, 0), group);
            let over = open.first_key_value().is_some_and(|((period, _), _)| *period < of.0);
            let closed = if over { std::mem::take(&mut open) } else { BTreeMap::new() };
            if let Some(event) = event {
                open.entry(of).or_default().push(event);
            }
            closed.into_iter().map(|(of, events)| (of, Message::new(events::arrow(&events))))
        })
    }
}

fn at_minute(event: &Event) -> u64 {
    event.at_ms.unsigned_abs() / MINUTE_MS
}

fn partition(number: u64) -> i32 {
    i32::try_from(number % 2).unwrap()
}

/// As Trino's event listener writes it: of the plans and statistics it adds, a few.
fn trino(event: Event) -> String {
    let Event { n, at_ms, rows, .. } = event;
    let name = Event::name(event.principal);
    let at = jiff::Timestamp::from_millisecond(at_ms).unwrap();
    format!(
        concat!(
            r#"{{"eventPayload":{{"metadata":{{"queryId":"20260302_090000_{n:08}_bench","#,
            r#""transactionId":"5e0e4b0e-9d0c-4f1e-8a11-{n:012}","queryState":"FINISHED","#,
            r#""uri":"http://coordinator.example:8080/v1/query/20260302_090000_{n:08}_bench","#,
            r#""query":"SELECT id, email, phone FROM customers WHERE id > {n}","#,
            r#""tables":[{{"catalog":"crm","schema":"public","table":"customers","#,
            r#""directlyReferenced":true,"authorization":"{name}","filters":[],"#,
            r#""columns":[{{"column":"id"}},{{"column":"email"}},{{"column":"phone"}}]}}],"#,
            r#""routines":[],"plan":"Fragment 0 [SINGLE] Output layout: [id, email, phone]"}},"#,
            r#""statistics":{{"cpuTime":0.018,"wallTime":0.131,"queuedTime":0.002,"#,
            r#""planningTime":0.011,"physicalInputBytes":73400,"physicalInputRows":2500,"#,
            r#""totalBytes":73400,"totalRows":2500,"outputBytes":{bytes},"outputRows":{rows},"#,
            r#""writtenBytes":0,"writtenRows":0,"cumulativeMemory":88213.5,"#,
            r#""completedSplits":31,"complete":true,"#,
            r#""operatorSummaries":["{{\"operatorId\": 0, \"inputRows\": 2500}}"]}},"#,
            r#""context":{{"user":"{name}","principal":"{name}","originalUser":"{name}","#,
            r#""groups":["support","emea"],"enabledRoles":["reader"],"#,
            r#""remoteClientAddress":"127.0.{a}.{b}","userAgent":"StatementClientV1/451","#,
            r#""source":"support-console","clientTags":[],"catalog":"crm","schema":"public","#,
            r#""resourceGroupId":["global"],"sessionProperties":{{}},"resourceEstimates":{{}},"#,
            r#""serverAddress":"127.0.0.1","serverVersion":"451","environment":"lake","#,
            r#""queryType":"SELECT","retryPolicy":"NONE"}},"ioMetadata":{{"inputs":["#,
            r#"{{"catalogName":"crm","schema":"public","table":"customers","#,
            r#""columns":["id","email","phone"],"physicalInputRows":2500}}]}},"warnings":[],"#,
            r#""createTime":"{at}","executionStartTime":"{at}","endTime":"{at}"}},"#,
            r#""eventMetadata":{{"cluster":"lake"}}}}"#,
        ),
        n = n,
        name = name,
        at = at,
        rows = rows,
        bytes = 400 * rows,
        a = n % 16,
        b = n % 250,
    )
}

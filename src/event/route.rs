//! From events to messages of the events topic: identity, catalogue, group key, partition.
//!
//! One route for each grouping in use. A row goes to the partition of its key's hash, so that
//! everything counted together is read by one engine. Rows of one source partition keep their
//! order within a route and partition (D1 stands on it). Never here: Kafka, clocks.

use std::hash::Hasher;

use arrow::{array::RecordBatch, error::ArrowError};
use siphasher::sip::SipHasher13;

use crate::units::{EventTime, KeyHash, Offset};

use super::{
    Event, GroupBy, RowsQuality,
    batch::{Position, SourcePartition, SourceRef},
    builder::{self, Builder, Row},
    catalog::Catalog,
    contexts::{CONTEXTS_MAX, Contexts},
    identity::Identity,
};

/// A message is closed before a row would take it beyond this. One row alone may be longer: a
/// context holds a name whole and in parts, and in JSON each of the
/// [`super::draft::EVENT_BYTES_MAX`] bytes may take six.
pub const MESSAGE_BYTES: usize = 4 << 20;

/// What decides where a row goes. Changes only at a committed offset (D1).
#[derive(Debug)]
pub struct RouterSpec {
    /// Groupings in use, each once.
    pub routes: Vec<GroupBy>,
    /// Partitions of the events topic, at least 1.
    pub partitions: u32,
    /// Key of the hash of group keys; the same on every member, for the topic's whole life.
    pub seed: (u64, u64),
    /// How names become principals.
    pub identity: Identity,
    /// What is known of objects.
    pub catalog: Catalog,
}

/// Number of a source partition in one router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u16);

/// A message for the events topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// Its route.
    pub route: GroupBy,
    /// Partition of the events topic.
    pub partition: u32,
    /// Rows in it; 0 for a time mark.
    pub rows: u32,
    /// Arrow IPC stream.
    pub payload: Vec<u8>,
}

/// What a router has done since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterStats {
    /// Events pushed.
    pub events: u64,
    /// Of these, events whose row count is unknown.
    pub unknown_counts: u64,
    /// Rows by route, as [`GroupBy::ALL`] orders them.
    pub rows: [u64; GroupBy::ALL.len()],
    /// Events without the field of a route in use, in the same order: counted in no key there.
    pub keyless: [u64; GroupBy::ALL.len()],
    /// Events by the catalogue entry that described one of their objects.
    pub catalog_matches: Vec<u64>,
    /// How often the contexts remembered were too many.
    pub context_resets: u64,
}

/// Turns events into messages. One a thread; it shares nothing.
#[derive(Debug)]
pub struct Router {
    spec: RouterSpec,
    /// By position of the route in `spec.routes`, then by partition.
    builders: Vec<Vec<Builder>>,
    sources: Vec<SourceRef>,
    contexts: Contexts,
    /// Messages that reached [`MESSAGE_BYTES`] before the flush.
    full: Vec<Routed>,
    /// Why one of them could not be made.
    fault: Option<ArrowError>,
    buffered: usize,
    stats: RouterStats,
    principal: String,
    key: String,
}

impl Router {
    /// A router without rows.
    #[must_use]
    pub fn new(spec: RouterSpec) -> Self {
        let partitions = spec.partitions.max(1) as usize;
        let builders = spec
            .routes
            .iter()
            .map(|_| std::iter::repeat_with(Builder::default).take(partitions).collect());
        let stats =
            RouterStats { catalog_matches: vec![0; spec.catalog.len()], ..RouterStats::default() };
        Self {
            builders: builders.collect(),
            spec,
            sources: Vec::new(),
            contexts: Contexts::default(),
            full: Vec::new(),
            fault: None,
            buffered: 0,
            stats,
            principal: String::new(),
            key: String::new(),
        }
    }

    /// The number of a source partition; the same partition gives the same number.
    pub fn source(&mut self, source: &SourcePartition) -> SourceId {
        let known = self.sources.iter().position(|known| known.source == *source);
        let number = known.unwrap_or_else(|| {
            self.sources.push(SourceRef::new(source.clone(), false));
            self.sources.len() - 1
        });
        SourceId(u16::try_from(number).expect("a member reads fewer than 65,536 partitions"))
    }

    /// As [`Self::source`], of one that may send an event again: its rows say so from now on.
    pub fn source_that_retries(&mut self, source: &SourcePartition) -> SourceId {
        let id = self.source(source);
        self.sources[usize::from(id.0)].retries = true;
        id
    }

    /// Adds an event to every route. `row` is its index in the record at `offset`.
    ///
    /// Events of one source must come in the order of (`offset`, `row`).
    pub fn push(&mut self, source: SourceId, offset: Offset, row: u32, event: &Event<'_>) {
        self.route(source, (offset, row), event, false);
    }

    /// As [`Self::push`], for an event with a valid signature ([`super::canary`]): its row is
    /// marked, and goes to the route by principal alone.
    pub fn push_canary(&mut self, source: SourceId, offset: Offset, row: u32, event: &Event<'_>) {
        self.route(source, (offset, row), event, true);
    }

    #[inline]
    fn route(
        &mut self,
        source: SourceId,
        (offset, row): (Offset, u32),
        event: &Event<'_>,
        canary: bool,
    ) {
        self.stats.events += 1;
        self.stats.unknown_counts += u64::from(event.rows_quality == RowsQuality::Unknown);
        let context = self.contexts.intern(event, canary, &self.spec.catalog);
        for &entry in &self.contexts.entries[context as usize].catalog_entries {
            self.stats.catalog_matches[entry] += 1;
        }
        let tenant = event.principal.tenant.as_deref();
        let instance = event.source.instance.as_deref();
        let mut principal = std::mem::take(&mut self.principal);
        self.spec.identity.canonical(&event.principal.id, tenant, instance, &mut principal);
        let principal_hash = hash(self.spec.seed, &principal);
        let origin = Origin { source, offset, row, context, principal_hash };
        for route in 0..self.spec.routes.len() {
            if canary && self.spec.routes[route] != GroupBy::PrincipalId {
                continue;
            }
            self.push_route(route, &origin, event, &principal);
        }
        self.principal = principal;
    }

    fn push_route(&mut self, route: usize, origin: &Origin, event: &Event<'_>, principal: &str) {
        let key = match self.spec.routes[route] {
            GroupBy::PrincipalId => Some(principal),
            GroupBy::PrincipalTenant => event.principal.tenant.as_deref(),
            GroupBy::ClientAddress => event.client_address.as_deref(),
            GroupBy::SourceInstance => event.source.instance.as_deref(),
            GroupBy::Object => return self.push_objects(route, origin, event, principal),
        };
        match key {
            Some(key) => self.append(route, origin, event, principal, key, 0),
            None => self.stats.keyless[self.spec.routes[route] as usize] += 1,
        }
    }

    /// The full count is charged to each object, so each has a row of its own.
    fn push_objects(&mut self, route: usize, origin: &Origin, event: &Event<'_>, principal: &str) {
        let objects = self.contexts.entries[origin.context as usize].object_names.clone();
        if objects.is_empty() {
            self.stats.keyless[GroupBy::Object as usize] += 1;
        }
        for (object, name) in (0..).zip(objects.iter()) {
            self.append(route, origin, event, principal, name, object);
        }
    }

    fn append(
        &mut self,
        route: usize,
        origin: &Origin,
        event: &Event<'_>,
        principal: &str,
        key: &str,
        object: u16,
    ) {
        let group_by = self.spec.routes[route];
        let by_principal = group_by == GroupBy::PrincipalId;
        // A principal is canonical already; other keys are folded so that case hides nothing.
        let (key, key_hash) = if by_principal {
            (principal, origin.principal_hash)
        } else {
            let key = Identity::fold_key(key, &mut self.key);
            (key, hash(self.spec.seed, key))
        };
        let written = event.principal.id.as_ref();
        let row = Row {
            key,
            key_hash,
            principal: (!by_principal).then_some((principal, origin.principal_hash)),
            written: (written != principal).then_some(written),
            context: (origin.context, &self.contexts.entries[origin.context as usize].json),
            source: origin.source.0,
            position: Position { offset: origin.offset, row: origin.row, object },
            event,
        };
        let partition = key_hash.partition(self.spec.partitions.max(1));
        let builder = &mut self.builders[route][partition as usize];
        if builder.len() > 0 && builder.bytes() + row.bytes() > MESSAGE_BYTES {
            let rows = u32::try_from(builder.len()).unwrap_or(u32::MAX);
            let batch = builder.finish(group_by, &self.sources);
            match batch.and_then(|batch| builder::encode(&batch)) {
                Ok(payload) => {
                    self.full.push(Routed { route: group_by, partition, rows, payload });
                }
                Err(fault) => self.fault = Some(fault),
            }
        }
        builder.push(&row);
        self.buffered += 1;
        self.stats.rows[group_by as usize] += 1;
    }

    /// Messages that are full and wait for [`Self::flush`]: a sign that it is time for it.
    #[must_use]
    pub const fn full(&self) -> usize {
        self.full.len()
    }

    /// Rows that wait for [`Self::flush`].
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.buffered
    }

    /// What was done so far.
    #[must_use]
    pub const fn stats(&self) -> &RouterStats {
        &self.stats
    }

    /// The groupings in use.
    #[must_use]
    pub fn routes(&self) -> &[GroupBy] {
        &self.spec.routes
    }

    /// Turns every builder that holds rows into one message, appended to `out`.
    ///
    /// # Errors
    /// Arrow refuses the columns, which would be a fault of this program.
    pub fn flush(&mut self, out: &mut Vec<Routed>) -> Result<(), ArrowError> {
        self.fault.take().map_or(Ok(()), Err)?;
        out.append(&mut self.full);
        self.drain(|route, partition, rows, batch| {
            out.push(Routed { route, partition, rows, payload: builder::encode(&batch)? });
            Ok(())
        })
    }

    /// As [`Self::flush`], without making bytes of it, which most of a simulation would be about.
    #[cfg(test)]
    pub(crate) fn flush_unencoded(&mut self, mut each: impl FnMut(u32, RecordBatch)) {
        assert!(self.full.is_empty() && self.fault.is_none());
        let drained = self.drain(|_, partition, _, batch| {
            each(partition, batch);
            Ok(())
        });
        drained.expect("what only hands batches over does not fail");
    }

    fn drain(
        &mut self,
        mut each: impl FnMut(GroupBy, u32, u32, RecordBatch) -> Result<(), ArrowError>,
    ) -> Result<(), ArrowError> {
        for (&route, builders) in self.spec.routes.iter().zip(&mut self.builders) {
            for (partition, builder) in (0..).zip(builders) {
                let rows = u32::try_from(builder.len()).unwrap_or(u32::MAX);
                if rows > 0 {
                    each(route, partition, rows, builder.finish(route, &self.sources)?)?;
                }
            }
        }
        self.buffered = 0;
        if self.contexts.entries.len() > CONTEXTS_MAX {
            self.contexts = Contexts::default();
            self.stats.context_resets += 1;
        }
        Ok(())
    }

    /// Time marks for every events partition: `sources` were at their end at `at` (W6).
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn mark(
        &self,
        at: EventTime,
        sources: &[SourceId],
        out: &mut Vec<Routed>,
    ) -> Result<(), ArrowError> {
        let Some((route, batch)) = self.mark_batch(at, sources)? else { return Ok(()) };
        let payload = builder::encode(&batch)?;
        out.extend((0..self.spec.partitions.max(1)).map(|partition| Routed {
            route,
            partition,
            rows: 0,
            payload: payload.clone(),
        }));
        Ok(())
    }

    /// What [`Self::mark`] writes to each partition, before it becomes bytes.
    pub(crate) fn mark_batch(
        &self,
        at: EventTime,
        sources: &[SourceId],
    ) -> Result<Option<(GroupBy, RecordBatch)>, ArrowError> {
        let Some(&route) = self.spec.routes.first() else { return Ok(None) };
        let named = sources.iter().map(|id| self.sources[usize::from(id.0)].clone());
        Ok(Some((route, builder::mark(route, at, named.collect())?)))
    }
}

/// Where an event comes from and what it shares with others.
struct Origin {
    source: SourceId,
    offset: Offset,
    row: u32,
    context: u32,
    /// Hashed once, whatever the number of routes.
    principal_hash: KeyHash,
}

/// SipHash-1-3 of a group key under the stored seed (Aumasson and Bernstein, 2012).
#[must_use]
pub fn hash(seed: (u64, u64), key: &str) -> KeyHash {
    let mut hasher = SipHasher13::new_with_keys(seed.0, seed.1);
    hasher.write(key.as_bytes());
    KeyHash(hasher.finish())
}

#[cfg(test)]
mod tests {
    use arrow::array::Array as _;
    use smallvec::smallvec;

    use super::*;
    use crate::{
        event::{Object, Principal, Source, batch::Batch, identity::IdentitySpec},
        rules::GroupBy::{ClientAddress, Object as ByObject, PrincipalId, PrincipalTenant},
    };

    fn router(routes: &[GroupBy], partitions: u32) -> Router {
        Router::new(RouterSpec {
            routes: routes.to_vec(),
            partitions,
            seed: (1, 2),
            identity: Identity::new(&IdentitySpec::default()),
            catalog: Catalog::new(Vec::new()),
        })
    }

    fn event(principal: &str) -> Event<'_> {
        Event {
            event_id: Some("e-1".into()),
            event_time: EventTime::from_millis(1_767_571_200_123),
            principal: Principal { id: principal.into(), ..Principal::default() },
            source: Source { kind: "trino".into(), ..Source::default() },
            objects: smallvec![],
            operation: Some("select".into()),
            destination: super::super::Destination::Client,
            rows: Some(120),
            rows_quality: RowsQuality::Exact,
            rows_written: 0,
            bytes: None,
            client_address: None,
            client_application: None,
            query_id: None,
            query_fingerprint: None,
            success: None,
        }
    }

    fn source(partition: i32) -> SourcePartition {
        SourcePartition { topic: "t".into(), partition, ..SourcePartition::default() }
    }

    fn flush(router: &mut Router) -> Vec<(u32, Batch)> {
        let mut out = Vec::new();
        router.flush(&mut out).unwrap();
        out.iter()
            .map(|routed| {
                let batch = Batch::decode(&routed.payload).unwrap();
                assert_eq!((batch.len(), batch.route()), (routed.rows as usize, routed.route));
                (routed.partition, batch)
            })
            .collect()
    }

    #[test]
    fn a_row_comes_out_as_it_went_in() {
        let mut router = router(&[PrincipalId], 1);
        let id = router.source(&source(3));
        router.push(id, Offset(41), 2, &event("Ann"));
        let (_, batch) = flush(&mut router).remove(0);
        assert_eq!(
            (batch.key(0), batch.written_principal(0), batch.principal(0)),
            ("ann", "Ann", "ann")
        );
        assert_eq!(batch.key_hash(0), hash((1, 2), "ann"));
        assert_eq!((batch.rows(0), batch.bytes(0)), (Some(120), None));
        assert_eq!(batch.event_time(0).millis(), 1_767_571_200_123);
        assert_eq!((batch.event_id(0), batch.query_id(0)), (Some("e-1"), None));
        assert_eq!(batch.position(0), Position { offset: Offset(41), row: 2, object: 0 });
        assert_eq!(batch.sources()[0].source, source(3));
        let context =
            crate::event::context::Context::from_json(batch.contexts().get(0).unwrap()).unwrap();
        assert_eq!(context.operation.as_deref(), Some("select"));
    }

    #[test]
    fn all_rows_of_a_key_go_to_one_partition_and_keys_spread_over_all() {
        let mut router = router(&[PrincipalId], 8);
        let id = router.source(&source(0));
        for offset in 0..400 {
            let name = format!("p{}", offset % 100);
            router.push(id, Offset(offset), 0, &event(&name));
        }
        let mut homes = std::collections::HashMap::new();
        for (partition, batch) in flush(&mut router) {
            for row in 0..batch.len() {
                assert_eq!(*homes.entry(batch.key(row).to_owned()).or_insert(partition), partition);
            }
        }
        let used: std::collections::BTreeSet<_> = homes.values().collect();
        assert_eq!((homes.len(), used.len()), (100, 8));
    }

    #[test]
    fn a_message_is_closed_before_it_is_too_long_and_loses_no_row() {
        let mut router = router(&[PrincipalId], 1);
        let id = router.source(&source(0));
        let long = "i".repeat(400);
        for offset in 0..16_000 {
            let query_id = Some(format!("{long}{offset}").into());
            let event = Event { query_id, ..event("x") };
            router.push(id, Offset(offset), 0, &event);
        }
        assert!(router.full() > 0);
        let mut out = Vec::new();
        router.flush(&mut out).unwrap();
        assert_eq!((router.rows(), router.full()), (0, 0));
        assert!(out.len() > 1);
        assert!(out.iter().all(|message| message.payload.len() < MESSAGE_BYTES + 8192));
        let batches = out.iter().map(|message| Batch::decode(&message.payload).unwrap());
        let offsets: Vec<i64> = batches
            .flat_map(|batch| {
                (0..batch.len()).map(|row| batch.position(row).offset.0).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(offsets, (0..16_000).collect::<Vec<_>>(), "in order, each once");
    }

    #[test]
    fn each_message_names_the_offset_routed_before_it() {
        let mut router = router(&[PrincipalId], 1);
        let (a, b) = (router.source(&source(0)), router.source(&source(1)));
        router.push(a, Offset(5), 0, &event("x"));
        router.push(a, Offset(6), 0, &event("x"));
        assert_eq!(flush(&mut router)[0].1.sources()[0].previous, -1);
        router.push(b, Offset(9), 0, &event("x"));
        router.push(a, Offset(7), 0, &event("x"));
        let (_, batch) = flush(&mut router).remove(0);
        let chain: Vec<_> =
            batch.sources().iter().map(|s| (s.source.partition, s.previous)).collect();
        assert_eq!(chain, [(1, -1), (0, 6)]);
        assert_eq!((batch.source(0), batch.source(1)), (0, 1));
    }

    #[test]
    fn each_route_has_its_own_key_and_an_event_without_it_is_counted_as_keyless() {
        let mut router = router(&[PrincipalId, PrincipalTenant, ClientAddress, ByObject], 1);
        let id = router.source(&source(0));
        let mut read = event("ann");
        read.principal.tenant = Some("ACME".into());
        for name in ["crm.b", "crm.a", "CRM.B"] {
            read.objects.push(Object { name: name.into(), full: true, ..Object::default() });
        }
        router.push(id, Offset(0), 0, &read);
        let keys: Vec<Vec<String>> = flush(&mut router)
            .iter()
            .map(|(_, batch)| (0..batch.len()).map(|row| batch.key(row).to_owned()).collect())
            .collect();
        assert_eq!(keys, [vec!["ann"], vec!["acme"], vec!["crm.b", "crm.a"]]);
        assert_eq!(router.stats().keyless[ClientAddress as usize], 1);
        assert_eq!(router.stats().rows[ByObject as usize], 2);
    }

    #[test]
    fn contexts_differ_when_any_field_does() {
        let mut router = router(&[PrincipalId], 1);
        let id = router.source(&source(0));
        let mut events = vec![event("ann"); 4];
        events[1].success = Some(false);
        events[2].principal.groups.push("etl".into());
        events[3].operation = Some("selec".into());
        events[3].client_application = Some("t".into());
        for (offset, event) in (0..).zip(events.iter().chain(&events)) {
            router.push(id, Offset(offset), 0, event);
        }
        let (_, batch) = flush(&mut router).remove(0);
        assert_eq!(batch.contexts().values().len(), 4);
    }

    #[test]
    fn a_canary_is_marked_and_goes_to_the_route_by_principal_alone() {
        let mut router = router(&[ClientAddress, PrincipalId], 1);
        let id = router.source(&source(0));
        router.push(id, Offset(0), 0, &event("ann"));
        router.push_canary(id, Offset(1), 0, &event("ann"));
        let batches = flush(&mut router);
        let contexts = batches[0].1.contexts().values();
        let contexts: Vec<_> = contexts.iter().flatten().collect();
        assert_eq!((batches.len(), contexts.len()), (1, 2), "the mark alone tells them apart");
        assert!(!contexts[0].contains("canary"), "as it was before there were canaries");
        let read = |text| crate::event::context::Context::from_json(text).unwrap().canary;
        assert!(!read(contexts[0]) && read(contexts[1]));
        assert_eq!(router.stats().keyless[ClientAddress as usize], 1);
    }

    #[test]
    fn a_time_mark_goes_to_every_partition_and_has_no_rows() {
        let mut router = router(&[PrincipalId], 3);
        let id = router.source(&source(0));
        let mut out = Vec::new();
        router.mark(EventTime::from_millis(77), &[id], &mut out).unwrap();
        assert_eq!(out.iter().map(|mark| mark.partition).collect::<Vec<_>>(), [0, 1, 2]);
        let batch = Batch::decode(&out[2].payload).unwrap();
        assert!(batch.is_empty());
        assert_eq!(batch.mark(), Some(EventTime::from_millis(77)));
        assert_eq!(batch.sources()[0].source, source(0));
    }

    #[test]
    fn a_message_cut_short_at_any_byte_is_refused() {
        let mut router = router(&[PrincipalId], 1);
        let id = router.source(&source(0));
        router.push(id, Offset(0), 0, &event("ann"));
        let mut out = Vec::new();
        router.flush(&mut out).unwrap();
        let payload = &out[0].payload;
        // The last eight bytes are the end-of-stream mark, which a reader does not need.
        for length in 0..payload.len() - 8 {
            assert!(Batch::decode(&payload[..length]).is_err(), "cut at {length}");
        }
    }
}

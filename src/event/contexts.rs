//! The contexts that a router has met, so that a known one costs one look-up.

use std::{hash::BuildHasher, sync::Arc};

use hashbrown::HashTable;

use super::{Event, catalog::Catalog, context::Context};

/// Distinct contexts remembered between messages; beyond it they are forgotten and made anew.
pub(super) const CONTEXTS_MAX: usize = 65_536;

/// Contexts by the fields they were made of, so that a known one costs one look-up.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    table: HashTable<u32>,
    pub(super) entries: Vec<Entry>,
    hasher: foldhash::fast::RandomState,
    scratch: Vec<u8>,
}

/// A context that is known.
#[derive(Debug)]
pub(super) struct Entry {
    hash: u64,
    fields: Box<[u8]>,
    pub(super) json: Box<str>,
    pub(super) catalog_entries: Vec<usize>,
    pub(super) object_names: Arc<[Box<str>]>,
}

impl Contexts {
    /// Number of the event's context; a canary's is marked as such.
    pub(super) fn intern(&mut self, event: &Event<'_>, canary: bool, catalog: &Catalog) -> u32 {
        write_fields(event, canary, &mut self.scratch);
        let hash = self.hasher.hash_one(self.scratch.as_slice());
        let (entries, fields) = (&self.entries, self.scratch.as_slice());
        let known = self.table.find(hash, |&id| *entries[id as usize].fields == *fields);
        if let Some(&id) = known {
            return id;
        }
        let id = u32::try_from(entries.len()).expect("flushing bounds the contexts");
        let (mut context, catalog_entries) = Context::of(event, catalog);
        context.canary = canary;
        self.entries.push(Entry {
            hash,
            fields: fields.into(),
            json: context.to_json().into(),
            catalog_entries,
            object_names: context.objects.iter().map(|object| object.full_name.clone()).collect(),
        });
        let entries = &self.entries;
        self.table.insert_unique(hash, id, |&id| entries[id as usize].hash);
        id
    }
}

/// The fields a context is made of, each with its length, so that different ones never look alike.
fn write_fields(event: &Event<'_>, canary: bool, out: &mut Vec<u8>) {
    fn text(out: &mut Vec<u8>, text: Option<&str>) {
        let length =
            text.map_or(u32::MAX, |text| u32::try_from(text.len()).unwrap_or(u32::MAX - 1));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(text.unwrap_or_default().as_bytes());
    }
    fn count(out: &mut Vec<u8>, count: usize) {
        out.extend_from_slice(&(count as u64).to_le_bytes());
    }
    out.clear();
    text(out, event.principal.kind.as_deref());
    count(out, event.principal.groups.len());
    event.principal.groups.iter().for_each(|group| text(out, Some(group)));
    text(out, event.principal.tenant.as_deref());
    text(out, Some(&event.source.kind));
    text(out, event.source.instance.as_deref());
    text(out, event.source.database.as_deref());
    count(out, event.objects.len());
    for object in &event.objects {
        text(out, object.database.as_deref());
        text(out, object.schema.as_deref());
        text(out, Some(&object.name));
        out.push(u8::from(object.full));
        count(out, object.labels.len());
        object.labels.iter().for_each(|label| text(out, Some(label)));
        out.extend_from_slice(&object.row_count.unwrap_or(u64::MAX).to_le_bytes());
        out.push(u8::from(object.row_count.is_some()));
    }
    text(out, event.operation.as_deref());
    out.push(event.destination as u8);
    out.push(event.rows_quality as u8);
    text(out, event.client_application.as_deref());
    out.push(event.success.map_or(2, u8::from) | u8::from(canary) << 4);
}

//! Several inputs as one, by event time: W3 holds because nothing arrives late that was in order
//! in its own input.
//!
//! One input is handed through row by row, without a copy and in its own order, late rows
//! included: it may be the log of a run. Of several inputs one record each waits in memory.

use std::{collections::VecDeque, io};

use crate::{
    event::{Event, Object, Outcome, Principal, Source, Text},
    units::EventTime,
};

use super::input::{Input, Place};

/// Hands over every row of `inputs`: index of the input, place, what became of it.
///
/// # Errors
/// An input cannot be read: its index and why. Rows before that were handed over.
pub(super) fn merge(
    inputs: &mut [Input],
    sink: &mut dyn FnMut(usize, Place, Outcome<'_, '_>),
) -> Result<(), (usize, io::Error)> {
    if let [input] = inputs {
        while input.decode_next(&mut |place, row| sink(0, place, row)).map_err(|e| (0, e))? {}
        return Ok(());
    }
    let mut waiting: Vec<VecDeque<(Place, Event<'static>)>> =
        inputs.iter().map(|_| VecDeque::new()).collect();
    let mut open = vec![true; inputs.len()];
    loop {
        for (index, input) in inputs.iter_mut().enumerate() {
            while open[index] && waiting[index].is_empty() {
                let queue = &mut waiting[index];
                let more = input.decode_next(&mut |place, outcome| match outcome {
                    Outcome::Event(event) => queue.push_back((place, owned(event))),
                    other => sink(index, place, other),
                });
                open[index] = more.map_err(|error| (index, error))?;
            }
        }
        // The input named first wins a tie, so that the order is the same each time.
        let at = |queue: &VecDeque<(Place, Event<'_>)>| queue.front().map(|(_, e)| e.event_time);
        let heads = waiting.iter().enumerate().filter_map(|(i, queue)| Some((at(queue)?, i)));
        let Some((_, index)) = heads.min_by_key(|head: &(EventTime, usize)| *head) else {
            return Ok(());
        };
        if let Some((place, event)) = waiting[index].pop_front() {
            sink(index, place, Outcome::Event(&event));
        }
    }
}

fn owned(event: &Event<'_>) -> Event<'static> {
    Event {
        event_id: maybe(event.event_id.as_ref()),
        event_time: event.event_time,
        principal: Principal {
            id: text(&event.principal.id),
            kind: maybe(event.principal.kind.as_ref()),
            groups: event.principal.groups.iter().map(text).collect(),
            tenant: maybe(event.principal.tenant.as_ref()),
        },
        source: Source {
            kind: text(&event.source.kind),
            instance: maybe(event.source.instance.as_ref()),
            database: maybe(event.source.database.as_ref()),
        },
        objects: event.objects.iter().map(object).collect(),
        operation: maybe(event.operation.as_ref()),
        destination: event.destination,
        rows: event.rows,
        rows_quality: event.rows_quality,
        rows_written: event.rows_written,
        bytes: event.bytes,
        client_address: maybe(event.client_address.as_ref()),
        client_application: maybe(event.client_application.as_ref()),
        query_id: maybe(event.query_id.as_ref()),
        query_fingerprint: maybe(event.query_fingerprint.as_ref()),
        success: event.success,
    }
}

fn object(object: &Object<'_>) -> Object<'static> {
    Object {
        database: maybe(object.database.as_ref()),
        schema: maybe(object.schema.as_ref()),
        name: text(&object.name),
        full: object.full,
        labels: object.labels.iter().map(text).collect(),
        row_count: object.row_count,
    }
}

fn text(text: &Text<'_>) -> Text<'static> {
    Text::Owned(text.clone().into_owned())
}

fn maybe(value: Option<&Text<'_>>) -> Option<Text<'static>> {
    value.map(text)
}

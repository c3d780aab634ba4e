//! The tables of one meter: four windows a table, and which window is where.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{
    rules::Meter,
    units::{EventTime, KeyHash, Tick, WindowSpan},
    window::{Added, Budget, Table, TableShape, TableSpec, WINDOWS_MAX},
};

/// Coarse slices in a window.
const SLICES_PER_WINDOW: i64 = 5;

/// Counts of one key over all windows of a meter, in the meter's order.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) newest: Tick,
    pub(super) lo: SmallVec<[u64; WINDOWS_MAX]>,
    pub(super) hi: SmallVec<[u64; WINDOWS_MAX]>,
    /// Some `hi` includes counts of a sketch.
    pub(super) estimated: bool,
}

/// What adding to a key did.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub(super) struct Charged {
    /// Near a limit in some window.
    pub(super) near: bool,
    /// For the first time.
    pub(super) promoted_now: bool,
    /// Some window counted it.
    pub(super) counted: bool,
    /// Windows that no longer reached it.
    pub(super) late_windows: u32,
    /// Counts passed through the sketch.
    pub(super) estimated: bool,
}

/// Place of a window: table and lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    table: usize,
    lane: usize,
}

#[derive(Debug)]
struct Lanes {
    /// Its name where it is saved.
    name: u32,
    table: Table,
    windows: [Option<WindowSpan>; WINDOWS_MAX],
    /// How far ahead of broker time an event may move a key: one coarse slice of the shortest
    /// window, so that the key's real events still find every slice they need (W4, W2).
    lead_ms: i64,
    /// Time of the first row counted.
    since: Option<EventTime>,
}

/// The counts of one meter in one partition.
#[derive(Debug)]
pub(super) struct MeterState {
    tables: Vec<Lanes>,
    /// By window of the meter.
    places: Vec<Place>,
}

/// What must be known of a table and its windows before its values can be put back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LanesShape {
    table: TableShape,
    since: Option<EventTime>,
}

fn lead_ms(spans: &[WindowSpan]) -> i64 {
    let shortest = spans.iter().map(|span| span.secs()).min().unwrap_or_default();
    i64::from(shortest) * 1000 / SLICES_PER_WINDOW
}

impl MeterState {
    pub(super) fn new(meter: &Meter, budget: &mut Budget) -> Self {
        let mut state = Self { tables: Vec::new(), places: Vec::new() };
        state.adopt(meter, budget);
        state
    }

    /// Takes on the windows and limits of `meter`: known windows keep their counts, new ones start
    /// empty in tables of their own, and tables without a wanted window go.
    pub(super) fn adopt(&mut self, meter: &Meter, budget: &mut Budget) {
        let missing: Vec<WindowSpan> =
            meter.windows.iter().copied().filter(|&span| self.find(span).is_none()).collect();
        for spans in missing.chunks(WINDOWS_MAX) {
            let mut windows = [None; WINDOWS_MAX];
            for (lane, &span) in windows.iter_mut().zip(spans) {
                *lane = Some(span);
            }
            let table = Table::new(TableSpec { windows, promote_at: [u64::MAX; WINDOWS_MAX] });
            let lead_ms = lead_ms(spans);
            let name = budget.name_table();
            self.tables.push(Lanes { name, table, windows, lead_ms, since: None });
        }
        let wanted =
            |lanes: &Lanes| lanes.windows.iter().flatten().any(|w| meter.windows.contains(w));
        let (kept, gone) = self.tables.drain(..).partition(wanted);
        self.tables = kept;
        Self { tables: gone, places: Vec::new() }.release(budget);
        self.places = meter.windows.iter().filter_map(|&span| self.find(span)).collect();
        for (index, lanes) in self.tables.iter_mut().enumerate() {
            let mut promote_at = [u64::MAX; WINDOWS_MAX];
            for limit in &meter.limits {
                let place = self.places[limit.window];
                if place.table == index {
                    let quarter = (limit.above / 4).max(1);
                    promote_at[place.lane] = promote_at[place.lane].min(quarter);
                }
            }
            lanes.table.set_promote_at(promote_at);
        }
    }

    /// Its tables by name, to be saved.
    pub(super) fn tables(&mut self) -> impl Iterator<Item = (u32, &mut Table)> {
        self.tables.iter_mut().map(|lanes| (lanes.name, &mut lanes.table))
    }

    pub(super) fn shapes(&self) -> Vec<LanesShape> {
        let shape =
            |lanes: &Lanes| LanesShape { table: lanes.table.shape(lanes.name), since: lanes.since };
        self.tables.iter().map(shape).collect()
    }

    /// Tables of these shapes, whose values are still to come.
    pub(super) fn of_shapes(shapes: &[LanesShape], meter: &Meter, budget: &mut Budget) -> Self {
        let of_shape = |shape: &LanesShape| {
            let mut windows = [None; WINDOWS_MAX];
            for (lane, &span) in windows.iter_mut().zip(&shape.table.windows) {
                *lane = Some(span);
            }
            Lanes {
                name: shape.table.table,
                table: Table::of_shape(&shape.table, budget),
                windows,
                lead_ms: lead_ms(&shape.table.windows),
                since: shape.since,
            }
        };
        let tables = shapes.iter().map(of_shape).collect();
        let mut state = Self { tables, places: Vec::new() };
        state.adopt(meter, budget);
        state
    }

    /// Gives the memory back.
    pub(super) fn release(self, budget: &mut Budget) {
        self.tables.into_iter().for_each(|lanes| lanes.table.release(budget));
    }

    fn find(&self, span: WindowSpan) -> Option<Place> {
        self.tables.iter().enumerate().find_map(|(table, lanes)| {
            let lane = lanes.windows.iter().position(|&lane| lane == Some(span))?;
            Some(Place { table, lane })
        })
    }

    #[inline]
    pub(super) fn prefetch_index(&self, key: KeyHash) {
        self.tables.iter().for_each(|lanes| lanes.table.prefetch_index(key));
    }

    #[inline]
    pub(super) fn prefetch_slot(&self, key: KeyHash) {
        self.tables.iter().for_each(|lanes| lanes.table.prefetch_slot(key));
    }

    /// Adds to every window of a key. An event ahead of `broker_time` counts at most one slice of
    /// the shortest window ahead of it (W4).
    #[inline]
    pub(super) fn add(
        &mut self,
        key: KeyHash,
        (at, broker_time): (EventTime, EventTime),
        amount: u64,
        budget: &mut Budget,
    ) -> Charged {
        let mut charged = Charged::default();
        for lanes in &mut self.tables {
            let at = at.min(broker_time.plus_millis(lanes.lead_ms));
            lanes.since.get_or_insert(at);
            let added: Added = lanes.table.add(key, at.tick(), amount, budget);
            charged.near |= added.promoted;
            charged.promoted_now |= added.promoted_now;
            charged.counted |= !added.too_late;
            charged.late_windows += u32::from(added.late_windows).count_ones();
            charged.estimated |= added.estimated;
        }
        charged
    }

    /// Counts of a key at its newest tick; zero where a table does not hold it.
    pub(super) fn read(&self, key: KeyHash) -> Counts {
        self.gather(|table| table.read(key))
    }

    /// Counts of a key as they are at a later tick.
    pub(super) fn read_at(&self, key: KeyHash, at: Tick) -> Counts {
        self.gather(|table| table.read_at(key, at))
    }

    fn gather(&self, read: impl Fn(&Table) -> Option<crate::window::Reading>) -> Counts {
        let readings: SmallVec<[_; 2]> =
            self.tables.iter().map(|lanes| read(&lanes.table)).collect();
        let mut counts = Counts::default();
        for place in &self.places {
            let reading = readings[place.table].as_ref();
            counts.lo.push(reading.map_or(0, |reading| reading.lo[place.lane]));
            counts.hi.push(reading.map_or(0, |reading| reading.hi[place.lane]));
        }
        let newest = readings.iter().flatten().map(|reading| reading.newest).max();
        counts.newest = newest.unwrap_or_default();
        counts.estimated = readings.iter().flatten().any(|reading| reading.estimated);
        counts
    }

    /// First tick at which the window holds no more than `limit` if nothing more comes.
    pub(super) fn above_until(&self, key: KeyHash, window: usize, limit: u64) -> Option<Tick> {
        let place = self.places[window];
        self.tables[place.table].table.above_until(key, place.lane, limit)
    }

    /// A key with an open episode keeps its exact counts at the memory ceiling.
    pub(super) fn pin(&mut self, key: KeyHash) {
        for lanes in &mut self.tables {
            // A key that lives in the sketch alone can't be pinned; its alerts say `estimated`.
            lanes.table.pin(key);
        }
    }

    pub(super) fn unpin(&mut self, key: KeyHash) {
        self.tables.iter_mut().for_each(|lanes| lanes.table.unpin(key));
    }

    /// Ends the estimates of what is out of every window.
    pub(super) fn drop_expired_sketch(&mut self, budget: &mut Budget) {
        self.tables.iter_mut().for_each(|lanes| lanes.table.drop_expired_sketch(budget));
    }

    /// The time since which every one of `windows` has counted.
    pub(super) fn counting_since(&self, windows: impl Iterator<Item = usize>) -> EventTime {
        windows
            .filter_map(|window| self.tables[self.places[window].table].since)
            .max()
            .unwrap_or_default()
    }

    pub(super) fn keys(&self) -> usize {
        self.tables.iter().map(|lanes| lanes.table.keys()).max().unwrap_or(0)
    }

    pub(super) fn promoted(&self) -> usize {
        self.tables.iter().map(|lanes| lanes.table.promoted()).max().unwrap_or(0)
    }
}

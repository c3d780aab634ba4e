//! Which record is next: source partitions merged by event time (W3).
//!
//! Each source partition is a lane, a queue of records that were fetched and not yet decoded. The
//! next record is taken from the lane that is furthest behind in event time. A lane that is ahead
//! of the slowest lane that is not idle by more than the allowed drift waits.
//!
//! Pure: no Kafka types, no clock; times are arguments. Invariants:
//! - a lane hands out its records in the order they were put in;
//! - a lane holds at most the byte limit plus what was under way when it was paused;
//! - a lane without records holds the others back for at most [`IDLE_MS`].

use std::collections::VecDeque;

use crate::units::EventTime;

/// A lane without records for this long holds nobody back: longer than one fetch takes.
pub const IDLE_MS: u64 = 500;

/// Identifies a lane. Never used twice, so it also tells one assignment of a partition from the
/// next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u64);

/// Lanes and the choice between them.
#[derive(Debug)]
pub struct Merge<T> {
    lanes: Vec<Lane<T>>,
    next_id: u64,
    drift_ms: i64,
    hold_bytes: u64,
    /// Time of the record taken last that had one, whatever its lane.
    newest: Option<EventTime>,
}

#[derive(Debug)]
struct Lane<T> {
    id: LaneId,
    queue: VecDeque<(T, u64)>,
    bytes: u64,
    /// Event time of the record taken last; none yet counts as furthest behind.
    last: Option<EventTime>,
    /// When a record was last put in, or the lane was opened.
    arrived_ms: u64,
    /// The broker had nothing more when last asked.
    at_end: bool,
    paused: bool,
}

impl<T> Lane<T> {
    fn idle(&self, now_ms: u64) -> bool {
        let quiet = now_ms.saturating_sub(self.arrived_ms) >= IDLE_MS;
        self.queue.is_empty() && !self.paused && (self.at_end || quiet)
    }
}

/// Lanes to stop fetching and lanes to fetch again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// They hold too much.
    pub pause: Vec<LaneId>,
    /// They hold half as much again.
    pub resume: Vec<LaneId>,
}

impl<T> Merge<T> {
    /// `drift_ms`: how far a lane may be ahead; `hold_bytes`: what it may hold before it is paused.
    #[must_use]
    pub fn new(drift_ms: i64, hold_bytes: u64) -> Self {
        Self { lanes: Vec::new(), next_id: 0, drift_ms, hold_bytes, newest: None }
    }

    /// Opens a lane.
    pub fn open(&mut self, now_ms: u64) -> LaneId {
        let id = LaneId(self.next_id);
        self.next_id += 1;
        self.lanes.push(Lane {
            id,
            queue: VecDeque::new(),
            bytes: 0,
            last: None,
            arrived_ms: now_ms,
            at_end: false,
            paused: false,
        });
        id
    }

    /// Closes a lane and forgets what it holds.
    pub fn close(&mut self, id: LaneId) {
        self.lanes.retain(|lane| lane.id != id);
    }

    /// Forgets what all lanes hold and opens their gates: reading starts again somewhere else.
    /// Returns the lanes that were paused.
    pub fn clear(&mut self) -> Vec<LaneId> {
        let mut paused = Vec::new();
        for lane in &mut self.lanes {
            lane.queue.clear();
            lane.bytes = 0;
            if std::mem::take(&mut lane.paused) {
                paused.push(lane.id);
            }
        }
        paused
    }

    /// Puts a record in; a lane that was closed takes none.
    pub fn push(&mut self, id: LaneId, record: T, bytes: u64, now_ms: u64) {
        if let Some(lane) = self.lane(id) {
            lane.queue.push_back((record, bytes));
            lane.bytes += bytes;
            lane.arrived_ms = now_ms;
            lane.at_end = false;
        }
    }

    /// Says that the broker has nothing more for a lane.
    pub fn at_end(&mut self, id: LaneId) {
        if let Some(lane) = self.lane(id) {
            lane.at_end = true;
        }
    }

    /// The lane to take from next; none when all that is left has to wait.
    #[must_use]
    pub fn pick(&self, now_ms: u64) -> Option<LaneId> {
        // A lane that has given nothing yet comes before all others: `None` is the least.
        let next =
            self.lanes.iter().filter(|lane| !lane.queue.is_empty()).min_by_key(|lane| lane.last)?;
        let slowest = self.slowest(now_ms)?;
        let within = match (next.last, slowest.last) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(next), Some(slowest)) => {
                next.millis().saturating_sub(slowest.millis()) <= self.drift_ms
            }
        };
        within.then_some(next.id)
    }

    /// The lane furthest behind of those that are not idle.
    fn slowest(&self, now_ms: u64) -> Option<&Lane<T>> {
        self.lanes.iter().filter(|lane| !lane.idle(now_ms)).min_by_key(|lane| lane.last)
    }

    /// How far each lane is ahead of the slowest that is not idle, in ms; 0 where either has given
    /// nothing yet.
    pub fn leads(&self, now_ms: u64) -> impl Iterator<Item = (LaneId, i64)> {
        let slowest = self.slowest(now_ms).and_then(|lane| lane.last);
        self.lanes.iter().map(move |lane| {
            let lead = slowest
                .zip(lane.last)
                .map(|(slowest, last)| last.millis().saturating_sub(slowest.millis()).max(0));
            (lane.id, lead.unwrap_or(0))
        })
    }

    /// Takes the oldest record of a lane.
    pub fn take(&mut self, id: LaneId) -> Option<T> {
        let lane = self.lane(id)?;
        let (record, bytes) = lane.queue.pop_front()?;
        lane.bytes -= bytes;
        Some(record)
    }

    /// Says what time the record taken last was from. One without a time (ignored, refused) moves
    /// its lane along with the others: it neither holds them back nor runs ahead of them.
    pub fn advance(&mut self, id: LaneId, time: Option<EventTime>) {
        self.newest = time.or(self.newest);
        let newest = self.newest;
        if let Some(lane) = self.lane(id) {
            lane.last = time.or(lane.last.max(newest));
        }
    }

    /// Lanes to pause and to resume since the last call.
    pub fn throttle(&mut self) -> Throttle {
        let mut throttle = Throttle::default();
        for lane in &mut self.lanes {
            if !lane.paused && lane.bytes > self.hold_bytes {
                lane.paused = true;
                throttle.pause.push(lane.id);
            } else if lane.paused && lane.bytes <= self.hold_bytes / 2 {
                lane.paused = false;
                throttle.resume.push(lane.id);
            }
        }
        throttle
    }

    /// Bytes held by all lanes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.bytes).sum()
    }

    /// How full the fullest lane is; 1 is where it is paused.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn fill(&self) -> f64 {
        let fullest = self.lanes.iter().map(|lane| lane.bytes).max().unwrap_or(0);
        fullest as f64 / self.hold_bytes.max(1) as f64
    }

    /// Lanes that are paused.
    #[must_use]
    pub fn paused(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.paused).count()
    }

    /// True when nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.queue.is_empty())
    }

    fn lane(&mut self, id: LaneId) -> Option<&mut Lane<T>> {
        // Ids ascend in the order of opening.
        let index = self.lanes.binary_search_by_key(&id, |lane| lane.id).ok()?;
        self.lanes.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIFT_MS: i64 = 1000;

    /// Lanes whose records are their own event times.
    fn lanes(count: usize) -> (Merge<i64>, Vec<LaneId>) {
        let mut merge = Merge::new(DRIFT_MS, 100);
        let ids = (0..count).map(|_| merge.open(0)).collect();
        (merge, ids)
    }

    fn drain(merge: &mut Merge<i64>, now_ms: u64) -> Vec<i64> {
        let mut taken = Vec::new();
        while let Some(id) = merge.pick(now_ms) {
            let time = merge.take(id).expect("a picked lane holds a record");
            merge.advance(id, Some(EventTime::from_millis(time)));
            taken.push(time);
        }
        taken
    }

    #[test]
    fn the_lane_furthest_behind_goes_first() {
        let (mut merge, ids) = lanes(2);
        for time in [100, 300, 500] {
            merge.push(ids[0], time, 1, 0);
        }
        for time in [200, 400] {
            merge.push(ids[1], time, 1, 0);
        }
        assert_eq!(drain(&mut merge, 0), [100, 200, 300, 400, 500]);
    }

    #[test]
    fn a_lane_too_far_ahead_waits_for_one_that_is_not_idle() {
        let (mut merge, ids) = lanes(2);
        merge.push(ids[1], 0, 1, 0);
        for time in [1000, 1001, 1002] {
            merge.push(ids[0], time, 1, 0);
        }
        assert_eq!(drain(&mut merge, 0), [1000, 0, 1001], "1001 is past 0 + drift: no more");
        merge.push(ids[1], 500, 1, 100);
        assert_eq!(drain(&mut merge, 100), [500, 1002]);
    }

    #[test]
    fn drift_is_allowed_up_to_the_bound_itself() {
        let (mut merge, ids) = lanes(2);
        merge.push(ids[1], 0, 1, 0);
        merge.push(ids[0], DRIFT_MS, 1, 0);
        merge.push(ids[0], DRIFT_MS, 1, 0);
        assert_eq!(drain(&mut merge, 0).len(), 3);
    }

    #[test]
    fn a_lead_is_told_over_the_slowest_lane_that_is_not_idle() {
        let (mut merge, ids) = lanes(2);
        merge.push(ids[0], 5000, 1, 0);
        merge.push(ids[1], 6000, 1, 0);
        let leads = |merge: &Merge<i64>, at| merge.leads(at).map(|(_, ms)| ms).collect::<Vec<_>>();
        assert_eq!(leads(&merge, 0), [0, 0], "nothing was taken yet");
        drain(&mut merge, 0);
        assert_eq!(leads(&merge, 0), [0, 1000]);
        merge.push(ids[1], 7000, 1, IDLE_MS);
        assert_eq!(leads(&merge, IDLE_MS), [0, 0], "the first lane is idle now");
    }

    #[test]
    fn an_empty_lane_holds_the_others_back_only_until_it_is_idle() {
        let (mut merge, ids) = lanes(2);
        merge.push(ids[0], 5000, 1, 0);
        merge.push(ids[0], 6000, 1, 0);
        assert_eq!(drain(&mut merge, IDLE_MS - 1), [5000], "the second lane may still deliver");
        assert_eq!(drain(&mut merge, IDLE_MS), [6000]);
    }

    #[test]
    fn a_lane_at_its_end_holds_nobody_back() {
        let (mut merge, ids) = lanes(2);
        merge.push(ids[0], 5000, 1, 0);
        merge.push(ids[0], 6000, 1, 0);
        merge.at_end(ids[1]);
        assert_eq!(drain(&mut merge, 0), [5000, 6000]);
        merge.push(ids[1], 10, 1, 1);
        merge.push(ids[0], 7000, 1, 1);
        assert_eq!(drain(&mut merge, 1), [10], "it delivered again, so it counts again");
    }

    #[test]
    fn a_full_lane_is_paused_once_and_resumed_at_half() {
        let (mut merge, ids) = lanes(1);
        merge.push(ids[0], 1, 60, 0);
        merge.push(ids[0], 2, 40, 0);
        assert_eq!(merge.throttle(), Throttle::default(), "at the limit is not over it");
        merge.push(ids[0], 3, 1, 0);
        assert_eq!(merge.throttle(), Throttle { pause: vec![ids[0]], resume: vec![] });
        assert_eq!(merge.throttle(), Throttle::default());
        merge.take(ids[0]);
        assert_eq!(merge.throttle(), Throttle { pause: vec![], resume: vec![ids[0]] });
    }

    #[test]
    fn a_paused_lane_is_never_idle() {
        let (mut merge, ids) = lanes(2);
        merge.push(ids[1], 0, 101, 0);
        merge.throttle();
        merge.take(ids[1]);
        merge.advance(ids[1], Some(EventTime::from_millis(0)));
        merge.push(ids[0], 5000, 1, 10_000);
        merge.advance(ids[0], Some(EventTime::from_millis(5000)));
        assert_eq!(merge.pick(10_000), None, "its records are there, we just did not fetch them");
        merge.throttle();
        assert_eq!(merge.pick(10_000), Some(ids[0]));
    }

    #[test]
    fn records_without_a_time_neither_hold_others_back_nor_run_ahead() {
        let (mut merge, ids) = lanes(2);
        let at = |ms| Some(EventTime::from_millis(ms));
        merge.push(ids[0], 0, 1, 0);
        merge.take(ids[0]);
        merge.advance(ids[0], at(100_000));
        merge.advance(ids[1], None);
        merge.push(ids[0], 0, 1, 0);
        assert_eq!(merge.pick(0), Some(ids[0]), "the lane of garbage came along");
        merge.advance(ids[0], at(200_000));
        merge.advance(ids[0], None);
        merge.push(ids[1], 0, 1, 0);
        assert_eq!(merge.pick(0), Some(ids[1]));
    }

    #[test]
    fn a_closed_lane_takes_and_gives_nothing() {
        let (mut merge, ids) = lanes(1);
        merge.push(ids[0], 1, 1, 0);
        merge.close(ids[0]);
        merge.push(ids[0], 2, 1, 0);
        assert_eq!(merge.pick(IDLE_MS), None);
        assert!(merge.is_empty());
        assert_ne!(merge.open(0), ids[0], "ids are not used again");
    }

    #[test]
    fn clearing_forgets_records_and_names_the_paused_lanes() {
        let (mut merge, ids) = lanes(2);
        merge.push(ids[0], 1, 101, 0);
        merge.throttle();
        assert_eq!(merge.clear(), [ids[0]]);
        assert_eq!((merge.held_bytes(), merge.paused()), (0, 0));
    }
}

//! What detect read, in its order: the events file, put together from the events topic.
//!
//! Each event that was sent waits here until its row shows up in the events topic. So every event
//! is written once, as it was sent, and one that never shows up or shows up twice is noticed. Rows
//! of one events partition keep their order in the file, which is all that replay needs to decide
//! as the run did.

use std::{
    collections::VecDeque,
    io::{self, Write},
};

use super::organisation::Read;

/// An event under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// What it tells.
    pub read: Read,
    /// Its JSON.
    pub json: Box<[u8]>,
}

/// Events under way of one input partition, by offset.
#[derive(Debug, Default)]
struct UnderWay {
    /// Offset of the first.
    first: i64,
    sent: VecDeque<Option<Sent>>,
}

/// Writes the events file.
#[derive(Debug)]
pub struct Journal<W> {
    to: W,
    partitions: Vec<UnderWay>,
    sent: u64,
    written: u64,
    repeated: u64,
}

impl<W: Write> Journal<W> {
    /// A journal of events sent to so many partitions.
    #[must_use]
    pub fn new(to: W, partitions: u32) -> Self {
        let partitions = (0..partitions).map(|_| UnderWay::default()).collect();
        Self { to, partitions, sent: 0, written: 0, repeated: 0 }
    }

    /// An event goes out to `partition`; the first of each has offset 0, the next 1, and so on.
    pub fn send(&mut self, partition: u32, sent: Sent) {
        self.partitions[partition as usize].sent.push_back(Some(sent));
        self.sent += 1;
    }

    /// Its row has been read from the events topic. Returns what it told, unless it had been read
    /// before.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn arrived(&mut self, partition: i32, offset: i64) -> io::Result<Option<Read>> {
        let under_way = usize::try_from(partition).ok().and_then(|p| self.partitions.get_mut(p));
        let Some(sent) = under_way.and_then(|under_way| under_way.take(offset)) else {
            self.repeated += 1;
            return Ok(None);
        };
        self.to.write_all(&sent.json)?;
        self.to.write_all(b"\n")?;
        self.written += 1;
        Ok(Some(sent.read))
    }

    /// Events sent so far.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Events written so far, each once.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Rows that were no event under way.
    #[must_use]
    pub const fn repeated(&self) -> u64 {
        self.repeated
    }

    /// The file, to be finished.
    #[must_use]
    pub fn into_inner(self) -> W {
        self.to
    }
}

impl UnderWay {
    fn take(&mut self, offset: i64) -> Option<Sent> {
        let index = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        let sent = self.sent.get_mut(index)?.take();
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
            self.first += 1;
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{demo::organisation::Work, units::EventTime};

    fn sent(rows: u32) -> Sent {
        let at = EventTime::from_millis(i64::from(rows));
        let read = Read { at, person: 0, work: Work::Lookup, rows };
        Sent { read, json: rows.to_string().into_bytes().into() }
    }

    #[test]
    fn events_are_written_in_the_order_in_which_they_arrive() {
        let mut journal = Journal::new(Vec::new(), 2);
        for rows in 0..4 {
            journal.send(rows % 2, sent(rows));
        }
        for (partition, offset) in [(1, 1), (0, 0), (0, 1), (1, 0)] {
            assert!(journal.arrived(partition, offset).unwrap().is_some());
        }
        assert_eq!((journal.sent(), journal.written(), journal.repeated()), (4, 4, 0));
        assert_eq!(journal.into_inner(), b"3\n0\n2\n1\n");
    }

    #[test]
    fn a_row_that_arrives_twice_is_noticed_and_not_written_again() {
        let mut journal = Journal::new(Vec::new(), 1);
        journal.send(0, sent(7));
        journal.send(0, sent(8));
        for offset in [1, 1, 0, 0, 2, -1] {
            journal.arrived(0, offset).unwrap();
        }
        journal.arrived(3, 0).unwrap();
        assert_eq!((journal.written(), journal.repeated()), (2, 5));
        assert_eq!(journal.into_inner(), b"8\n7\n");
    }
}

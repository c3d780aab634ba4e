//! Which numbered values have changed since they were saved last: one bit a value.

/// A growing set of small numbers.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    words: Vec<u64>,
}

impl Changes {
    /// Nothing, and room for nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: Vec::new() }
    }

    /// Makes room for numbers below `len`.
    pub fn grow(&mut self, len: usize) {
        self.words.resize(len.div_ceil(64).max(self.words.len()), 0);
    }

    /// Notes a number, for which there must be room.
    #[inline]
    pub fn mark(&mut self, number: usize) {
        self.words[number / 64] |= 1 << (number % 64);
    }

    /// Notes every number below `len`.
    pub fn mark_all(&mut self, len: usize) {
        self.grow(len);
        (0..len).for_each(|number| self.mark(number));
    }

    /// Forgets a number.
    pub fn unmark(&mut self, number: usize) {
        self.words[number / 64] &= !(1 << (number % 64));
    }

    /// Takes the numbers out, ascending.
    pub fn take(&mut self) -> Vec<u32> {
        let mut numbers = Vec::new();
        for (index, word) in self.words.iter_mut().enumerate() {
            let mut bits = std::mem::take(word);
            while bits != 0 {
                let number = index * 64 + bits.trailing_zeros() as usize;
                numbers.push(u32::try_from(number).unwrap_or(u32::MAX));
                bits &= bits - 1;
            }
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_marked_is_taken_once_in_order() {
        let mut changes = Changes::new();
        changes.grow(200);
        for number in [199, 0, 64, 63, 64] {
            changes.mark(number);
        }
        changes.unmark(63);
        assert_eq!(changes.take(), [0, 64, 199]);
        assert!(changes.take().is_empty());
        changes.mark_all(70);
        assert_eq!(changes.take().len(), 70);
    }
}

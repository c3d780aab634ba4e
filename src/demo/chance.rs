//! Seeded randomness of the staged organisation: one stream a purpose, so that ordinary work of a
//! seed is the same with and without the theft.
//!
//! Never here: the system's randomness.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream of chance is for; streams of one seed do not touch each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Who works here.
    Staff = 1,
    /// What they do all day.
    Work = 2,
    /// What the insider takes.
    Theft = 3,
}

/// A stream of chance.
#[derive(Clone, Debug)]
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// The stream of `seed` for `purpose`.
    #[must_use]
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(purpose as u64);
        Self(rng)
    }

    /// Evenly from 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// Evenly from 0 up to, not including, `bound`.
    ///
    /// # Panics
    /// `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0.random_range(0..bound)
    }

    /// Evenly from `low` to `high`, both included.
    ///
    /// # Panics
    /// `low` is above `high`.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        self.0.random_range(low..=high)
    }

    /// True with probability `share`.
    pub fn happens(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Log-normally around `median`: half of all draws are below it, and `spread` 0.3 keeps two
    /// thirds of them within a factor of 1.35.
    pub fn around(&mut self, median: f64, spread: f64) -> f64 {
        // Box-Muller; 1 - unit keeps the logarithm away from 0.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.unit()).cos();
        median * (spread * normal).exp()
    }

    /// [`Self::around`] as a count within `low..=high`.
    pub fn count_around(&mut self, median: f64, spread: f64, low: u32, high: u32) -> u32 {
        rounded(self.around(median, spread)).clamp(low, high)
    }
}

/// The nearest whole number, 0 for anything negative.
#[must_use]
pub fn rounded(value: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float casts saturate, which is what is wanted"
    )]
    let whole = value.round() as u32;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_stream_and_another_purpose_another() {
        let draw = |seed, purpose| {
            let mut chance = Chance::new(seed, purpose);
            (0..8).map(|_| chance.below(1_000_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, Purpose::Work), draw(7, Purpose::Work));
        assert_ne!(draw(7, Purpose::Work), draw(7, Purpose::Theft));
        assert_ne!(draw(7, Purpose::Work), draw(8, Purpose::Work));
    }

    #[test]
    fn half_of_the_log_normal_draws_are_below_the_median() {
        let mut chance = Chance::new(1, Purpose::Work);
        let below = (0..10_000).filter(|_| chance.around(30.0, 0.4) < 30.0).count();
        assert!((4_800..5_200).contains(&below), "{below}");
    }
}

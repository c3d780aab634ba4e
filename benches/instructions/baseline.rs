//! What each stage may take.

/// How much more than the baseline a stage may take, in percent.
const TOLERANCE_PERCENT: u64 = 5;

/// Instructions of one run of each stage, as callgrind counted them.
const BASELINE: [(&str, u64); 8] = [
    ("decode_canonical", 818_733),
    ("decode_first", 21_130),
    ("decode_trino", 4_910_433),
    ("decode_arrow", 8_352_118),
    ("route_and_encode", 9_556_650),
    ("read_message", 1_462_294),
    ("update_slots", 3_229_232),
    ("apply_message", 6_212_795),
];

/// The most instructions that a stage may take.
pub(crate) fn limit(stage: &str) -> u64 {
    let known = BASELINE.iter().find(|(name, _)| *name == stage);
    let (_, instructions) = known.unwrap_or_else(|| panic!("{stage} has no baseline"));
    instructions * (100 + TOLERANCE_PERCENT) / 100
}

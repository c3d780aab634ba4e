//! What each stage may take.

/// How much more than the baseline a stage may take, in percent.
const TOLERANCE_PERCENT: u64 = 5;

/// Instructions of one run of each stage, as callgrind counted them.
const BASELINE: [(&str, u64); 7] = [
    ("decode_canonical", 1_161_033),
    ("decode_trino", 4_938_433),
    ("decode_arrow", 8_642_291),
    ("route_and_encode", 9_533_041),
    ("read_message", 1_460_284),
    ("update_slots", 3_229_232),
    ("apply_message", 6_151_314),
];

/// The most instructions that a stage may take.
pub(crate) fn limit(stage: &str) -> u64 {
    let known = BASELINE.iter().find(|(name, _)| *name == stage);
    let (_, instructions) = known.unwrap_or_else(|| panic!("{stage} has no baseline"));
    instructions * (100 + TOLERANCE_PERCENT) / 100
}

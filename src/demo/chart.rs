//! The insider's curve against the limit, in text.

use super::calendar::Day;
use crate::alert::text::grouped;

/// Days folded into one column.
const DAYS_A_COLUMN: usize = 3;
/// Lines of the drawing, axis not among them.
const HEIGHT: u64 = 8;
/// Width of the labels on the left.
const LABEL: usize = 7;

/// Draws `curve`, a value a day, with a dashed line at `limit`; months on the axis.
#[must_use]
pub fn draw(curve: &[u64], limit: u64) -> Vec<String> {
    let columns: Vec<u64> =
        curve.chunks(DAYS_A_COLUMN).map(|days| days.iter().copied().max().unwrap_or(0)).collect();
    let top = columns.iter().copied().max().unwrap_or(0).max(limit + limit / 2).max(1);
    let limit_row = limit * HEIGHT / top;
    let mut lines: Vec<String> = (0..HEIGHT)
        .rev()
        .map(|row| {
            let label = match row {
                _ if row == limit_row => grouped(limit),
                _ if row == HEIGHT - 1 => grouped(top),
                _ => String::new(),
            };
            let empty = if row == limit_row { '╌' } else { ' ' };
            let cells: String = columns.iter().map(|&value| cell(value, row, top, empty)).collect();
            format!("{label:>LABEL$} │{cells}")
        })
        .collect();
    lines.push(format!("{:>LABEL$} └{}", 0, months(columns.len())));
    lines
}

/// How much of `row` a bar up to `value` fills, in eighths.
fn cell(value: u64, row: u64, top: u64, empty: char) -> char {
    const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let filled = (value * HEIGHT * 8).div_ceil(top);
    match usize::try_from(filled.saturating_sub(row * 8)).unwrap_or(usize::MAX) {
        0 => empty,
        eighths => EIGHTHS[eighths.min(8) - 1],
    }
}

/// The axis: each month's name where it begins.
fn months(columns: usize) -> String {
    let mut axis = String::new();
    let mut shown = None;
    let mut free_from = 0;
    for column in 0..columns {
        let day = u32::try_from(column * DAYS_A_COLUMN).unwrap_or(u32::MAX);
        let date = Day(day).date();
        if shown != Some(date.month()) && column >= free_from {
            axis.push_str(&date.strftime("%b").to_string());
            shown = Some(date.month());
            free_from = column + 3;
        } else if column >= free_from {
            axis.push('─');
        }
    }
    axis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_below_the_limit_leaves_the_dashed_line_whole() {
        let lines = draw(&[100; 30], 2_600);
        assert_eq!(lines.len(), 9);
        let limit = lines.iter().find(|line| line.contains("2,600")).unwrap();
        assert_eq!(limit.matches('╌').count(), 10);
    }

    #[test]
    fn a_curve_above_the_limit_covers_the_dashed_line() {
        let mut curve = [100; 30];
        curve[27..].fill(4_000);
        let lines = draw(&curve, 2_600);
        let limit = lines.iter().find(|line| line.contains("2,600")).unwrap();
        assert_eq!(limit.matches('╌').count(), 9);
        assert!(limit.ends_with('█'), "{limit}");
        assert!(lines[0].ends_with('█') && lines[0].contains("4,000"), "{}", lines[0]);
    }

    #[test]
    fn the_axis_names_the_months() {
        let axis = draw(&[0; 183], 2_600).pop().unwrap();
        let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul"];
        assert!(names.iter().all(|month| axis.contains(month)), "{axis}");
    }
}

//! The medians as bars, in an SVG that reads on light and on dark pages.

use std::{fmt::Write as _, fs, path::Path};

use crate::results::{Results, distinct, shown};

const WIDTH: f64 = 760.0;
const LABELS: f64 = 270.0;
/// Right of the longest bar.
const VALUES: f64 = 70.0;
const BAR: f64 = 11.0;
const ROW: f64 = 32.0;
const HEAD: f64 = 56.0;
/// Colours by media query, since an image in a page is told which the reader prefers.
const STYLE: &str = "text{font:13px sans-serif;fill:#1f2328}.ours{fill:#1a7f37}.peer{fill:#8c959f}\
    .axis{stroke:#d0d7de}.value{font-size:11px}@media(prefers-color-scheme:dark){text{fill:#e6edf3}\
    .ours{fill:#3fb950}.peer{fill:#6e7681}.axis{stroke:#30363d}}";

/// What is shown of each implementation, one bar under the other.
const LOADS: [&str; 2] = ["uniform", "Zipf"];

/// Where a rate lies; the scale is logarithmic, for the ends are three orders of magnitude apart.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    fn of(rates: impl Iterator<Item = f64> + Clone) -> Self {
        let least = rates.clone().fold(f64::INFINITY, f64::min).log10().floor();
        Self { least, most: rates.fold(1.0, f64::max).log10() }
    }

    fn x(&self, rate: f64) -> f64 {
        let part = (rate.log10() - self.least) / (self.most - self.least).max(1.0);
        LABELS + (WIDTH - LABELS - VALUES) * part
    }

    /// A line and a number for each power of ten.
    fn draw(&self, svg: &mut String, height: f64) {
        let mut mark = 10_f64.powf(self.least);
        while mark <= 10_f64.powf(self.most) {
            let (at, top) = (self.x(mark), HEAD - 8.0);
            writeln!(
                svg,
                "<line class=\"axis\" x1=\"{at:.1}\" y1=\"{HEAD}\" x2=\"{at:.1}\" \
                 y2=\"{height}\"/><text x=\"{at:.1}\" y=\"{top}\" \
                 text-anchor=\"middle\">{}</text>",
                shown(mark)
            )
            .unwrap();
            mark *= 10.0;
        }
    }
}

/// Two bars for each implementation: uniform above, Zipf below.
pub(crate) fn write(results: &Results, to: &Path) {
    let names = distinct(results.keys().iter().map(|(name, _)| *name));
    let rate = |name, load| results.rate(name, load).map(|(warm, _)| warm);
    let rates = names.iter().flat_map(|name| LOADS.iter().filter_map(|load| rate(name, load)));
    let scale = Scale::of(rates);
    let height = names.iter().fold(HEAD, |height, _| height + ROW) + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\">\n<title>Events a core-second</title>\n<style>{STYLE}</style>\n\
         <text x=\"8\" y=\"20\"><tspan font-weight=\"bold\">Events a core-second once warm\
         </tspan>, logarithmic; of each the upper bar: uniform, the lower: Zipf</text>\n"
    );
    scale.draw(&mut svg, height);
    for (name, top) in names.iter().zip((0..).map(|row| HEAD + 6.0 + ROW * f64::from(row))) {
        let class = if name.starts_with("exfilwatch") { "ours" } else { "peer" };
        writeln!(svg, "<text x=\"8\" y=\"{:.1}\">{name}</text>", top + 17.0).unwrap();
        for (load, y) in LOADS.iter().zip([top, top + BAR + 1.0]) {
            let Some(rate) = rate(name, load) else { continue };
            let end = scale.x(rate);
            writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{LABELS}\" y=\"{y:.1}\" width=\"{:.1}\" \
                 height=\"{BAR}\"/><text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                end - LABELS,
                end + 6.0,
                y + 10.0,
                shown(rate)
            )
            .unwrap();
        }
    }
    svg.push_str("</svg>\n");
    fs::write(to, svg).unwrap();
}

//! The figures of `borealis bench model` as a drawing: positions per second over rows, both by powers of two.

use std::fmt::Write as _;

use super::measure::{Figure, Report};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 60.0;
const COLOURS: [&str; 6] = ["#4e79a7", "#e15759", "#59a14f", "#b07aa1", "#f28e2b", "#76b7b2"];

/// One panel for each model, side by side; a line for each type, and a dashed one for what its bytes and operations would allow.
pub fn svg(report: &Report) -> String {
    let mut models: Vec<&str> = Vec::new();
    let decode = || report.figures.iter().filter(|f| f.phase == "decode");
    for f in decode() {
        if !models.contains(&f.model.as_str()) {
            models.push(&f.model);
        }
    }
    let width = WIDTH * models.len().max(1) as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (i, model) in models.iter().enumerate() {
        let figures: Vec<&Figure> = decode().filter(|f| f.model == *model).collect();
        panel(&mut out, i as f64 * WIDTH, model, &figures);
    }
    out.push_str("</svg>\n");
    out
}

/// Positions per second that a step's limits allow.
fn allowed(f: &Figure) -> f64 {
    let bytes = f.bytes_per_step / f.limit_bytes_per_second;
    f.rows as f64 / bytes.max(f.operations_per_step / f.limit_operations_per_second)
}

/// A range of powers of two on an axis.
struct Axis {
    from: f64,
    to: f64,
    start: f64,
    length: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, start: f64, length: f64) -> Self {
        let from = values.clone().fold(f64::MAX, f64::min).max(1e-9).log2().floor();
        let to = values.fold(1e-9, f64::max).log2().ceil().max(from + 1.0);
        Self { from, to, start, length }
    }

    fn at(&self, value: f64) -> f64 {
        self.start + (value.log2() - self.from) / (self.to - self.from) * self.length
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.from as i32..=self.to as i32).map(|e| f64::from(e).exp2())
    }
}

fn panel(out: &mut String, left: f64, model: &str, figures: &[&Figure]) {
    let (w, h) = (WIDTH - 2.0 * MARGIN, HEIGHT - 2.0 * MARGIN);
    let x = Axis::new(figures.iter().map(|f| f.rows as f64), left + MARGIN, w);
    let y = Axis::new(figures.iter().flat_map(|f| [f.positions_per_second, allowed(f)]), HEIGHT - MARGIN, -h);
    let mut line = |text: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{text}");
    };
    line(format!(
        "<text x=\"{}\" y=\"24\" text-anchor=\"middle\" font-size=\"15\">{model}: positions per second</text>",
        left + WIDTH / 2.0
    ));
    for tick in x.ticks() {
        let at = x.at(tick);
        line(format!("<path d=\"M{at:.1} {MARGIN}V{}\" stroke=\"#eee\"/>", HEIGHT - MARGIN));
        line(format!("<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>", HEIGHT - MARGIN + 18.0));
    }
    for tick in y.ticks() {
        let at = y.at(tick);
        line(format!("<path d=\"M{} {at:.1}h{w}\" stroke=\"#eee\"/>", left + MARGIN));
        line(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>", left + MARGIN - 6.0, at + 4.0));
    }
    line(format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">rows of a step</text>",
        left + WIDTH / 2.0,
        HEIGHT - 18.0
    ));
    let mut types: Vec<&str> = figures.iter().map(|f| f.dtype).collect();
    types.dedup();
    for (i, dtype) in types.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let path = |value: fn(&Figure) -> f64| {
            let points = figures.iter().filter(|f| f.dtype == *dtype).map(|f| (x.at(f.rows as f64), y.at(value(f))));
            points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
        };
        line(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path(|f| f.positions_per_second)
        ));
        line(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-dasharray=\"4 4\"/>",
            path(allowed)
        ));
        let at = MARGIN + 16.0 * i as f64;
        line(format!(
            "<text x=\"{}\" y=\"{at}\" fill=\"{colour}\">{dtype} (dashed: limit)</text>",
            left + MARGIN + 8.0
        ));
    }
}

//! The figures of `borealis bench model` as a table.

use std::fmt::Write as _;

use super::measure::{Figure, Report};

/// Headings and cells of one figure, by column.
fn cells(f: &Figure) -> [String; 13] {
    [
        f.model.clone(),
        f.dtype.to_string(),
        f.threads.to_string(),
        if f.phase == "prefill" { format!("prefill {}", f.rows) } else { f.rows.to_string() },
        format!("{:.0}", f.positions_per_second),
        format!("{:.2}", f.median_seconds * 1e3),
        format!("{:.2}", f.best_seconds * 1e3),
        f.busy_seconds.map_or_else(|| "?".into(), |s| format!("{:.2}", s * 1e3)),
        format!("{:.1}", f.bytes_per_step / 1e6),
        format!("{:.0} % of {:.0} GB/s", 100.0 * f.share_of_bandwidth, f.limit_bytes_per_second / 1e9),
        format!("{:.0} % of {:.0} G/s", 100.0 * f.share_of_operations, f.limit_operations_per_second / 1e9),
        format!("{:.0} %", 100.0 * f.best_share_of_limit),
        f.load.map_or_else(|| "?".into(), |l| format!("{l:.1}")),
    ]
}

const HEADS: [&str; 13] = [
    "model",
    "type",
    "threads",
    "rows",
    "positions/s",
    "ms",
    "best ms",
    "busy ms",
    "MB a step",
    "bandwidth",
    "operations",
    "best share",
    "load",
];

fn machine(report: &Report) -> String {
    let m = &report.machine;
    let load = m.load.map_or_else(|| "unknown".into(), |l| format!("{l:.1}"));
    format!("{}, {} cores, {}; load {load} at the start", m.processor, m.cores, m.instructions)
}

/// For a terminal.
pub fn text(report: &Report) -> String {
    let rows: Vec<[String; 13]> =
        std::iter::once(HEADS.map(String::from)).chain(report.figures.iter().map(cells)).collect();
    let widths: [usize; 13] = std::array::from_fn(|c| rows.iter().map(|r| r[c].len()).max().unwrap_or(0));
    let mut out = machine(report) + "\n";
    for row in rows {
        let line: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", line.join("  "));
    }
    out
}

/// For a page.
pub fn markdown(report: &Report) -> String {
    let mut out = format!("{}.\n\n| {} |\n|{}\n", machine(report), HEADS.join(" | "), "---|".repeat(HEADS.len()));
    for figure in &report.figures {
        let _ = writeln!(out, "| {} |", cells(figure).join(" | "));
    }
    out
}

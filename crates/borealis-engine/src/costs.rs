//! What a step costs by its number of rows: measured once for each machine and model, kept in a file.

use std::path::Path;
use std::time::{Duration, Instant};

use borealis_kernels::Span;
use borealis_model::{Batch, Forward, Logits, ModelError, Query};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::prompt::text_row;

/// Numbers of rows that are measured.
const ROWS: [usize; 10] = [1, 2, 3, 4, 6, 8, 16, 24, 32, 64];
/// No larger number of rows is begun after so long.
const BUDGET: Duration = Duration::from_millis(1500);

/// Seconds of a step by its number of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepCosts {
    /// Ascending by rows, at least one.
    points: Vec<(usize, f64)>,
}

impl StepCosts {
    /// From points, ascending by rows.
    pub fn new(points: Vec<(usize, f64)>) -> Self {
        Self { points }
    }

    /// What the file holds, else what is measured now; a file that cannot be read or written costs the time of measuring only. The model's cache is made anew.
    pub fn find(model: &mut dyn Forward, layout: &Layout, file: Option<&Path>) -> Result<Self, ModelError> {
        if let Some(costs) = file.and_then(Self::read) {
            return Ok(costs);
        }
        let costs = Self::measure(model, layout)?;
        if let Some(file) = file {
            // Without the file the next process measures again.
            let _ = costs.write(file);
        }
        Ok(costs)
    }

    /// Seconds of a step: between two points by the line through them, beyond the last by the line through the last two.
    pub fn seconds(&self, rows: usize) -> f64 {
        let points = &self.points;
        let above = points.partition_point(|p| p.0 < rows).min(points.len().saturating_sub(1));
        match (above.checked_sub(1).map(|below| points[below]), points.get(above)) {
            (Some((r0, s0)), Some(&(r1, s1))) => s0 + (s1 - s0).max(0.0) * (rows - r0) as f64 / (r1 - r0).max(1) as f64,
            (None, Some(&(_, seconds))) => seconds,
            (_, None) => 0.0,
        }
    }

    fn measure(model: &mut dyn Forward, layout: &Layout) -> Result<Self, ModelError> {
        let most = ROWS[ROWS.len() - 1];
        model.allocate(most, most)?;
        let range = model.reserve(most)?;
        let result = Self::measure_in(model, layout, range.start);
        model.release(range)?;
        result
    }

    fn measure_in(model: &mut dyn Forward, layout: &Layout, start: u32) -> Result<Self, ModelError> {
        let begin = Instant::now();
        let mut logits = Logits::default();
        let mut points: Vec<(usize, f64)> = Vec::new();
        for rows in ROWS {
            if begin.elapsed() > BUDGET && points.len() > 1 {
                break;
            }
            let batch = batch(model, layout, start, rows);
            let mut best = f64::INFINITY;
            // The first of the shortest steps also brings the weights into memory.
            for _ in 0..if rows == 1 { 4 } else { 2 } {
                let begin = Instant::now();
                model.step(&batch, &mut logits)?;
                best = best.min(begin.elapsed().as_secs_f64());
            }
            // More rows never cost less: a shorter time is noise.
            let least = points.last().map_or(0.0, |p| p.1);
            points.push((rows, best.max(least)));
        }
        Ok(Self::new(points))
    }

    fn read(file: &Path) -> Option<Self> {
        let costs: Self = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        let sound = |(rows, seconds): &(usize, f64)| *rows > 0 && seconds.is_finite() && *seconds > 0.0;
        let sorted = costs.points.windows(2).all(|pair| pair[0].0 < pair[1].0);
        (!costs.points.is_empty() && sorted && costs.points.iter().all(sound)).then_some(costs)
    }

    /// Whole or not at all: other processes may read it or write it too.
    fn write(&self, file: &Path) -> std::io::Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
        std::fs::write(&temporary, serde_json::to_vec(self)?)?;
        std::fs::rename(&temporary, file).inspect_err(|_| drop(std::fs::remove_file(&temporary)))
    }
}

/// A window of `rows` text rows with ids far apart, so that they choose different experts; each asks for a text id.
fn batch(model: &dyn Forward, layout: &Layout, start: u32, rows: usize) -> Batch {
    let mut batch = Batch::default();
    let text = model.config().modalities[layout.text].codes[0];
    for at in 0..rows as u32 {
        let id = text.start + at.wrapping_mul(0x9E37_79B1) % text.size.max(1);
        let sees = Span { prefix: (0, 0), recent: (start, start + at + 1) };
        // At position 0, which every model has: what a row costs does not depend on it.
        let row = text_row(layout, id, 0.0, start + at, sees, &mut batch.codes);
        batch.queries.push(Query { row: batch.rows.len(), modality: layout.text, allowed: None });
        batch.rows.push(row);
    }
    batch
}

/// The file name for a model on this machine: costs depend on shapes, on how weights, keys and values are kept, on threads, on the processor and on the version of this library.
pub(crate) fn file_name(model: &dyn Forward, threads: usize) -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
    let shapes = format!("{:?} {}", model.config(), model.summary().device_bytes);
    let format = model.format().name();
    let kv = model.kv_format().name();
    let parts = [env!("CARGO_PKG_VERSION"), model.backend(), format, kv, processor, &threads.to_string(), &shapes];
    // FNV-1a, 64 bits (Fowler, Noll, Vo): the same in every build.
    let hash = parts
        .join("\n")
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3));
    format!("steps-{hash:016x}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_and_beyond() {
        let costs = StepCosts::new(vec![(1, 1.0), (2, 1.5), (4, 3.5)]);
        let all: Vec<f64> = [0, 1, 2, 3, 4, 6].into_iter().map(|rows| costs.seconds(rows)).collect();
        assert_eq!(all, [1.0, 1.0, 1.5, 2.5, 3.5, 5.5]);
        assert_eq!(StepCosts::new(vec![(4, 2.0)]).seconds(9), 2.0);
    }

    #[test]
    fn kept_whole_and_read_with_care() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/steps.json");
        let costs = StepCosts::new(vec![(1, 0.25), (8, 0.5)]);
        assert_eq!(StepCosts::read(&file), None);
        costs.write(&file).unwrap();
        assert_eq!(StepCosts::read(&file), Some(costs));
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        for wrong in ["", "{}", r#"{"points":[]}"#, r#"{"points":[[2,1.0],[1,1.0]]}"#, r#"{"points":[[0,1.0]]}"#] {
            std::fs::write(&file, wrong).unwrap();
            assert_eq!(StepCosts::read(&file), None, "{wrong}");
        }
    }
}

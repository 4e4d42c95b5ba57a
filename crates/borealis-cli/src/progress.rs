//! Tells the user how far the work is: a bar on a terminal, events for programs, else nothing.

use std::time::{Duration, Instant};

use borealis_engine::Stage;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::error::Result;
use crate::events::{self, Line};

/// Time between two progress events.
const PAUSE: Duration = Duration::from_millis(200);

/// One generation's progress.
pub struct Progress {
    bar: Option<ProgressBar>,
    json: bool,
    stage: Option<Stage>,
    since: Instant,
    told: Option<Instant>,
}

impl Progress {
    /// Events on standard output when `json`, else a bar on standard error when that is a terminal.
    pub fn new(json: bool, quiet: bool) -> Self {
        let bar = (!json && !quiet).then(bar);
        Self { bar, json, stage: None, since: Instant::now(), told: None }
    }

    /// `done` of `total` units of `stage`.
    pub fn update(&mut self, stage: Stage, done: usize, total: usize) -> Result<()> {
        let fresh = self.stage != Some(stage);
        if fresh {
            self.stage = Some(stage);
            self.since = Instant::now();
            self.told = None;
        }
        if let Some(bar) = &self.bar {
            if fresh {
                bar.set_prefix(events::stage(stage));
                bar.set_message(unit(stage));
                bar.reset();
            }
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
        if self.json && (done >= total || self.told.is_none_or(|told| told.elapsed() >= PAUSE)) {
            self.told = Some(Instant::now());
            let per_second = events::rate(done, self.since.elapsed().as_secs_f64());
            let seconds_left = per_second.map(|rate| total.saturating_sub(done) as f64 / rate);
            events::write(&Line::Progress { stage: events::stage(stage), done, total, per_second, seconds_left })?;
        }
        Ok(())
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What a stage counts.
fn unit(stage: Stage) -> &'static str {
    match stage {
        Stage::Queued => "",
        Stage::Encode => "inputs",
        Stage::Prefill | Stage::Generate => "positions",
        Stage::Decode => "latent frames",
    }
}

fn bar() -> ProgressBar {
    let template = "{prefix:>8} [{bar:32}] {pos}/{len} {msg} {rate} {left}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style
        .progress_chars("=> ")
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            if state.pos() > 0 && state.per_sec().is_finite() {
                // Nothing can be done about a line that cannot be drawn.
                let _ = write!(out, "{:.0}/s", state.per_sec());
            }
        })
        .with_key("left", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            if state.pos() > 0 && state.len().is_some_and(|len| state.pos() < len) {
                let _ = write!(out, "{:.0} s left", state.eta().as_secs_f64().ceil());
            }
        });
    let bar = ProgressBar::new(0).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

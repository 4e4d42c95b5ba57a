//! What `borealis generate` tells while it runs and at its end.

use std::io::Write;
use std::time::Duration;

use borealis_engine::{Canceller, Event, Rendered};
use borealis_weights::Manifest;

use crate::error::{CliError, Result};
use crate::events::{self, Line};
use crate::ids::{self, Ids};
use crate::limits::{Limits, Share};
use crate::output::Kind;
use crate::progress::Progress;

/// Sees all events of a request on their way to the files.
pub struct Teller {
    json: bool,
    seed: u64,
    variants: usize,
    fps: u32,
    progress: Progress,
    sample_rate: u32,
    /// Variants and their ids, once they are all there.
    ids: Vec<(usize, Ids)>,
    keep_ids: bool,
    aloud: bool,
    request: Canceller,
    failed: Option<CliError>,
}

/// What to tell, and of what.
pub struct Subject {
    /// Events on standard output.
    pub json: bool,
    /// No progress bar.
    pub quiet: bool,
    /// Whether ids are wanted.
    pub keep_ids: bool,
    /// Text goes to standard output as it comes.
    pub aloud: bool,
    /// Of the request.
    pub seed: u64,
    /// Of the request.
    pub variants: usize,
    /// Of the model's clips.
    pub fps: u32,
}

impl Teller {
    /// A teller that cancels `request` when nobody listens any more.
    pub fn new(subject: Subject, request: Canceller) -> Self {
        let Subject { json, quiet, keep_ids, aloud, seed, variants, fps } = subject;
        // A bar and a text on the same screen would overwrite each other.
        let progress = Progress::new(json, quiet || aloud);
        Self {
            json,
            seed,
            variants,
            fps,
            progress,
            sample_rate: 0,
            ids: Vec::new(),
            keep_ids,
            aloud,
            request,
            failed: None,
        }
    }

    /// The next event.
    pub fn see(&mut self, event: &Event) {
        if self.failed.is_some() {
            return;
        }
        if let Err(error) = self.tell(event) {
            self.failed = Some(error);
            self.request.cancel();
        }
    }

    fn tell(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Started { width, height, frames, sample_rate, memory } => {
                self.sample_rate = *sample_rate;
                if self.json {
                    events::write(&Line::Started {
                        width: *width,
                        height: *height,
                        fps: self.fps,
                        frames: *frames,
                        sample_rate: *sample_rate,
                        variants: self.variants,
                        seed: self.seed,
                        memory_bytes: *memory,
                    })?;
                }
            }
            Event::Progress { stage, done, total } => self.progress.update(*stage, *done, *total)?,
            Event::Ids { variant, ids } if self.keep_ids => {
                self.ids.push((*variant, Ids { ids: ids.iter().cloned().collect(), ..Ids::default() }));
            }
            Event::Text { variant, text } if self.json => events::write(&Line::Text { variant: *variant, text })?,
            Event::Text { text, .. } if self.aloud => {
                self.progress.clear();
                let mut out = std::io::stdout().lock();
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            Event::Ids { .. } | Event::Frame { .. } | Event::Audio { .. } | Event::Text { .. } | Event::Done(_) => {}
        }
        Ok(())
    }

    /// Takes the progress bar away. The error of telling, if there was one, came before any error of the engine.
    pub fn end(&mut self) -> Result<()> {
        self.progress.clear();
        self.failed.take().map_or(Ok(()), Err)
    }

    /// The ids of each variant as they are saved.
    pub fn take_ids(&mut self, manifest: &Manifest, rendered: &Rendered) -> Vec<(usize, Ids)> {
        let aspect_ratio = ids::nearest(manifest, rendered.width, rendered.height);
        let mut all = std::mem::take(&mut self.ids);
        for (_, ids) in &mut all {
            (ids.aspect_ratio, ids.frames) = (aspect_ratio.clone(), Some(rendered.frames));
        }
        all
    }

    /// The events at the end.
    pub fn report_json(&self, rendered: &Rendered, took: Duration) -> Result<()> {
        for (variant, path) in rendered.files.iter().enumerate() {
            events::write(&Line::File { variant, path })?;
        }
        events::write(&Line::Done {
            seconds: took.as_secs_f64(),
            first_frame_seconds: rendered.first_frame_seconds,
            encode_seconds: rendered.encode_seconds,
            finish_seconds: rendered.finish_seconds,
            peak_memory_bytes: events::peak_memory(),
            usage: (&rendered.usage).into(),
        })
    }

    /// A few lines for people, on standard error.
    pub fn report(&self, rendered: &Rendered, kind: Kind, took: Duration, limits: Option<&Limits>) {
        let clip = kind == Kind::Clip;
        let mut what = format!("{}x{}", rendered.width, rendered.height);
        if clip {
            what.push_str(&format!(", {:.3} s", rendered.frames as f64 / f64::from(self.fps)));
            what.push_str(if self.sample_rate > 0 { " with sound" } else { "" });
        }
        for path in &rendered.files {
            if kind == Kind::Text {
                eprintln!("{}", path.display());
            } else {
                eprintln!("{}: {what}", path.display());
            }
        }
        let usage = &rendered.usage;
        let rate = events::rate(usage.positions, usage.generate_seconds).unwrap_or(0.0);
        eprintln!("seed {}, {:.1} s, {rate:.0} positions/s", self.seed, took.as_secs_f64());
        if let Some(limits) = limits {
            // Stages run beside each other: what counts is the first frame and what is left at the end.
            eprintln!(
                "seconds: {:.2} prompt, {:.2} ids, {:.2} frames and sound, {:.2} files; first frame after {:.2}, {:.2} from the last frame to the end",
                usage.encode_seconds + usage.prefill_seconds,
                usage.generate_seconds,
                usage.decode_seconds,
                rendered.encode_seconds,
                rendered.first_frame_seconds,
                rendered.finish_seconds
            );
            eprintln!("a step: {}", Share::of(usage, limits));
            if let Some(bytes) = events::peak_memory() {
                eprintln!("memory: {} MiB at most", bytes.div_ceil(1 << 20));
            }
            if let Some(rate) = usage.copies.hit_rate() {
                let copies = &usage.copies;
                eprintln!(
                    "experts: {:.1} % of {} were there; {:.2} GB copied in {:.2} s",
                    100.0 * rate,
                    copies.hits + copies.misses,
                    copies.bytes as f64 / 1e9,
                    copies.took.as_secs_f64()
                );
            }
            if usage.window > 1 {
                let (length, steps, window) = (usage.accepted_length, usage.steps, usage.window);
                eprintln!(
                    "window: {length:.2} positions decided in each of {steps} steps, of up to {window} guessed ahead"
                );
            }
        }
    }
}

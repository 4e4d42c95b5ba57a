//! A generator for tests: it obeys words in the prompt and writes small files.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use borealis_media::{Frame, Mp4Writer, PixelFormat, VideoSpec, write_image};

use super::{Context, Failure, Generator, Made, Product};
use crate::store::Claimed;
use crate::types::JobUsage;

/// `slow`: goes on until it is cancelled. `half`: does so in the middle of its clips. `fail`, `moderate`, `panic`: as they say. `lose`: loses its model. Everything else: a red
/// picture, or a clip of one second.
#[derive(Default)]
pub(crate) struct Fake {
    /// Jobs begun.
    pub begun: AtomicUsize,
    /// Most jobs at once.
    pub most: AtomicUsize,
    now: AtomicUsize,
}

impl Generator for Fake {
    fn generate(&self, job: &Claimed, context: &Context) -> Result<Product, Failure> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let done = make(job, context);
        self.now.fetch_sub(1, Ordering::SeqCst);
        done
    }

    fn info(&self) -> String {
        r#"{"model":"fake"}"#.into()
    }
}

fn make(job: &Claimed, context: &Context) -> Result<Product, Failure> {
    let prompt = job.spec.prompt.as_str();
    context.progress(0.5);
    if prompt.contains("slow") {
        return Err(until_cancelled(context));
    }
    if prompt.contains("fail") {
        return Err(Failure::error("failed_precondition", "the fake was told to fail"));
    }
    if prompt.contains("moderate") {
        return Err(Failure::Moderated("the fake was told to refuse".into()));
    }
    if prompt.contains("lose") {
        return Err(Failure::Lost("rank 1 has died (step 7)".into()));
    }
    assert!(!prompt.contains("panic"), "the fake was told to panic");
    let still = job.spec.kind.is_still();
    if prompt.contains("half") {
        let _begun: Vec<Mp4Writer> = (0..job.spec.n as usize).map(|n| clip(job, context, n, 240)).collect();
        return Err(until_cancelled(context));
    }
    let made = (0..job.spec.n as usize).map(|n| {
        let (ending, mime, seconds, frames) =
            if still { ("jpg", "image/jpeg", 0.0, 1) } else { ("mp4", "video/mp4", 1.0, 24) };
        let path = context.scratch().join(format!("{n}.{ending}"));
        if still {
            write_image(&path, &frame(n)).expect("a picture");
        } else {
            clip(job, context, n, 24).finish().expect("a clip");
        }
        Made { path, mime, width: 64, height: 48, seconds, frames }
    });
    let made = made.collect();
    Ok(Product { made, usage: JobUsage { text_tokens: 3, output_tokens: 100, ..JobUsage::default() } })
}

fn until_cancelled(context: &Context) -> Failure {
    while !context.is_cancelled() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Failure::Cancelled
}

/// Different variants have different bytes.
fn frame(n: usize) -> Frame {
    Frame::solid(64, 48, PixelFormat::Rgb8, [200, n as u8 * 20, 10])
}

/// So many frames of a clip that can be watched.
fn clip(job: &Claimed, context: &Context, n: usize, frames: usize) -> Mp4Writer {
    let live = context.live(&job.id, n).expect("a file to watch");
    let path = context.scratch().join(format!("{n}.mp4"));
    let mut writer = Mp4Writer::tee(path, Box::new(live), VideoSpec::new(64, 48, 24)).expect("a writer");
    (0..frames).for_each(|_| writer.push_frame(&frame(n)).expect("a frame"));
    writer
}

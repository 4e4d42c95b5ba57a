//! Makes a clip and tells where the time went: `cargo run --release -p borealis-engine --example clip -- MODEL OUT.mp4 [PROMPT [SECONDS [VARIANTS]]]`.

use std::path::Path;
use std::time::Instant;

use borealis_engine::{Engine, EngineConfig, OutputKind, Request, render_mp4};
use borealis_media::VideoSpec;
use borealis_weights::Checkpoint;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize, default: &str| args.get(i).cloned().unwrap_or_else(|| default.to_string());
    let begin = Instant::now();
    let engine = Engine::new(Checkpoint::open(Path::new(&arg(0, "models/borealis-mini")))?, EngineConfig::default())?;
    println!("{:?} after {:.2} s", engine.info(), begin.elapsed().as_secs_f64());
    let mut request = Request::new(
        arg(2, "a red ball bouncing on grass"),
        OutputKind::Video { seconds: arg(3, "6").parse()?, audio: true },
    );
    request.variants = arg(4, "1").parse()?;
    let done = render_mp4(engine.submit(request)?, Path::new(&arg(1, "clip.mp4")), &VideoSpec::new(0, 0, 24), |_| {})?;
    println!("{:?}", done.usage);
    println!("{} frames of {}x{} after {:.2} s", done.frames, done.width, done.height, begin.elapsed().as_secs_f64());
    Ok(())
}

//! Requests to streams of text, frames and samples.
//!
//! [`Engine::submit`] checks a [`Request`], encodes what it brings, plans it ([`Plan`]) and queues it. The worker thread owns the model: again and again it
//! asks the scheduler for the rows of the next step, computes them, and draws ids from their logits. A second thread turns the ids of complete latent frames
//! into frames and samples. What comes out of an [`EventStream`] depends on model, request and seed alone: not on what else runs, on threads, or on how fast
//! the events are read.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use borealis_engine::{Engine, EngineConfig, Event, OutputKind, Request};
//!
//! let checkpoint = borealis_weights::Checkpoint::open("models/borealis-mini".as_ref())?;
//! let engine = Engine::new(checkpoint, EngineConfig::default())?;
//! let clip = OutputKind::Video { seconds: 6.0, audio: true };
//! for event in engine.submit(Request::new("a red ball bounces on grass", clip))? {
//!     if let Event::Frame { index, .. } = event? {
//!         println!("frame {index}");
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod budget;
mod costs;
mod decide;
mod decode;
mod draft;
mod engine;
mod error;
mod event;
mod features;
mod geometry;
mod inputs;
mod job;
mod layout;
mod memory;
mod open;
mod plan;
mod prompt;
mod render;
mod request;
mod rows;
mod scheduler;
mod stream;
mod submit;
#[cfg(test)]
mod tests;
mod validate;
mod window;
mod work;

pub use borealis_kernels::{Noise, Rule, Sampler, combine, log_softmax, philox4x32};
pub use borealis_model::CopyTotals;
pub use budget::{Budget, Share};
pub use engine::{Engine, EngineConfig, EngineInfo};
pub use error::{EngineError, ErrorKind, Result};
pub use event::{Event, Stage, Usage};
pub use features::FeatureWriter;
pub use geometry::Geometry;
pub use layout::{Kinds, Layout, Stream};
pub use plan::{Group, Input, Move, Plan, PlanRow, PlanSpec};
pub use prompt::{PromptBuilder, PromptRows, Source, SourceFrame};
pub use render::{Rendered, render_image, render_live, render_mp4, render_text, variant_paths};
pub use request::{Conditioning, Media, OutputKind, OutputSpec, Preset, Request, Resolution, Sampling};
pub use stream::{Canceller, EventStream};
pub use submit::{keep_kv, open_tokenizers, step_threads, suited_kv, weight_format};
pub use validate::{MAX_PROMPT, MAX_REFERENCES, MAX_VARIANTS, SECONDS};
pub use window::{MAX_WINDOW, Window};

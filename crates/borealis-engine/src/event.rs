//! What comes back while a request runs.

use borealis_media::Frame;
use borealis_model::CopyTotals;

/// The part of the work that a progress report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for a place in the batch.
    Queued,
    /// Encoding the prompt, pictures and clips.
    Encode,
    /// Computing the prompt.
    Prefill,
    /// Generating ids.
    Generate,
    /// Turning the last ids into frames and samples.
    Decode,
}

/// Counts and times of one finished request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Ids of the prompt (text, sources).
    pub prompt_tokens: usize,
    /// Ids generated.
    pub generated_tokens: usize,
    /// Positions computed while generating, over all variants and guidance branches; what was computed for wrong guesses is not counted.
    pub positions: usize,
    /// Forward passes while generating.
    pub steps: usize,
    /// Most positions (or groups of positions that are decided together) of a variant in a step: 1 unless a window was open.
    pub window: usize,
    /// Of these, how many were decided by a step, on average.
    pub accepted_length: f64,
    /// Bytes of weights and KV read per step, on average (model of the arithmetic, see `benches/README.md`).
    pub bytes_per_step: u64,
    /// Operations per step, on average; a multiply-add counts as two.
    pub operations_per_step: u64,
    /// What the steps while generating have spent on experts that are copied to the device on demand; all 0 when none are.
    pub copies: CopyTotals,
    /// Seconds waiting.
    pub queued_seconds: f64,
    /// Seconds encoding inputs.
    pub encode_seconds: f64,
    /// Seconds of prefill.
    pub prefill_seconds: f64,
    /// Seconds of the forward passes and draws while generating; waiting for a slow reader is not counted.
    pub generate_seconds: f64,
    /// Seconds that the decoder thread was busy.
    pub decode_seconds: f64,
}

/// One thing that happened. Frames and samples of a variant arrive in order.
#[derive(Debug, Clone)]
pub enum Event {
    /// Accepted and computing; sizes are known.
    Started {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Frames of each variant.
        frames: usize,
        /// Samples per second of the sound; 0 = silent.
        sample_rate: u32,
        /// Most memory that the request takes, bytes.
        memory: u64,
    },
    /// How far it is.
    Progress {
        /// Stage.
        stage: Stage,
        /// Units done (positions of the plan).
        done: usize,
        /// Units in all.
        total: usize,
    },
    /// One frame.
    Frame {
        /// Which variant.
        variant: usize,
        /// Frame number from 0.
        index: usize,
        /// The picture: I420 for clips, RGB for stills.
        frame: Frame,
    },
    /// The next samples, mono, at the rate of [`Event::Started`].
    Audio {
        /// Which variant.
        variant: usize,
        /// -1..1.
        samples: Vec<f32>,
    },
    /// More text.
    Text {
        /// Which variant.
        variant: usize,
        /// The piece.
        text: String,
    },
    /// All ids of a variant, in plan order by modality name: for tests, goldens and tracing.
    Ids {
        /// Which variant.
        variant: usize,
        /// (modality, ids).
        ids: Vec<(String, Vec<u32>)>,
    },
    /// Finished; the last event.
    Done(Usage),
}

//! The transformer: a batch of ids and a KV cache in, logits out.
//!
//! [`Model`] holds immutable weights on one device and is written once for all backends. Everything that changes lies in the [`KvCache`] that is
//! handed to [`Model::forward`]: keys and values of all sequences, and the buffers of a step. The engine sees both as one [`Forward`] object, made by [`load`].
//!
//! A [`Batch`] is rows of any number of sequences. A row is one position: its input codes, where it stands, which slots of the cache it writes and sees.
//! A row's result depends on its own input and the slots that it sees, never on its neighbours.

mod attention;
mod batch;
mod cache;
mod config;
mod cost;
mod depth;
mod embed;
mod error;
mod estimate;
mod forward;
mod head;
mod heads;
mod hot;
mod latent;
mod layer;
mod load;
mod model;
mod moe;
mod names;
mod options;
mod pieces;
pub mod ranks;
mod rope;
mod scratch;
mod tables;
mod window;

pub use batch::{Batch, Logits, Query, Row};
pub use cache::{KvCache, SlotRange};
pub use config::{DepthConfig, Experts, ModelConfig};
pub use cost::{StepCost, Summary};
pub use error::{ModelError, Result};
pub use estimate::{Sizes, weight_bytes};
pub use forward::{Forward, Runner, check, default_threads, load, load_with};
pub use heads::{Heads, Latent, QkNorm};
pub use hot::CopyTotals;
pub use model::{Model, Trace};
pub use names::tensor_names;
pub use options::LoadOptions;
pub use rope::{Rope, RopeScaling, Yarn};
pub use window::SlidingWindow;

//! Fetch, verify and cache checkpoints from the Hugging Face hub.
//!
//! * [`RepoId`][]: `OWNER/NAME[@REVISION]`.
//! * [`Hub`]: which hub, which cache, which token; from the environment as every tool of the hub reads it (`HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`,
//!   `HF_HUB_OFFLINE`).
//! * [`Hub::pull`]: files of a model into the cache, several at once; what is interrupted goes on where it was cut, and nothing is kept whose size and hash are not those that
//!   the hub announced.
//! * [`Hub::find`], [`Hub::list`], [`Hub::remove`]: what is in the cache. Its layout is the hub's own, shared with its other tools.
//!
//! The `hf-hub` crate resolves revisions and reads the cache; the transfer is ours, because its downloader neither resumes nor verifies (`docs/adr/`).

mod cache;
mod error;
mod fetch;
mod files;
mod hub;
mod id;
mod pull;
mod tree;
mod verify;

pub use cache::{CachedModel, CachedRevision};
pub use error::{HubError, chain};
pub use hub::Hub;
pub use id::RepoId;
pub use pull::{Event, Pulled, Watch};

/// Result of everything here.
pub type Result<T> = std::result::Result<T, HubError>;

//! Fetches, verifies and caches checkpoints from the Hugging Face hub.

//! Frames and samples in and out of files.

//! Every operation x every backend and CPU variant x every weight format x generated shapes, against the reference.

mod graphs;
mod heads;
mod image;
mod kv;
mod layer;
mod rows;
mod sample;
mod support;

//! Tests of the transformer on synthetic checkpoints and on the goldens of the recipe; one binary.

mod depth;
mod draws;
mod errors;
mod foreign;
mod formats;
mod goldens;
mod hot;
mod metamorphic;
mod naive;
mod ranks;
mod routers;
mod support;

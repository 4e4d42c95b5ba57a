//! Every operation x every backend and CPU variant x every weight format x generated shapes, against the reference.

mod attention;
mod graphs;
mod heads;
mod image;

mod layer;
mod rows;
mod sample;
mod support;

//! All device code of Borealis, and nearly all of its `unsafe`.
//!
//! A [`Backend`] runs about two dozen fused operations over buffers that it owns. Four implementations:
//!
//! * [`Reference`]: plain candle tensors. It is the specification: every other backend is tested against it, op by op.
//! * [`Cpu`]: SIMD kernels chosen at run time (AVX-512 with VNNI, AVX2 + FMA + F16C, or scalar) on one thread pool that parks.
//! * [`Cuda`]: own kernels for NVIDIA GPUs, through a driver that is looked for at run time.
//! * [`Metal`]: own kernels for Apple's GPUs, compiled where the program runs.
//!
//! Results of `Cpu`, `Cuda` and `Metal` do not depend on the number of rows or threads: every output element is reduced in a fixed order.

mod affinity;
mod backend;
mod check;
mod cpu;
mod cuda;
mod device;
mod error;
mod host;
mod kv;
pub mod limits;
mod metal;
#[cfg(unix)]
pub mod mpi;
mod quant;
mod reference;
mod sample;

pub use affinity::run_on_any_core;
pub use backend::{
    Activation, Backend, Canvas, Columns, Patches, RopeSpec, Rotation, RouterSpec, Scoring, Span, Target,
};
pub use candle_core as candle;
pub use candle_nn;

pub use cpu::{Cpu, CpuBuffer, CpuKv, CpuRouting, CpuWeight, Instructions};
pub use cuda::{Cuda, CudaBuffer, CudaKv, CudaRouting, CudaWeight, GraphCounts};
pub use device::{Device, DeviceSpec};
pub use error::KernelError;
pub use host::{HostTensor, HostType, QuantFormat};
pub use kv::KvFormat;
pub use metal::{Metal, MetalBuffer, MetalKv, MetalRouting, MetalWeight};
pub use quant::{GROUP, quantise};
pub use reference::{Reference, ReferenceKv, ReferenceRouting, ReferenceWeight};
pub use sample::{Draw, Drawer, Draws, Noise, Rule, Sampler, combine, log_softmax, philox4x32};

//! One model over many ranks: every rank holds a part of the experts, rank 0 holds everything else.
//!
//! Rank 0 (the *home*) runs attention, routers and heads. For each routed layer it hands every other rank the rows that chose that rank's experts
//! ([`Exchange::dispatch`]), computes its own experts meanwhile, takes the results back ([`Exchange::combine`]) and sums them for each row in
//! ascending order of the expert's index, as one rank does. The other ranks (*members*) hold experts and nothing else, and keep no state between parcels.
//!
//! A result therefore has the same bits for every number of ranks and every [`Placement`]: an expert's output for a row depends on that row alone
//! (kernels promise it), and the order of the sum is fixed. `docs/adr/0013` says why attention is not spread.

mod exchange;
mod identity;
mod load;
#[cfg(unix)]
mod mpi;
mod placement;
mod shard;
mod spread;
mod threads;
mod traffic;
#[cfg(unix)]
mod watch;
#[cfg(unix)]
mod wire;

pub use exchange::{Exchange, Local, Member, Parcel};
pub use identity::Identity;
pub use load::{load_home, load_shard, load_threads};
#[cfg(unix)]
pub use mpi::{Mpi, MpiMember, MpiWorld};
pub use placement::Placement;
pub(crate) use shard::run_bytes as spread_bytes;
pub use shard::{Shard, serve};
pub(crate) use spread::Spread;
pub use threads::{ThreadMember, Threads};
pub use traffic::{Traffic, TrafficTotals};

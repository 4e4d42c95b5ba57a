//! The part of a layer after attention: a dense SwiGLU, or a router and its experts.

use std::sync::{Mutex, MutexGuard, PoisonError};

use borealis_kernels::{Backend, RouterSpec};

use crate::attention::Linear;
use crate::config::Experts;
use crate::error::{ModelError, Result};
use crate::hot::{HotExperts, Taken};
use crate::load::{Loader, Source};
use crate::scratch::LayerScratch;

/// `down(silu(gate(x)) * up(x))` with gate and up stacked into one matrix.
pub(crate) struct SwiGlu<B: Backend> {
    gate_up: B::Weight,
    gate_up_bias: Option<B::Buffer>,
    down: Linear<B>,
    inner: usize,
}

impl<B: Backend> SwiGlu<B> {
    /// Reads `<prefix>.{gate,up,down}_proj.weight`, and their biases when wanted.
    pub fn load(loader: &Loader<'_, B>, prefix: &str, width: usize, inner: usize, bias: bool) -> Result<Self> {
        let name = |part: &str| format!("{prefix}.{part}_proj");
        let weight = |part: &str| format!("{prefix}.{part}_proj.weight");
        Ok(Self {
            gate_up: loader.stacked(&weight("gate"), &weight("up"), [inner, width])?,
            gate_up_bias: loader.stacked_bias(bias, &name("gate"), &name("up"), inner)?,
            down: Linear::load(loader, &name("down"), [width, inner], bias)?,
            inner,
        })
    }

    /// Adds the result for `s.x` to `hidden`.
    pub fn forward(&self, b: &B, rows: usize, s: &mut LayerScratch<B>, hidden: &mut B::Buffer) -> Result<()> {
        b.matmul(&s.x, rows, &self.gate_up, None, false, &mut s.gate_up)?;
        if let Some(bias) = &self.gate_up_bias {
            b.add_bias(&mut s.gate_up, bias, rows)?;
        }
        b.swiglu(&s.gate_up, rows, self.inner, &mut s.inner)?;
        self.down.forward(b, &s.inner, rows, true, hidden)
    }

    /// Bytes of the weights.
    pub fn bytes(&self, b: &B) -> u64 {
        (b.weight_bytes(&self.gate_up) + b.weight_bytes(&self.down.weight)) as u64
    }
}

/// Chooses experts for rows; knows nothing of their weights.
pub(crate) struct Router<B: Backend> {
    weight: B::Weight,
    spec: RouterSpec,
}

impl<B: Backend> Router<B> {
    fn load(loader: &Loader<'_, B>, prefix: &str, width: usize, experts: &Experts) -> Result<Self> {
        let mut spec = experts.router.clone();
        if experts.selection_bias {
            spec.selection_bias = loader.values(&format!("{prefix}.e_score_correction_bias"), &[experts.outputs()])?;
        }
        Ok(Self { weight: loader.exact(&format!("{prefix}.weight"), &[experts.outputs(), width])?, spec })
    }

    /// The routing of `x`'s rows.
    fn route(&self, b: &B, x: &B::Buffer, rows: usize, out: &mut B::Routing) -> Result<()> {
        Ok(b.route(x, rows, &self.weight, &self.spec, out)?)
    }
}

/// The experts of a layer that this rank holds. They receive their routing; they do not route.
pub(crate) struct ExpertWeights<B: Backend> {
    kept: Kept<B>,
    /// The layer of the transformer.
    pub layer: usize,
    /// Experts of the layer on all ranks.
    pub experts: usize,
    held: usize,
}

/// Where the experts' weights are.
enum Kept<B: Backend> {
    /// On the device: gate and up, and down.
    Device(B::Weight, B::Weight),
    /// In the checkpoint's files, the hot ones on the device. What is computed does not depend on which these are, so that the model stays immutable for all who use it.
    Files(Box<Mutex<HotExperts<B>>>),
}

impl<B: Backend> ExpertWeights<B> {
    /// Reads the experts of layer `i` that this rank holds, if they all have a place.
    pub fn load(loader: &Loader<'_, B>, i: usize, width: usize, experts: &Experts) -> Result<Self> {
        let (e, inner) = (experts.router.experts, experts.inner);
        let name = |part: &str| format!("model.layers.{i}.mlp.experts.{part}_proj");
        let gate_up = loader.experts(i, &name("gate_up"), [e, 2 * inner, width])?;
        let down = loader.experts(i, &name("down"), [e, width, inner])?;
        let held = gate_up.len();
        let kept = match loader.places {
            places if places >= held => {
                let load = |source: &Source| source.load(loader.backend, loader.format);
                Kept::Device(load(&gate_up)?, load(&down)?)
            }
            places => Kept::Files(Box::new(Mutex::new(HotExperts::new(loader, [gate_up, down], places)?))),
        };
        Ok(Self { kept, layer: i, experts: e, held })
    }

    /// How many experts this rank holds.
    pub fn held(&self) -> usize {
        self.held
    }

    /// How many of them fit the device.
    pub fn places(&self) -> usize {
        match &self.kept {
            Kept::Device(..) => self.held,
            Kept::Files(hot) => lock(hot).places(),
        }
    }

    /// Bytes of weights on the device.
    pub fn bytes(&self, b: &B) -> u64 {
        match &self.kept {
            Kept::Device(gate_up, down) => (b.weight_bytes(gate_up) + b.weight_bytes(down)) as u64,
            Kept::Files(hot) => lock(hot).bytes(b),
        }
    }

    /// Gate and up, and down, of all held experts, when they are on the device.
    fn whole(&self) -> Option<(&B::Weight, &B::Weight)> {
        match &self.kept {
            Kept::Device(gate_up, down) => Some((gate_up, down)),
            Kept::Files(_) => None,
        }
    }

    /// Calls `compute` with all assignments to `experts` (numbers among the held ones), as many times as it takes: each time with stacks of gate and up, and of down, and
    /// the assignments whose experts lie in them.
    pub fn each(
        &self,
        b: &B,
        experts: &[u32],
        mut compute: impl FnMut((&B::Weight, &B::Weight), &[Taken]) -> Result<()>,
    ) -> Result<()> {
        match &self.kept {
            Kept::Device(gate_up, down) => {
                let taken = |(i, e): (usize, &u32)| Taken { assignment: i as u32, matrix: *e };
                compute((gate_up, down), &experts.iter().enumerate().map(taken).collect::<Vec<_>>())
            }
            Kept::Files(hot) => lock(hot).each(b, experts, compute),
        }
    }
}

/// A failed copy leaves the places empty, a panic at worst an expert that is copied again.
fn lock<B: Backend>(hot: &Mutex<HotExperts<B>>) -> MutexGuard<'_, HotExperts<B>> {
    hot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The second half of a layer.
pub(crate) enum Mlp<B: Backend> {
    Dense(SwiGlu<B>),
    Routed { router: Router<B>, experts: ExpertWeights<B>, shared: Option<SwiGlu<B>> },
}

impl<B: Backend> Mlp<B> {
    /// Reads `model.layers.{i}.mlp.{gate,experts,shared_experts}`.
    pub fn load_routed(loader: &Loader<'_, B>, i: usize, width: usize, experts: &Experts) -> Result<Self> {
        let prefix = format!("model.layers.{i}.mlp");
        let shared = match experts.shared {
            0 => None,
            inner => Some(SwiGlu::load(loader, &format!("{prefix}.shared_experts"), width, inner, false)?),
        };
        Ok(Self::Routed {
            router: Router::load(loader, &format!("{prefix}.gate"), width, experts)?,
            experts: ExpertWeights::load(loader, i, width, experts)?,
            shared,
        })
    }

    /// `hidden += mlp(s.x)`.
    pub fn forward(&self, b: &B, rows: usize, s: &mut LayerScratch<B>, hidden: &mut B::Buffer) -> Result<()> {
        match self {
            Self::Dense(mlp) => mlp.forward(b, rows, s, hidden),
            Self::Routed { router, experts, shared } => {
                router.route(b, &s.x, rows, &mut s.routing)?;
                match (&mut s.spread, experts.whole()) {
                    (Some(spread), _) => spread.forward(b, experts, (&s.x, rows), &s.routing, hidden)?,
                    (None, Some((gate_up, down))) => b.experts(&s.x, rows, &s.routing, gate_up, down, hidden)?,
                    // `Scratch::new` makes the spread of a model whose experts are in files.
                    (None, None) => return Err(ModelError::Batch("this cache was made for another model".into())),
                }
                match shared {
                    Some(mlp) => mlp.forward(b, rows, s, hidden),
                    None => Ok(()),
                }
            }
        }
    }

    /// Whether experts are copied to the device on demand.
    pub fn copies(&self) -> bool {
        matches!(self, Self::Routed { experts, .. } if experts.whole().is_none())
    }

    /// Bytes of weights that every row needs, bytes of one expert, and how many of them fit the device.
    pub fn bytes(&self, b: &B) -> (u64, u64, usize) {
        match self {
            Self::Dense(mlp) => (mlp.bytes(b), 0, 0),
            Self::Routed { router, experts, shared } => {
                let always = b.weight_bytes(&router.weight) as u64 + shared.as_ref().map_or(0, |s| s.bytes(b));
                let places = experts.places();
                (always, experts.bytes(b) / places.max(1) as u64, places)
            }
        }
    }
}

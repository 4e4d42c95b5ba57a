//! The part of a layer after attention: a dense SwiGLU, or a router and its experts.

use borealis_kernels::{Backend, RouterSpec};

use crate::attention::Linear;
use crate::config::Experts;
use crate::error::Result;
use crate::load::Loader;
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

/// The experts of a layer. They receive their routing; they do not route.
pub(crate) struct ExpertWeights<B: Backend> {
    gate_up: B::Weight,
    down: B::Weight,
    /// The layer of the transformer.
    pub layer: usize,
    /// Experts of the layer on all ranks.
    pub experts: usize,
    held: usize,
}

impl<B: Backend> ExpertWeights<B> {
    /// Reads the experts of layer `i` that this rank holds.
    pub fn load(loader: &Loader<'_, B>, i: usize, width: usize, experts: &Experts) -> Result<Self> {
        let (e, inner) = (experts.router.experts, experts.inner);
        let name = |part: &str| format!("model.layers.{i}.mlp.experts.{part}_proj");
        Ok(Self {
            gate_up: loader.experts(i, &name("gate_up"), [e, 2 * inner, width])?,
            down: loader.experts(i, &name("down"), [e, width, inner])?,
            layer: i,
            experts: e,
            held: loader.share.map_or(e, |(placement, rank)| placement.held(i, rank).len()),
        })
    }

    /// How many experts this rank holds.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Bytes of their weights.
    pub fn bytes(&self, b: &B) -> u64 {
        (b.weight_bytes(&self.gate_up) + b.weight_bytes(&self.down)) as u64
    }

    /// Adds the weighted outputs of each row's chosen experts to `hidden`.
    pub fn forward(
        &self,
        b: &B,
        x: &B::Buffer,
        rows: usize,
        routing: &B::Routing,
        hidden: &mut B::Buffer,
    ) -> Result<()> {
        Ok(b.experts(x, rows, routing, &self.gate_up, &self.down, hidden)?)
    }
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
                match &mut s.spread {
                    None => experts.forward(b, &s.x, rows, &s.routing, hidden)?,
                    Some(spread) => spread.forward(b, experts, (&s.x, rows), &s.routing, hidden)?,
                }
                match shared {
                    Some(mlp) => mlp.forward(b, rows, s, hidden),
                    None => Ok(()),
                }
            }
        }
    }

    /// Bytes of weights that every row needs, bytes of one expert, and how many of them are held here.
    pub fn bytes(&self, b: &B) -> (u64, u64, usize) {
        match self {
            Self::Dense(mlp) => (mlp.bytes(b), 0, 0),
            Self::Routed { router, experts, shared } => {
                let always = b.weight_bytes(&router.weight) as u64 + shared.as_ref().map_or(0, |s| s.bytes(b));
                (always, experts.bytes(b) / experts.held().max(1) as u64, experts.held())
            }
        }
    }
}

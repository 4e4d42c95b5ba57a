//! The LSTM inside EnCodec, with the connection around it.

use borealis_kernels::candle::{Device, Tensor};

use super::names::Names;
use crate::Result;

/// Layers of one LSTM; its output is added to its input.
#[derive(Debug)]
pub(super) struct Lstm {
    width: usize,
    layers: Vec<Cell>,
}

#[derive(Debug)]
struct Cell {
    /// `[width, 4 * width]`: input, forget, cell and output gates.
    input: Tensor,
    state: Tensor,
    /// Both biases, `[4 * width]`.
    bias: Tensor,
}

impl Lstm {
    /// `count` layers of `width` units under `names`, by PyTorch's names.
    pub fn load(names: &Names<'_>, width: usize, count: usize) -> Result<Self> {
        let cell = |layer: usize| {
            let matrix = |name: &str| -> Result<Tensor> {
                let weight = names.tensor(&format!("weight_{name}_l{layer}"), &[4 * width, width])?;
                Ok(weight.t()?.contiguous()?)
            };
            let bias = |name: &str| names.tensor(&format!("bias_{name}_l{layer}"), &[4 * width]);
            Ok(Cell { input: matrix("ih")?, state: matrix("hh")?, bias: (bias("ih")? + bias("hh")?)? })
        };
        Ok(Self { width, layers: (0..count).map(cell).collect::<Result<_>>()? })
    }

    /// `[1, width, n]` -> the same shape.
    pub fn run(&self, x: &Tensor) -> Result<Tensor> {
        let input = x.squeeze(0)?.t()?.contiguous()?;
        let mut y = input.clone();
        for layer in &self.layers {
            y = layer.run(&y, self.width)?;
        }
        Ok((y + input)?.t()?.contiguous()?.unsqueeze(0)?)
    }
}

impl Cell {
    /// `[n, width]` -> the same shape, starting from a state of zeros.
    fn run(&self, x: &Tensor, width: usize) -> Result<Tensor> {
        let n = x.dim(0)?;
        let inputs = x.matmul(&self.input)?.broadcast_add(&self.bias)?.flatten_all()?.to_vec1::<f32>()?;
        let sigmoid = |v: f32| 1.0 / (1.0 + (-v).exp());
        let mut out = Vec::with_capacity(n * width);
        let mut cell = vec![0.0f32; width];
        let mut hidden = vec![0.0f32; width];
        for input in inputs.chunks_exact(4 * width) {
            let before = Tensor::from_vec(hidden.clone(), (1, width), &Device::Cpu)?;
            let gates = before.matmul(&self.state)?.flatten_all()?.to_vec1::<f32>()?;
            for i in 0..width {
                let gate = |g: usize| input[g * width + i] + gates[g * width + i];
                cell[i] = sigmoid(gate(1)) * cell[i] + sigmoid(gate(0)) * gate(2).tanh();
                hidden[i] = sigmoid(gate(3)) * cell[i].tanh();
            }
            out.extend_from_slice(&hidden);
        }
        Ok(Tensor::from_vec(out, (n, width), &Device::Cpu)?)
    }
}

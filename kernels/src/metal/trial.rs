//! A trial of the kernels on the device that is opened: a product of each format of weights and attention, against the CPU backend. The kernels were
//! written without a Mac at hand; a device on which they compute something else must not be used in silence.

use super::Metal;
use super::driver::unavailable;
use crate::backend::Result;
use crate::{Backend, Cpu, HostTensor, HostType, KvFormat, QuantFormat, Span};

/// Largest normalised mean squared error: the CPU rounds rows to eight bits for int8 and int4 weights.
const LIMIT: f64 = 1e-3;
const ROWS: usize = 3;
const WIDTH: usize = 192;
const HEAD: usize = 48;

/// Fails with [`crate::KernelError::Unavailable`] when the device computes something else than the CPU.
pub(super) fn run(metal: &Metal) -> Result<()> {
    let cpu = Cpu::new(1);
    for format in QuantFormat::ALL {
        compare("matmul", &product(metal, format)?, &product(&cpu, format)?)?;
    }
    compare("attention", &attention(metal)?, &attention(&cpu)?)
}

fn compare(op: &str, have: &[f32], want: &[f32]) -> Result<()> {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = have.iter().zip(want).map(|(a, b)| square(a - b)).sum();
    let power: f64 = want.iter().map(|b| square(*b)).sum();
    // Written so that NaN fails.
    if error <= LIMIT * power {
        return Ok(());
    }
    Err(unavailable(format!(
        "its {op} is not that of the CPU (NMSE {:.1e}): use --device cpu or reference:metal",
        error / power
    )))
}

/// Numbers between -1 and 1 that repeat late.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0).collect()
}

fn buffer<B: Backend>(b: &B, n: usize) -> Result<B::Buffer> {
    let mut buffer = b.alloc(n)?;
    b.write(&mut buffer, 0, &numbers(n))?;
    Ok(buffer)
}

fn product<B: Backend>(b: &B, format: QuantFormat) -> Result<Vec<f32>> {
    let data: Vec<u8> = numbers(WIDTH * WIDTH).iter().flat_map(|x| x.to_le_bytes()).collect();
    let w = HostTensor { dtype: HostType::F32, shape: &[WIDTH, WIDTH], data: &data, scales: None };
    let (w, x, mut out) = (b.weight(&w, format)?, buffer(b, ROWS * WIDTH)?, b.alloc(ROWS * WIDTH)?);
    b.matmul(&x, ROWS, &w, None, false, &mut out)?;
    read(b, &out, ROWS * WIDTH)
}

/// Three rows of four heads over two key heads; more slots than one piece has.
fn attention<B: Backend>(b: &B) -> Result<Vec<f32>> {
    let (slots, kv_heads, heads) = (300u32, 2, 4);
    let list: Vec<u32> = (0..slots).collect();
    let mut kv = b.kv(list.len(), kv_heads, HEAD, KvFormat::F32)?;
    let keys = buffer(b, list.len() * kv_heads * HEAD)?;
    b.store_kv(&mut kv, &keys, &keys, &list)?;
    let spans = [(0, slots), (5, 9), (0, 257)].map(|recent| Span { prefix: (0, 0), recent });
    let (q, mut out) = (buffer(b, spans.len() * heads * HEAD)?, b.alloc(spans.len() * heads * HEAD)?);
    b.attention(&q, heads, &kv, &spans, 0.2, &mut out)?;
    read(b, &out, spans.len() * heads * HEAD)
}

fn read<B: Backend>(b: &B, buffer: &B::Buffer, n: usize) -> Result<Vec<f32>> {
    let mut out = vec![0f32; n];
    b.read(buffer, 0, &mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_computes_something_else_is_refused() {
        let want = numbers(100);
        let with = |x: f32| want.iter().enumerate().map(|(i, w)| if i == 50 { x } else { *w }).collect::<Vec<_>>();
        assert!(compare("matmul", &want, &want).is_ok());
        assert!(compare("matmul", &with(want[50] + 0.01), &want).is_ok());
        for wrong in [want[50] + 1.0, f32::NAN, f32::INFINITY] {
            let error = compare("matmul", &with(wrong), &want).unwrap_err().to_string();
            assert!(error.starts_with("device \"metal\" cannot be used: its matmul is not that of the CPU"), "{error}");
        }
    }
}

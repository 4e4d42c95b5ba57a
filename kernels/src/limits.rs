//! What this machine can do at most, measured: the limits that speeds are compared with.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Time that one measurement takes.
const SPAN: Duration = Duration::from_millis(180);
/// The best slice of so long counts for each thread: another program that holds the core for a while only makes it slower, and slices are
/// shorter than the time for which the system gives a core away.
const SLICE: Duration = Duration::from_micros(800);
/// Words that are read between two looks at the clock.
const PIECE: usize = 1 << 15;

/// Bytes per second that `threads` threads read together from buffers of `bytes` bytes in all, again and again.
/// A working set that fits a cache is read from there; for DRAM ask for more than the last-level cache (256 MiB, say).
pub fn read_bandwidth(bytes: usize, threads: usize) -> f64 {
    let threads = threads.max(1);
    let words = (bytes / threads / 8).max(1024);
    together(threads, || {
        let data = vec![1u64; words];
        let mut at = 0;
        move || {
            let piece = &data[at..words.min(at + PIECE)];
            black_box(sum(black_box(piece)));
            at = if at + piece.len() == words { 0 } else { at + piece.len() };
            size_of_val(piece) as f64
        }
    })
}

/// f32 operations per second (a multiply-add counts as two) of `threads` threads on numbers in registers, with the widest instructions that
/// the CPU kernels use.
pub fn peak_flops(threads: usize) -> f64 {
    together(threads.max(1), || {
        || {
            let rounds = 2_000;
            black_box(multiply_add(black_box(rounds)));
            (rounds * CHAINS * LANES * 2) as f64
        }
    })
}

/// Runs what `prepare` returns on `threads` threads at the same time for [`SPAN`]; the work is in units that it returns. Units per second: the
/// sum of every thread's best [`SLICE`].
fn together<W: FnMut() -> f64>(threads: usize, prepare: impl Fn() -> W + Sync) -> f64 {
    let ready = std::sync::Barrier::new(threads);
    let one = || {
        let mut work = prepare();
        ready.wait();
        let start = Instant::now();
        let mut best = 0f64;
        while start.elapsed() < SPAN {
            let (slice, mut units) = (Instant::now(), 0.0);
            while slice.elapsed() < SLICE {
                units += work();
            }
            best = best.max(units / slice.elapsed().as_secs_f64());
        }
        best
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let mine = one();
        // A thread that measures nothing adds nothing.
        mine + others.into_iter().map(|t| t.join().unwrap_or(0.0)).sum::<f64>()
    })
}

fn sum(data: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as just asked.
        return unsafe { sum_avx2(data) };
    }
    sum_any(data)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(data: &[u64]) -> u64 {
    sum_any(data)
}

/// Several running sums, so that loads and not additions are the limit.
#[inline(always)]
fn sum_any(data: &[u64]) -> u64 {
    let mut sums = [0u64; 32];
    let (blocks, rest) = data.as_chunks::<32>();
    for block in blocks {
        for (s, x) in sums.iter_mut().zip(block) {
            *s = s.wrapping_add(*x);
        }
    }
    sums.iter().chain(rest).fold(0, |a, b| a.wrapping_add(*b))
}

/// Independent chains of multiply-adds: enough to hide their latency.
const CHAINS: usize = 12;
/// Numbers in one register.
const LANES: usize = 8;

fn multiply_add(rounds: usize) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        // SAFETY: the processor has AVX2 and FMA, as just asked.
        return unsafe { multiply_add_fma(rounds) };
    }
    let mut sums = [1.0f32; CHAINS * LANES];
    let (a, b) = (black_box(0.999), black_box(0.001));
    for _ in 0..rounds {
        for s in &mut sums {
            *s = *s * a + b;
        }
    }
    sums.iter().sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_add_fma(rounds: usize) -> f32 {
    use std::arch::x86_64::{_mm256_add_ps, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    // Hidden, or the compiler would work the loop out.
    let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
    let mut sums = [_mm256_set1_ps(1.0); CHAINS];
    for _ in 0..rounds {
        for s in &mut sums {
            *s = _mm256_fmadd_ps(*s, a, b);
        }
    }
    let all = sums.into_iter().fold(_mm256_set1_ps(0.0), |x, y| _mm256_add_ps(x, y));
    _mm256_cvtss_f32(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers() {
        let bandwidth = read_bandwidth(1 << 20, 1);
        assert!(bandwidth.is_finite() && bandwidth > 0.0);
        let peak = peak_flops(1);
        assert!(peak.is_finite() && peak > 0.0);
    }

    #[test]
    fn sums_are_sums() {
        let data: Vec<u64> = (0..1001).collect();
        assert_eq!(sum(&data), 500_500);
        assert_eq!(sum_any(&data), 500_500);
    }
}

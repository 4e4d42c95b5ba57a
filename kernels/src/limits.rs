//! What this machine can do at most, measured: the limits that speeds are compared with.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::cpu::memory::Aligned;

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
        // In large pages, as weights are.
        let mut data = Aligned::new(words);
        data.fill(1u64);
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
    peak(threads, chains::floats)
}

/// Operations per second (a multiply-add counts as two) on eight-bit codes, as for int8 weights: sums in 32 bits, with the widest instructions
/// that the CPU kernels use.
pub fn peak_codes(threads: usize) -> f64 {
    peak(threads, chains::codes)
}

/// Operations per second of a loop that returns how many multiply-adds it did.
fn peak(threads: usize, work: fn(usize) -> usize) -> f64 {
    together(threads.max(1), || || 2.0 * black_box(work(black_box(2_000))) as f64)
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
    {
        #[target_feature(enable = "avx2")]
        fn sum_avx2(data: &[u64]) -> u64 {
            sum_any(data)
        }
        #[target_feature(enable = "avx512f")]
        fn sum_avx512(data: &[u64]) -> u64 {
            sum_any(data)
        }
        if std::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512, as just asked.
            return unsafe { sum_avx512(data) };
        }
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, as just asked.
            return unsafe { sum_avx2(data) };
        }
    }
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

/// Loops of independent chains in registers: each returns the multiply-adds that it did in `rounds` rounds.
mod chains {
    use std::hint::black_box;

    #[cfg(target_arch = "x86_64")]
    use crate::cpu::simd::Level;

    /// Chains: enough to hide the latency of an instruction.
    const CHAINS: usize = 12;

    pub(super) fn floats(rounds: usize) -> usize {
        #[cfg(target_arch = "x86_64")]
        {
            if Level::detect().avx512() {
                // SAFETY: the level says so.
                return unsafe { x86::floats_avx512(rounds) };
            }
            if Level::detect().avx2() {
                // SAFETY: the level says so.
                return unsafe { x86::floats_avx2(rounds) };
            }
        }
        let mut sums = [1.0f32; CHAINS * 8];
        let (a, b) = (black_box(0.999), black_box(0.001));
        for _ in 0..rounds {
            sums.iter_mut().for_each(|s| *s = *s * a + b);
        }
        black_box(sums);
        rounds * CHAINS * 8
    }

    pub(super) fn codes(rounds: usize) -> usize {
        #[cfg(target_arch = "x86_64")]
        {
            if Level::detect().avx512() {
                // SAFETY: the level says so.
                return unsafe { x86::codes_avx512(rounds) };
            }
            if Level::detect().avx2() {
                // SAFETY: the level says so.
                return unsafe { x86::codes_avx2(rounds) };
            }
        }
        let mut sums = [1i32; CHAINS * 8];
        let (a, b) = (black_box(3i8), black_box(5u8));
        for _ in 0..rounds {
            sums.iter_mut().for_each(|s| *s = s.wrapping_add((i32::from(a) * i32::from(b)) ^ *s));
        }
        black_box(sums);
        rounds * CHAINS * 8
    }

    #[cfg(target_arch = "x86_64")]
    mod x86 {
        use std::arch::x86_64::*;
        use std::hint::black_box;

        use super::CHAINS;

        // Operands are hidden, or the compiler would work the loops out.

        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
        pub(super) fn floats_avx512(rounds: usize) -> usize {
            let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
            let mut sums = [_mm512_set1_ps(1.0); CHAINS];
            for _ in 0..rounds {
                sums.iter_mut().for_each(|s| *s = _mm512_fmadd_ps(*s, a, b));
            }
            black_box(sums);
            rounds * CHAINS * 16
        }

        #[target_feature(enable = "avx2,fma,f16c")]
        pub(super) fn floats_avx2(rounds: usize) -> usize {
            let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
            let mut sums = [_mm256_set1_ps(1.0); CHAINS];
            for _ in 0..rounds {
                sums.iter_mut().for_each(|s| *s = _mm256_fmadd_ps(*s, a, b));
            }
            black_box(sums);
            rounds * CHAINS * 8
        }

        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
        pub(super) fn codes_avx512(rounds: usize) -> usize {
            let (a, b) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(5)));
            let mut sums = [_mm512_set1_epi32(1); CHAINS];
            for _ in 0..rounds {
                sums.iter_mut().for_each(|s| *s = _mm512_dpbusd_epi32(*s, a, b));
            }
            black_box(sums);
            rounds * CHAINS * 64
        }

        /// As the kernel does: the sign moves to one side, pairs in 16 bits, fours in 32.
        #[target_feature(enable = "avx2,fma,f16c")]
        pub(super) fn codes_avx2(rounds: usize) -> usize {
            let (a, b) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi8(black_box(5)));
            let ones = _mm256_set1_epi16(black_box(1));
            let mut sums = [_mm256_set1_epi32(1); CHAINS];
            for _ in 0..rounds {
                for s in &mut sums {
                    let signed = _mm256_sign_epi8(b, *s);
                    *s = _mm256_add_epi32(*s, _mm256_madd_epi16(_mm256_maddubs_epi16(a, signed), ones));
                }
            }
            black_box(sums);
            rounds * CHAINS * 32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers() {
        let bandwidth = read_bandwidth(1 << 20, 1);
        assert!(bandwidth.is_finite() && bandwidth > 0.0);
        for peak in [peak_flops(1), peak_codes(1)] {
            assert!(peak.is_finite() && peak > 0.0);
        }
    }

    #[test]
    fn sums_are_sums() {
        let data: Vec<u64> = (0..1001).collect();
        assert_eq!(sum(&data), 500_500);
        assert_eq!(sum_any(&data), 500_500);
    }
}

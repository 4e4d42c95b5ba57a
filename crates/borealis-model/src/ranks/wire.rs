//! Parcels as bytes: little-endian, a header of fixed size, then numbers.

use std::time::Duration;

use super::exchange::Parcel;

/// Bytes before the numbers: step, layer, three lengths, nanoseconds.
const HEADER: usize = 8 + 4 + 3 * 8 + 8;

/// What a member says.
pub(super) enum Answer {
    /// Results, of this step and layer.
    Results { step: u64, layer: u32, took: Duration, results: Vec<f32> },
    /// Why there are none.
    Failed(String),
}

/// First byte of a message.
const PARCEL: u8 = 1;
const RESULTS: u8 = 2;
const FAILED: u8 = 3;
const END: u8 = 4;

/// What the home sends when the run is over.
pub(super) fn end() -> Vec<u8> {
    vec![END]
}

/// A parcel on its way to a member; `bytes` is memory to use again.
pub(super) fn parcel(p: &Parcel, bytes: Vec<u8>) -> Vec<u8> {
    let mut out = start(PARCEL, p, [p.x.len(), p.rows.len(), p.experts.len()], bytes);
    numbers(&mut out, &p.x, |v| v.to_le_bytes());
    numbers(&mut out, &p.rows, |v| v.to_le_bytes());
    numbers(&mut out, &p.experts, |v| v.to_le_bytes());
    out
}

/// A parcel's results on their way home.
pub(super) fn results(p: &Parcel, bytes: Vec<u8>) -> Vec<u8> {
    let mut out = start(RESULTS, p, [p.results.len(), 0, 0], bytes);
    numbers(&mut out, &p.results, |v| v.to_le_bytes());
    out
}

/// Why there are no results.
pub(super) fn failed(problem: &str) -> Vec<u8> {
    [&[FAILED], problem.as_bytes()].concat()
}

fn start(kind: u8, p: &Parcel, lengths: [usize; 3], mut out: Vec<u8>) -> Vec<u8> {
    out.clear();
    out.push(kind);
    out.extend(p.step.to_le_bytes());
    out.extend(p.layer.to_le_bytes());
    lengths.iter().for_each(|n| out.extend((*n as u64).to_le_bytes()));
    out.extend((p.took.as_nanos() as u64).to_le_bytes());
    out
}

fn numbers<T: Copy>(out: &mut Vec<u8>, values: &[T], bytes: impl Fn(T) -> [u8; 4]) {
    let at = out.len();
    out.resize(at + 4 * values.len(), 0);
    out[at..].as_chunks_mut::<4>().0.iter_mut().zip(values).for_each(|(to, v)| *to = bytes(*v));
}

/// The header of a message of a kind, and its parts.
fn split(message: &[u8], kind: u8) -> Option<(u64, u32, Duration, [&[u8]; 3])> {
    let (&first, rest) = message.split_first()?;
    let (header, mut rest) = rest.split_at_checked(HEADER)?;
    if first != kind {
        return None;
    }
    let word = |at: usize| header[at..].first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
    let layer = u32::from_le_bytes(*header[8..].first_chunk::<4>()?);
    let mut parts = [&[][..]; 3];
    for (i, part) in parts.iter_mut().enumerate() {
        let len = usize::try_from(word(12 + 8 * i)?).ok()?.checked_mul(4)?;
        (*part, rest) = rest.split_at_checked(len)?;
    }
    rest.is_empty().then_some((word(0)?, layer, Duration::from_nanos(word(36)?), parts))
}

fn read<T>(bytes: &[u8], number: impl Fn([u8; 4]) -> T, out: &mut Vec<T>) {
    out.clear();
    out.extend(bytes.as_chunks::<4>().0.iter().map(|b| number(*b)));
}

/// What a member was sent: `Some(None)` ends the run, `None` makes no sense. `memory` is used again.
pub(super) fn read_parcel(message: &[u8], mut memory: Parcel) -> Option<Option<Parcel>> {
    if message == [END] {
        return Some(None);
    }
    let (step, layer, _, [x, rows, experts]) = split(message, PARCEL)?;
    read(x, f32::from_le_bytes, &mut memory.x);
    read(rows, u32::from_le_bytes, &mut memory.rows);
    read(experts, u32::from_le_bytes, &mut memory.experts);
    (memory.step, memory.layer) = (step, layer);
    Some(Some(memory))
}

/// What the home was sent; `None` makes no sense. `memory` is used again.
pub(super) fn read_answer(message: &[u8], mut memory: Vec<f32>) -> Option<Answer> {
    if let Some((&FAILED, text)) = message.split_first() {
        return Some(Answer::Failed(String::from_utf8_lossy(text).into_owned()));
    }
    let (step, layer, took, [results, ..]) = split(message, RESULTS)?;
    read(results, f32::from_le_bytes, &mut memory);
    Some(Answer::Results { step, layer, took, results: memory })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_parcel() -> impl Strategy<Value = Parcel> {
        let numbers = |n| prop::collection::vec(-9.0f32..9.0, 0..n);
        let ids = || prop::collection::vec(any::<u32>(), 0..9);
        (any::<u64>(), any::<u32>(), numbers(40), ids(), ids(), numbers(40), 0u64..1 << 40).prop_map(
            |(step, layer, x, rows, experts, results, nanos)| {
                let took = Duration::from_nanos(nanos);
                Parcel { step, layer, x, rows, experts, results, took }
            },
        )
    }

    proptest! {
        /// What is sent is what arrives, whatever lay in the memory before.
        #[test]
        fn parcels_and_results_survive(p in any_parcel(), old in any_parcel()) {
            let there = read_parcel(&parcel(&p, vec![1; 7]), old.clone()).unwrap().unwrap();
            prop_assert_eq!((&there.x, &there.rows, &there.experts), (&p.x, &p.rows, &p.experts));
            prop_assert_eq!((there.step, there.layer), (p.step, p.layer));
            let Some(Answer::Results { step, layer, took, results: back }) = read_answer(&results(&p, Vec::new()), old.x) else {
                return Err(TestCaseError::fail("no results"));
            };
            prop_assert_eq!((step, layer, took, back), (p.step, p.layer, p.took, p.results));
        }

        /// A message that was cut or is noise is refused, and never read past its end.
        #[test]
        fn noise_is_refused(p in any_parcel(), cut in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 0..80)) {
            let whole = parcel(&p, Vec::new());
            let part = &whole[..cut.index(whole.len())];
            prop_assert!(read_parcel(part, Parcel::default()).is_none());
            prop_assert!(read_answer(&whole, Vec::new()).is_none());
            let _ = (read_parcel(&noise, Parcel::default()), read_answer(&noise, Vec::new()));
        }
    }

    #[test]
    fn ends_and_failures() {
        assert_eq!(read_parcel(&end(), Parcel::default()), Some(None));
        let answer = read_answer(&failed("out of memory"), Vec::new());
        assert!(matches!(answer, Some(Answer::Failed(text)) if text == "out of memory"));
    }
}

//! From logits to ids: guidance, the rules of a sampler, and noise that is a function of its address. On the host here, and the specification of every device's own.

mod guidance;
mod philox;
mod sampler;

pub use guidance::{combine, log_softmax};
pub use philox::{Noise, philox4x32};
pub use sampler::{Rule, Sampler};

/// One id to draw, and from which logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Row of the logits: the conditional branch.
    pub row: usize,
    /// Row of the unconditional branch, if there is one: logits become `u + guidance * (c - u)`.
    pub against: Option<usize>,
    /// The scale of the guidance; 1 leaves the conditional row as it is.
    pub guidance: f32,
    /// Which numbers of a row, `[start, end)`, the id is drawn among. Ids that are drawn count from `start`: they are local.
    pub part: (usize, usize),
    /// Local ids `[start, end)` that are not drawn; empty when both are equal.
    pub except: (usize, usize),
    /// How it is drawn.
    pub rule: Rule,
    /// Where, in [`Draws::seen`], the local ids lie that were there before; read only with a repetition penalty.
    pub seen: (usize, usize),
    /// The noise and the address of this id in it.
    pub noise: Noise,
    /// Position of the noise.
    pub position: u32,
    /// Code of the noise.
    pub code: u32,
}

/// The ids that a step decides.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draws {
    /// In ascending order of their rows.
    pub list: Vec<Draw>,
    /// Local ids that were there before, of all draws.
    pub seen: Vec<u32>,
}

impl Draws {
    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.list.clear();
        self.seen.clear();
    }

    /// The ids that were there before a draw; none where the range lies outside of the list.
    pub fn seen(&self, draw: &Draw) -> &[u32] {
        self.seen.get(draw.seen.0..draw.seen.1).unwrap_or(&[])
    }
}

/// Host memory of draws, used again from step to step.
#[derive(Debug, Default)]
pub struct Drawer {
    sampler: Sampler,
    conditional: Vec<f32>,
    unconditional: Vec<f32>,
    logits: Vec<f32>,
}

impl Drawer {
    /// Draws an id from whole rows of logits. `None` when a logit is not a number, all are minus infinity, or the part lies outside of the rows.
    pub fn draw(&mut self, row: &[f32], against: Option<&[f32]>, draw: &Draw, seen: &[u32]) -> Option<u32> {
        // A repetition penalty looks at signs: both rows are normalised first, whole, as the reference does.
        let whole = against.is_some() && draw.rule.repetition_penalty != 1.0;
        let (from, to) = if whole { (0, row.len()) } else { draw.part };
        self.conditional.clear();
        self.conditional.extend_from_slice(row.get(from..to)?);
        if let Some(other) = against {
            self.unconditional.clear();
            self.unconditional.extend_from_slice(other.get(from..to)?);
            if whole {
                log_softmax(&mut self.conditional);
                log_softmax(&mut self.unconditional);
            }
            combine(&mut self.conditional, &self.unconditional, draw.guidance);
        }
        let logits = self.conditional.get_mut(draw.part.0 - from..draw.part.1 - from)?;
        let local = |id: usize| id.min(logits.len());
        let (a, b) = (local(draw.except.0), local(draw.except.1));
        logits[a..b.max(a)].fill(f32::NEG_INFINITY);
        self.sampler.sample(logits, &draw.rule, seen, &draw.noise, draw.position, draw.code)
    }

    /// Room for logits that were read from a device; handed back by [`Drawer::put`].
    pub(crate) fn take(&mut self, len: usize) -> Vec<f32> {
        let mut logits = std::mem::take(&mut self.logits);
        logits.resize(len, 0.0);
        logits
    }

    pub(crate) fn put(&mut self, logits: Vec<f32>) {
        self.logits = logits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guidance, then the part, then what is not drawn: the order in which the engine always did it.
    #[test]
    fn a_draw_is_its_steps_by_hand() {
        let noise = Noise::new(9, 2);
        let rule = Rule { temperature: 0.8, top_k: 5, ..Rule::default() };
        let value = |i: u32, j: u32| Noise::new(5, j).gumbel(0, 0, i) as f32;
        let (a, b): (Vec<f32>, Vec<f32>) = (0..20).map(|i| (value(i, 1), value(i, 2))).unzip();
        for penalty in [1.0, 1.3] {
            let rule = Rule { repetition_penalty: penalty, ..rule };
            for position in 0..50 {
                let draw = Draw {
                    row: 0,
                    against: Some(1),
                    guidance: 2.5,
                    part: (4, 16),
                    except: (3, 5),
                    rule,
                    seen: (0, 2),
                    noise,
                    position,
                    code: 3,
                };
                let (mut c, mut u) = (a.clone(), b.clone());
                if penalty != 1.0 {
                    log_softmax(&mut c);
                    log_softmax(&mut u);
                }
                combine(&mut c, &u, 2.5);
                c[4 + 3..4 + 5].fill(f32::NEG_INFINITY);
                let want = Sampler::default().sample(&c[4..16], &rule, &[1, 7], &noise, position, 3);
                assert_eq!(Drawer::default().draw(&a, Some(&b), &draw, &[1, 7]), want);
                assert!(want.is_some_and(|id| !(3..5).contains(&id)));
            }
        }
        let outside = Draw {
            row: 0,
            against: None,
            guidance: 1.0,
            part: (4, 21),
            except: (0, 0),
            rule,
            seen: (0, 0),
            noise,
            position: 0,
            code: 0,
        };
        assert_eq!(Drawer::default().draw(&a, None, &outside, &[]), None);
    }
}

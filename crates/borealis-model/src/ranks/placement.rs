//! Which rank holds which expert.

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};

/// The rank of every expert of every layer. Results do not depend on it; speed and memory do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    ranks: usize,
    /// `[layer][expert]`; empty for layers without experts.
    rank: Vec<Vec<usize>>,
    /// The expert's number among those of its rank, in the same shape.
    index: Vec<Vec<u32>>,
}

impl Placement {
    /// `rank_of[layer][expert]` for all layers of the model (empty for layers without experts); every rank must hold an expert of every routed layer.
    pub fn new(c: &ModelConfig, ranks: usize, rank_of: Vec<Vec<usize>>) -> Result<Self> {
        check_count(c, ranks)?;
        if rank_of.len() != c.num_hidden_layers {
            let (given, have) = (rank_of.len(), c.num_hidden_layers);
            return Err(ModelError::Ranks(format!("the placement is for {given} layers, the model has {have}")));
        }
        let mut index = Vec::with_capacity(rank_of.len());
        for (layer, of) in rank_of.iter().enumerate() {
            let experts = experts_of_layer(c, layer);
            if of.len() != experts {
                let given = of.len();
                return Err(ModelError::Ranks(format!(
                    "the placement names {given} experts of layer {layer}, the model has {experts}"
                )));
            }
            let mut held = vec![0u32; ranks];
            let mut numbers = Vec::with_capacity(of.len());
            for (expert, &rank) in of.iter().enumerate() {
                let Some(count) = held.get_mut(rank) else {
                    return Err(ModelError::Ranks(format!(
                        "the placement puts expert {expert} of layer {layer} on rank {rank}, there are {ranks}"
                    )));
                };
                numbers.push(*count);
                *count += 1;
            }
            if let Some(rank) = held.iter().position(|n| *n == 0).filter(|_| experts > 0) {
                return Err(ModelError::Ranks(format!(
                    "the placement leaves rank {rank} without an expert of layer {layer}"
                )));
            }
            index.push(numbers);
        }
        Ok(Self { ranks, rank: rank_of, index })
    }

    /// Expert e on rank `e % ranks`.
    pub fn round_robin(c: &ModelConfig, ranks: usize) -> Result<Self> {
        check_count(c, ranks)?;
        let layer = |l| (0..experts_of_layer(c, l)).map(|e| e % ranks).collect();
        Self::new(c, ranks, (0..c.num_hidden_layers).map(layer).collect())
    }

    /// Layer by layer the experts with the largest load first, each to the rank that has the least so far and has room: every rank holds as many experts as
    /// another, or one more. `load[layer][expert]` counts rows; it is what [`crate::ranks::TrafficTotals::load`] has measured.
    pub fn balanced(c: &ModelConfig, ranks: usize, load: &[Vec<u64>]) -> Result<Self> {
        check_count(c, ranks)?;
        if load.len() != c.num_hidden_layers {
            let (given, have) = (load.len(), c.num_hidden_layers);
            return Err(ModelError::Ranks(format!("the expert load is of {given} layers, the model has {have}")));
        }
        let layers = load.iter().enumerate().map(|(layer, load)| {
            let experts = experts_of_layer(c, layer);
            if load.len() != experts {
                let given = load.len();
                return Err(ModelError::Ranks(format!(
                    "the load of layer {layer} is of {given} experts, the model has {experts}"
                )));
            }
            Ok(balance(load, ranks))
        });
        Self::new(c, ranks, layers.collect::<Result<_>>()?)
    }

    /// How many ranks there are.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// The rank that holds an expert, and its number among that rank's experts of the layer.
    pub fn of(&self, layer: usize, expert: usize) -> (usize, u32) {
        (self.rank[layer][expert], self.index[layer][expert])
    }

    /// The experts of a layer that a rank holds, ascending.
    pub fn held(&self, layer: usize, rank: usize) -> Vec<usize> {
        let on = |(expert, on): (usize, &usize)| (*on == rank).then_some(expert);
        self.rank[layer].iter().enumerate().filter_map(on).collect()
    }

    /// All of it as text, for comparing.
    pub(crate) fn spelled(&self) -> String {
        format!("{} ranks {:?}", self.ranks, self.rank)
    }
}

/// Experts with weights in a layer.
fn experts_of_layer(c: &ModelConfig, layer: usize) -> usize {
    c.routed(layer).map_or(0, |e| e.router.experts)
}

fn check_count(c: &ModelConfig, ranks: usize) -> Result<()> {
    let experts = c.experts.as_ref().map_or(0, |e| e.router.experts);
    if ranks == 0 || (ranks > 1 && experts == 0) {
        return Err(ModelError::Ranks(format!("{ranks} ranks for a model without experts: use one rank")));
    }
    if ranks > experts.max(1) {
        return Err(ModelError::Ranks(format!(
            "{ranks} ranks for {experts} experts in a layer: use at most {experts}"
        )));
    }
    Ok(())
}

/// The rank of each expert of one layer.
fn balance(load: &[u64], ranks: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..load.len()).collect();
    order.sort_by_key(|e| std::cmp::Reverse(load[*e]));
    let (mut sums, mut held, mut out) = (vec![0u64; ranks], vec![0usize; ranks], vec![0; load.len()]);
    // Ranks that may hold one expert more than the others.
    let (least, mut larger) = (load.len() / ranks, load.len() % ranks);
    for expert in order {
        let room = |rank: &usize| held[*rank] < least || (held[*rank] == least && larger > 0);
        let Some(rank) = (0..ranks).filter(room).min_by_key(|r| (sums[*r], held[*r], *r)) else { continue };
        if held[rank] == least {
            larger -= 1;
        }
        sums[rank] = sums[rank].saturating_add(load[expert]);
        held[rank] += 1;
        out[expert] = rank;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn heavy_experts_are_kept_apart() {
        assert_eq!(balance(&[9, 9, 1, 1], 2), [0, 1, 0, 1]);
        assert_eq!(balance(&[1, 9, 1, 9, 5, 5], 2).iter().filter(|r| **r == 0).count(), 3);
        assert_eq!(balance(&[0; 5], 3), [0, 1, 2, 0, 1]);
    }

    proptest! {
        /// Every rank holds its share in numbers, and no exchange of two experts between the heaviest and the lightest rank is so easy to find as a sum
        /// above the mean by more than the heaviest expert.
        #[test]
        fn shares_are_equal_in_number_and_near_in_load(load in prop::collection::vec(0u64..1000, 1..64), ranks in 1usize..9) {
            prop_assume!(ranks <= load.len());
            let placed = balance(&load, ranks);
            let mut held = vec![0; ranks];
            placed.iter().for_each(|r| held[*r] += 1);
            prop_assert!(held.iter().max().unwrap() - held.iter().min().unwrap() <= 1);
            prop_assert!(held.iter().all(|n| *n > 0));
            prop_assert_eq!(placed, balance(&load, ranks));
        }
    }
}

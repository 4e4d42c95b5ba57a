//! Codes decided one after another by a depth transformer.

use crate::naive::Naive;
use crate::support::*;
use borealis_kernels::DeviceSpec;
use borealis_model::{Logits, ModelConfig};
use borealis_weights::testing::tiny_config;
use serde_json::json;

/// The tiny model with video and audio decided by a depth transformer.
fn config() -> serde_json::Value {
    let mut config = tiny_config();
    config["depth"] = json!({"num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 24});
    for m in [2, 3] {
        config["modalities"][m]["predict"] = json!("depth");
        config["modalities"][m]["copy_gate"] = json!(false);
    }
    config
}

#[test]
fn codes_follow_each_other_as_in_plain_loops() {
    let (_folder, checkpoint) = checkpoint(&config(), 4);
    let c = ModelConfig::new(checkpoint.manifest()).unwrap();
    let batch = media_sequence(&c, 0, 2).batch;
    let mut naive = Naive::new(&c, &checkpoint);
    let hidden = naive.hidden(&batch);
    let depth_queries: Vec<_> = batch.queries.iter().filter(|q| q.modality >= 2).collect();
    for device in &devices() {
        let mut model = runner(&checkpoint, device, 64);
        let mut logits = step(model.as_mut(), &batch);
        // Logits of code 0 stand among those of the other queries.
        let firsts: Vec<Vec<f32>> = (0..batch.queries.len())
            .filter(|q| batch.queries[*q].modality >= 2)
            .map(|q| logits.query(q).to_vec())
            .collect();
        let mut all = vec![firsts];
        let mut dice = Dice::new(7);
        let mut decided: Vec<Vec<Vec<u32>>> = Vec::new();
        loop {
            let code = decided.len();
            let ids: Vec<Vec<u32>> = depth_queries
                .iter()
                .map(|q| {
                    let spec = &c.modalities[q.modality];
                    let range = spec.codes.get(code).unwrap_or(&spec.codes[0]);
                    (0..spec.slots).map(|_| range.start + dice.below(range.size)).collect()
                })
                .collect();
            decided.push(ids.clone());
            if !model.depth_step(&ids.concat(), &mut logits).unwrap() {
                break;
            }
            all.push((0..depth_queries.len()).map(|q| logits.query(q).to_vec()).collect());
        }
        assert_eq!(all.len(), 9);
        for (q, query) in depth_queries.iter().enumerate() {
            let spec = &c.modalities[query.modality];
            let (_, slots) = naive.vectors(query.modality, &hidden[query.row]);
            for (code, logits) in all.iter().enumerate() {
                let expected = match spec.codes.get(code) {
                    Some(_) => (0..spec.slots)
                        .flat_map(|s| expect(&mut naive, query.modality, &slots[s], &decided, q, s, code))
                        .collect(),
                    None => Vec::new(),
                };
                assert_close(&format!("{device:?}: query {q}, code {code}"), &logits[q], &expected, 1e-4, 1e-3);
            }
        }
    }
}

/// Logits of code `code` of slot `s` of depth query `q`, from the start.
fn expect(
    naive: &mut Naive<'_>,
    m: usize,
    vector: &[f64],
    decided: &[Vec<Vec<u32>>],
    q: usize,
    s: usize,
    code: usize,
) -> Vec<f32> {
    let c = naive.c;
    let (d, name) = (c.depth.unwrap(), c.modalities[m].name.clone());
    let table = naive.tensor("model.embed_tokens.weight");
    let mut h: Vec<Vec<f64>> = (0..=code)
        .map(|j| {
            let mut x = vector.to_vec();
            if j > 0 {
                let row = decided[j - 1][q][s] as usize * c.embedding_size;
                x.iter_mut().zip(&table[row..]).for_each(|(x, e)| *x += e);
            }
            x
        })
        .collect();
    let positions: Vec<[f32; 3]> = (0..=code).map(|j| [j as f32; 3]).collect();
    let sees: Vec<Vec<usize>> = (0..=code).map(|j| (0..=j).collect()).collect();
    for i in 0..d.num_hidden_layers {
        naive.layer(&format!("model.modalities.{name}.depth.layers.{i}"), None, d.heads, &mut h, &positions, &sees);
    }
    let x = naive.norm(&format!("model.modalities.{name}.depth.norm.weight"), &h[code]);
    let range = c.modalities[m].codes[code];
    naive.head_rows((range.start, range.end()), &x).iter().map(|v| *v as f32).collect()
}

#[test]
fn wrong_ids_are_refused() {
    let (_folder, checkpoint) = checkpoint(&config(), 4);
    let mut model = runner(&checkpoint, &DeviceSpec::Cpu, 64);
    let c = model.config().clone();
    step(model.as_mut(), &media_sequence(&c, 0, 2).batch);
    let err = model.depth_step(&[1, 2], &mut Logits::default()).unwrap_err().to_string();
    assert!(err.contains("2 ids for the depth queries of the last step, 28 are needed"), "{err}");
    let err = model.depth_step(&[0; 28], &mut Logits::default()).unwrap_err().to_string();
    assert!(err.contains("id 0 is not in the range 396..404 of code 0 of video"), "{err}");
}

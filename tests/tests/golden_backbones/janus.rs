//! Janus: vectors of a picture in the place of ids, and picture ids with an embedding and a head of their own.

use borealis_model::{Batch, Query};
use borealis_weights::Checkpoint;

use crate::goldens::Golden;
use crate::sequence::{Sequence, best, row};

/// Scale of the guidance in the reference's run.
const GUIDANCE: f32 = 5.0;

pub fn check(golden: &mut Golden, checkpoint: &Checkpoint, s: &mut Sequence<'_>) {
    if golden.model_type == "janus" {
        understand(golden, checkpoint, s);
        generate(golden, checkpoint, s);
    }
}

/// A prompt with a picture: the tower's vectors (here the reference's own) stand where the place holders are.
fn understand(golden: &mut Golden, checkpoint: &Checkpoint, s: &mut Sequence<'_>) {
    let ids = golden.ids("und.input_ids").1;
    let vectors = golden.floats("und.image_features").1.to_vec();
    let place = checkpoint.manifest().control("<image>").expect("a place holder");
    let width = s.model.config().hidden_size;
    let mut batch = Batch { codes: ids.clone(), features: vectors, ..Batch::default() };
    let mut pictures = 0;
    for (i, id) in ids.iter().enumerate() {
        let mut row = row((*id != place).then_some(i), s.next(), 0);
        if *id == place {
            row.features = Some(pictures * width);
            pictures += 1;
        }
        batch.rows.push(row);
        batch.queries.push(Query { row: i, modality: 0, allowed: None });
    }
    let mut found = s.step(&batch);
    golden.compare("und.logits", &found.concat());
    let wanted = golden.ids("und.generated_ids").1;
    let (mut generated, banned) = (ids, s.banned(golden));
    while generated.len() < wanted.len() {
        let id = best(found.last().expect("a row"), |id| !banned.contains(&id));
        generated.push(id);
        found = s.push(&[id]);
    }
    golden.compare_ids("und.generated_ids", &generated);
    s.reset();
}

fn log_softmax(x: &[f32]) -> Vec<f32> {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum = x.iter().map(|v| f64::from(v - max).exp()).sum::<f64>().ln() as f32;
    x.iter().map(|v| v - max - sum).collect()
}

/// A picture with guidance: the prompt and its unconditional twin side by side.
fn generate(golden: &mut Golden, checkpoint: &Checkpoint, s: &mut Sequence<'_>) {
    let m = checkpoint.manifest();
    let (image, spec) = m.modality("image").expect("picture ids");
    let (start, pad) = (spec.codes[0].start, m.control("<pad>").expect("a pad"));
    let prompt = golden.ids("gen.input_ids").1;
    let last = prompt.len() - 1;
    let without = |(i, id): (usize, &u32)| if i == 0 || i == last { *id } else { pad };
    let rows: [Vec<u32>; 2] = [prompt.clone(), prompt.iter().enumerate().map(without).collect()];
    let (steps, bases) = (golden.ids("gen.image_ids").1.len(), [0, 256]);
    let mut batch = Batch::default();
    for (ids, base) in rows.iter().zip(bases) {
        for (i, id) in ids.iter().enumerate() {
            batch.codes.push(*id);
            batch.rows.push(row(Some(batch.codes.len() - 1), i as u32, base));
        }
        batch.queries.push(Query { row: batch.rows.len() - 1, modality: image, allowed: None });
    }
    let (mut found, mut scores) = (Vec::new(), [Vec::new(), Vec::new()]);
    for step in 0..steps {
        let heads = s.step(&batch);
        heads.iter().zip(&mut scores).for_each(|(h, s)| s.extend_from_slice(h));
        let (with, without) = (log_softmax(&heads[0]), log_softmax(&heads[1]));
        let guided: Vec<f32> = with.iter().zip(&without).map(|(c, u)| u + GUIDANCE * (c - u)).collect();
        found.push(best(&guided, |_| true));
        batch = Batch { codes: vec![start + found[step]], ..Batch::default() };
        for (i, base) in bases.into_iter().enumerate() {
            let mut row = row(Some(0), (prompt.len() + step) as u32, base);
            row.modality = image;
            batch.rows.push(row);
            batch.queries.push(Query { row: i, modality: image, allowed: None });
        }
    }
    golden.compare("gen.head_scores", &scores.concat());
    golden.compare_ids("gen.image_ids", &found);
    s.reset();
}

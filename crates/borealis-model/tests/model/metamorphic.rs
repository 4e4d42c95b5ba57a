//! What must not change a result: caching, cutting, company, and slots that a row does not see.

use crate::support::*;
use borealis_kernels::{DeviceSpec, KvFormat, Span};
use borealis_model::{Batch, Forward, Logits, ModelConfig};
use borealis_weights::testing::{text_config, tiny_config};

/// Runs `test` on all backends, with keys and values in every format that they have, with the form of the default model.
fn on_both(max_rows: usize, test: impl Fn(&DeviceSpec, &mut dyn Forward, &ModelConfig)) {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 1);
    for device in &devices() {
        let mut model = runner(&checkpoint, device, max_rows);
        let config = model.config().clone();
        for format in KvFormat::ALL {
            match model.keep(format) {
                Ok(()) => model.allocate(256, max_rows).unwrap(),
                Err(error) => {
                    assert!(matches!(device, DeviceSpec::Cuda(_)), "{error}");
                    eprintln!("skipped: {error}");
                    continue;
                }
            }
            test(device, model.as_mut(), &config);
        }
    }
}

/// Logits of all queries when the batch is computed in steps of rows `..cuts[0]`, `cuts[0]..cuts[1]`, ...
fn in_steps(model: &mut dyn Forward, batch: &Batch, cuts: &[usize]) -> Vec<f32> {
    let mut values = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([batch.rows.len()]) {
        values.extend(step(model, &part(batch, start..end)).values);
        start = end;
    }
    values
}

#[test]
fn cached_is_uncached() {
    on_both(64, |device, model, config| {
        let batch = media_sequence(config, 0, 2).batch;
        let whole = step(model, &batch).values;
        // Text row by row; the state row alone, since it does not see the rows after it; then the rest of the block.
        let cached = in_steps(model, &batch, &[1, 2, 3, 4, 5, 6, 7]);
        assert_same("steps", device, &cached, &whole);
    });
}

#[test]
fn pieces_are_the_whole() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 1);
    for device in &devices() {
        let mut large = runner(&checkpoint, device, 64);
        let config = large.config().clone();
        let mut batch = media_sequence(&config, 0, 2).batch;
        join(&mut batch, &media_sequence(&config, 40, 3).batch);
        let whole = step(large.as_mut(), &batch);
        for max_rows in [8, 11, 15] {
            let mut small = runner(&checkpoint, device, max_rows);
            assert_same("pieces", device, &step(small.as_mut(), &batch).values, &whole.values);
        }
        let mut tiny = runner(&checkpoint, device, 6);
        let err = tiny.step(&batch, &mut Logits::default()).unwrap_err().to_string();
        assert!(err.starts_with("7 rows see each other"), "{err}");
    }
}

#[test]
fn a_batch_of_sequences_is_its_sequences() {
    on_both(64, |device, model, config| {
        let sequences: Vec<Batch> = (0..3).map(|i| media_sequence(config, 30 * i, 10 + u64::from(i)).batch).collect();
        let alone: Vec<f32> = sequences.iter().flat_map(|s| step(model, s).values).collect();
        let mut all = Batch::default();
        sequences.iter().for_each(|s| join(&mut all, s));
        assert_same("together", device, &step(model, &all).values, &alone);
    });
}

#[test]
fn rows_in_another_order_are_the_same_rows() {
    on_both(64, |device, model, config| {
        let batch = media_sequence(config, 0, 2).batch;
        let straight = step(model, &batch);
        let mut reversed = batch.clone();
        reversed.rows.reverse();
        reversed.queries.iter_mut().for_each(|q| q.row = batch.rows.len() - 1 - q.row);
        assert_same("reversed", device, &step(model, &reversed).values, &straight.values);
    });
}

#[test]
fn what_a_row_does_not_see_does_not_matter() {
    let (_folder, checkpoint) = checkpoint(&text_config(), 1);
    for device in &devices() {
        let mut model = runner(&checkpoint, device, 64);
        let config = model.config().clone();
        let mut logits = Vec::new();
        for noise in [5, 6] {
            // Slots 0..4 are the prompt, 4..9 the past that has left the window, 9..12 the window.
            let mut dice = Dice::new(1);
            let mut rows = Rows::new(&config);
            rows.text(4, 0, 0, &mut dice);
            let mut other = Dice::new(noise);
            for i in 4..9 {
                let codes = rows.codes(0, &mut other);
                rows.row(0, Some(codes), [i as f32; 3], i, Span { prefix: (0, 4), recent: (4, i + 1) }, &mut other);
            }
            for i in 9..13 {
                let codes = rows.codes(0, &mut dice);
                let row =
                    rows.row(0, Some(codes), [i as f32; 3], i, Span { prefix: (0, 4), recent: (9, i + 1) }, &mut dice);
                rows.query(row, None);
            }
            logits.push(step(model.as_mut(), &rows.batch).values);
        }
        assert_same("window", device, &logits[0], &logits[1]);
    }
}

#[test]
fn a_shared_prompt_is_a_copied_prompt() {
    on_both(64, |device, model, config| {
        let sequence = media_sequence(config, 0, 2).batch;
        step(model, &part(&sequence, 0..7));
        let block = part(&sequence, 7..15);
        // Moves the block behind slot 100; its prompt stays at 0 or is copied.
        let moved = |prompt: (u32, u32)| {
            let mut b = block.clone();
            let away = |(start, end): (u32, u32)| (start + 100, end + 100);
            for row in &mut b.rows {
                (row.slot, row.sees.prefix, row.sees.recent) = (row.slot + 100, prompt, away(row.sees.recent));
            }
            b
        };
        let shared = step(model, &moved((0, 7)));
        model.copy_slots(0, 60, 7).unwrap();
        let copied = step(model, &moved((60, 67)));
        assert_same("copied", device, &copied.values, &shared.values);
        assert!(model.copy_slots(250, 0, 7).is_err());
    });
}

#[test]
fn threads_do_not_matter() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 1);
    let logits = [1, 2, 3].map(|threads| {
        let mut model =
            borealis_model::load(&checkpoint, &DeviceSpec::Cpu, borealis_kernels::QuantFormat::F32, threads).unwrap();
        model.allocate(64, 64).unwrap();
        let config = model.config().clone();
        step(model.as_mut(), &media_sequence(&config, 0, 2).batch).values
    });
    assert!(logits[0] == logits[1] && logits[1] == logits[2]);
}

//! Janus reads a picture: its prompt spelt out id by id, the picture as the rows of the tower, and the text that a plain loop writes after it.

use borealis_engine::{Conditioning, Media, OutputKind};
use borealis_kernels::{DeviceSpec, QuantFormat};
use borealis_media::{Frame, PixelFormat, write_png};
use borealis_model::{Batch, Query};
use borealis_weights::Checkpoint;

use crate::goldens::folders;
use crate::sequence::{Sequence, best, row};
use crate::{engine, greedy, run, worded, words};

/// The authors' system prompt.
const SYSTEM: &str = "You are a helpful language and vision assistant. You are able to understand the visual content that the user provides, and assist the user with a \
variety of tasks using natural language.";
const ASKED: [u32; 3] = [61, 50, 61];
const TOKENS: usize = 8;

#[test]
fn janus_reads_a_picture_as_its_prompt_says() {
    let Some(golden) = folders().into_iter().find(|g| g.model_type == "janus" && g.has("gen.input_ids")) else {
        return;
    };
    let (_, drawing) = golden.ids("gen.input_ids");
    let (bos, begin) = (drawing[0], drawing[drawing.len() - 1]);
    let end = begin - 1;
    let size = golden.floats("und.logits").0[2];
    let copy = worded(&golden, size, &[("<begin_of_image>", begin), ("<end_of_image>", end)]);
    let checkpoint = Checkpoint::open(copy.path()).expect("a checkpoint");
    let engine = engine(copy.path(), &DeviceSpec::Cpu);
    let data = (0..48 * 32 * 3).map(|i| (i * 29 % 255) as u8).collect();
    let given = Frame { width: 48, height: 32, format: PixelFormat::Rgb8, data };
    let file = copy.path().join("given.png");
    write_png(&file, &given).expect("a file");
    let seen = engine.tokenizers().pictures().expect("a tokenizer").look(&given).expect("rows");

    // Words that the tokenizer does not know, as those of the template, are w0.
    let before = [vec![bos], vec![0; SYSTEM.split_whitespace().count()], vec![begin]].concat();
    let after = [vec![end], ASKED.to_vec()].concat();
    let mut batch = Batch { features: seen.data.clone(), ..Batch::default() };
    let mut s = Sequence::new(&checkpoint, &DeviceSpec::Cpu, QuantFormat::F32);
    let items = before.iter().copied().map(Ok).chain((0..seen.places()).map(Err)).chain(after.iter().copied().map(Ok));
    for item in items {
        let mut row = row(item.ok().map(|_| batch.codes.len()), s.next(), 0);
        match item {
            Ok(id) => batch.codes.push(id),
            Err(place) => row.features = Some(place * seen.channels),
        }
        batch.rows.push(row);
    }
    batch.queries.push(Query { row: batch.rows.len() - 1, modality: 0, allowed: None });
    let mut logits = s.step(&batch).pop().expect("a row");
    let ends = checkpoint.manifest().control("<eos>").expect("an end");
    let mut wanted = Vec::new();
    while wanted.len() < TOKENS && wanted.last() != Some(&ends) {
        let id = best(&logits, |_| true);
        wanted.push(id);
        logits = s.push(&[id]).pop().expect("a row");
    }

    let mut request = greedy(&words(&ASKED), OutputKind::Text { max_tokens: TOKENS });
    request.conditioning = Conditioning::Image(Media::Path(file));
    assert_eq!(run(&engine, request).ids, wanted);
}

//! The audio codecs of open checkpoints compute what their references compute: codes equal, samples within the tolerance, as a whole and as a stream.
//! Walks every folder under `$BOREALIS_GOLDENS` (default: `tests/goldens`), whatever its sizes.

#[path = "common/goldens.rs"]
mod goldens;
#[path = "common/weights.rs"]
mod weights;

use std::sync::Arc;

use borealis_tokenizers::codecs::{AudioCodec, CodeChunk, open_codec};
use goldens::{Golden, folders};

/// Samples by channel of `[1, channels, n]` or `[1, n]`.
fn sound(golden: &Golden, name: &str) -> Vec<Vec<f32>> {
    let (shape, values) = golden.floats(name);
    let n = *shape.last().expect("an axis");
    values.chunks(n).map(<[f32]>::to_vec).collect()
}

/// Codes `[.., codebooks, frames]`; all axes before are chunks.
fn chunks(golden: &Golden, name: &str, scales: &str) -> Vec<CodeChunk> {
    let (shape, codes) = golden.ids(name);
    let [.., books, frames] = *shape else { panic!("{name}: {shape:?}") };
    let scales = if golden.has(scales) { golden.floats(scales).1.to_vec() } else { Vec::new() };
    let book = |codes: &[u32]| codes.chunks(frames).map(<[u32]>::to_vec).collect();
    codes
        .chunks(books * frames)
        .enumerate()
        .map(|(i, chunk)| CodeChunk { codes: book(chunk), scale: scales.get(i).copied() })
        .collect()
}

/// As the reference lays codes out: a chunk that is shorter than the first is filled up with zeros.
fn flat(chunks: &[CodeChunk]) -> Vec<u32> {
    let frames = chunks[0].codes[0].len();
    let book = |book: &Vec<u32>| book.iter().copied().chain(std::iter::repeat(0)).take(frames).collect::<Vec<_>>();
    chunks.iter().flat_map(|chunk| chunk.codes.iter().flat_map(book)).collect()
}

fn check(golden: &mut Golden, codec: &dyn AudioCodec, codebooks: usize, [codes, scales, decoded]: [&str; 3]) {
    let audio = sound(golden, "audio");
    let encoded = codec.encode(&audio, Some(codebooks)).expect("codes");
    golden.compare_ids(codes, &flat(&encoded));
    if golden.has(scales) {
        let found: Vec<f32> = encoded.iter().map(|chunk| chunk.scale.expect("a scale")).collect();
        golden.compare(scales, &found);
    }
    if golden.has(decoded) {
        let out = codec.decode(&chunks(golden, codes, scales)).expect("samples");
        let noise = noise(golden);
        golden.compare_within(decoded, &out.concat(), noise);
    }
}

/// The largest difference between the reference's two ways to decode the same codes, which differ in rounding alone. Random snake activations amplify that: PyTorch's own
/// f32 is up to 1e-3 away from its f64 and from itself on another processor. We compute in f64, so that only the reference's rounding is left.
fn noise(golden: &Golden) -> f64 {
    if !golden.has("decoded_from_quantised") {
        return 0.0;
    }
    let (a, b) = (golden.floats("decoded").1, golden.floats("decoded_from_quantised").1);
    a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

fn encodec(golden: &mut Golden, codec: &dyn AudioCodec) {
    let mut found = 0;
    for (bandwidth, codebooks) in codec.spec().bandwidths.clone() {
        assert_eq!(codec.spec().codebooks_for(bandwidth).expect("a known rate"), codebooks);
        for name in [format!("bw{bandwidth:?}"), format!("bw{bandwidth}")] {
            let names = ["codes", "scales", "decoded"].map(|what| format!("{name}.{what}"));
            if golden.has(&names[0]) {
                check(golden, codec, codebooks, [&names[0], &names[1], &names[2]]);
                found += 1;
                break;
            }
        }
    }
    assert!(found > 0, "{}: no bit rate was compared", golden.name);
    if golden.has("encoder_out") {
        let config = std::fs::read(golden.path.join("config.json")).expect("config.json");
        let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
        let length = config["chunk_length_s"].as_f64().map(|s| (s * f64::from(codec.spec().sample_rate)) as usize);
        let mut audio = sound(golden, "audio");
        audio.iter_mut().for_each(|channel| channel.truncate(length.unwrap_or(usize::MAX)));
        golden.compare("encoder_out", &codec.latents(&audio).expect("latents"));
    }
}

fn plain(golden: &mut Golden, codec: &Arc<dyn AudioCodec>) {
    let all = codec.spec().codebooks;
    check(golden, codec.as_ref(), all, ["codes", "scales", "decoded"]);
    for n in 1..all {
        let (codes, decoded) = (format!("codes_q{n}"), format!("decoded_q{n}"));
        if golden.has(&codes) {
            check(golden, codec.as_ref(), n, [&codes, "scales", &decoded]);
        }
    }
    if golden.has("latents") {
        golden.compare("latents", &codec.latents(&sound(golden, "audio")).expect("latents"));
    }
    stream(golden, codec);
}

/// Frame by frame, and in pieces of other lengths: the reference's samples as well.
fn stream(golden: &mut Golden, codec: &Arc<dyn AudioCodec>) {
    let codes = chunks(golden, "codes", "").remove(0).codes;
    let frames = codes[0].len();
    for piece in [1, 3, frames] {
        let Some(mut stream) = codec.clone().stream() else { return };
        let mut out = vec![Vec::new(); codec.spec().channels];
        for start in (0..frames).step_by(piece) {
            let end = frames.min(start + piece);
            let part: Vec<Vec<u32>> = codes.iter().map(|book| book[start..end].to_vec()).collect();
            let samples = stream.push(&part).expect("samples");
            assert!(samples.iter().all(|c| c.len() == (end - start) * codec.spec().hop), "{}: {piece}", golden.name);
            out.iter_mut().zip(samples).for_each(|(all, more)| all.extend(more));
        }
        golden.compare("decoded", &out.concat());
    }
}

#[test]
fn golden_audio() {
    let mut wrong = Vec::new();
    for mut golden in folders() {
        if !["encodec", "mimi", "dac"].contains(&golden.model_type.as_str()) {
            continue;
        }
        let folder = golden.folder();
        let codec = open_codec(folder.path()).unwrap_or_else(|e| panic!("{}: {e}", golden.name));
        match golden.model_type.as_str() {
            "encodec" => encodec(&mut golden, codec.as_ref()),
            _ => plain(&mut golden, &codec),
        }
        wrong.extend(golden.report());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether `name` is what `pattern` stands for: `{i}` a number, `{a|b}` one of the two.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((open, rest)) = pattern.strip_prefix('{').and_then(|p| p.split_once('}')) else {
        let mut both = (pattern.chars(), name.chars());
        return match (both.0.next(), both.1.next()) {
            (None, None) => true,
            (Some(a), Some(b)) => a == b && fits(both.0.as_str(), both.1.as_str()),
            _ => false,
        };
    };
    if open == "i" {
        let after = name.trim_start_matches(|c: char| c.is_ascii_digit());
        return after.len() < name.len() && fits(rest, after);
    }
    open.split('|').any(|choice| name.strip_prefix(choice).is_some_and(|after| fits(rest, after)))
}

#[test]
fn weights_md_names_every_tensor() {
    let text = include_str!("../../weights.md");
    let section =
        text.split("\n## Audio codecs\n").nth(1).and_then(|s| s.split("\nNot supported").next()).expect("the section");
    let conv = ["weight", "parametrizations.weight.original{0|1}", "weight_{g|v}", "bias"];
    let rows: Vec<(String, String)> = section
        .lines()
        .filter_map(|line| {
            let (families, names) = line.strip_prefix("| ")?.split_once(" | ")?;
            Some((families.to_lowercase(), names.split('`').nth(1)?.to_string()))
        })
        .flat_map(|(families, name)| conv.map(|c| (families.clone(), name.replace("CONV", c))))
        .collect();
    for golden in folders() {
        let known = |name: &str| rows.iter().any(|(f, pattern)| f.contains(&golden.model_type) && fits(pattern, name));
        if ["encodec", "mimi", "dac"].contains(&golden.model_type.as_str()) {
            let folder = golden.folder();
            let component = borealis_weights::Component::open(folder.path()).expect("a codec");
            let strange: Vec<&str> = component.tensors().names().filter(|name| !known(name)).collect();
            assert!(strange.is_empty(), "{}: {strange:?}", golden.name);
        }
    }
}

/// A codec's folder after a change of its `config.json` and of its tensors' bytes; the message.
fn refusal(golden: &Golden, config: impl Fn(&mut serde_json::Value), tensors: impl Fn(Vec<u8>) -> Vec<u8>) -> String {
    let folder = golden.folder();
    let (json, weights) = (folder.path().join("config.json"), folder.path().join("model.safetensors"));
    let mut value = serde_json::from_slice(&std::fs::read(&json).expect("config.json")).expect("JSON");
    config(&mut value);
    std::fs::write(&json, value.to_string()).expect("config.json");
    std::fs::write(&weights, tensors(std::fs::read(&weights).expect("tensors"))).expect("tensors");
    open_codec(folder.path()).expect_err("a damaged codec").to_string()
}

#[test]
fn damaged_codecs_are_refused_by_name() {
    let all = folders();
    let of = |kind: &str| all.iter().find(|golden| golden.model_type == kind);
    let keep = |bytes: Vec<u8>| bytes;
    let fields = [
        ("encodec", "pad_mode", serde_json::json!("circular"), "pad_mode"),
        ("encodec", "norm_type", serde_json::json!("batch_norm"), "norm_type"),
        ("encodec", "codebook_size", serde_json::json!(33), "codebook_size is 33: must be a power of two"),
        ("encodec", "codebook_dim", serde_json::json!(7), "codebook_dim is 7: must be hidden_size"),
        ("encodec", "audio_channels", serde_json::json!(3), "audio_channels is 3: must be 1 or 2"),
        ("encodec", "upsampling_ratios", serde_json::json!([]), "upsampling_ratios"),
        ("encodec", "num_lstm_layers", serde_json::json!(0), "num_lstm_layers is 0"),
        ("encodec", "num_filters", serde_json::json!(6), "has shape"),
        ("mimi", "rope_parameters", serde_json::json!({"rope_type": "yarn"}), "rope_type"),
        ("mimi", "num_semantic_quantizers", serde_json::json!(60), "num_semantic_quantizers is 60"),
        ("mimi", "hidden_act", serde_json::json!("selu"), "hidden_act"),
        ("mimi", "num_hidden_layers", serde_json::json!(9), "is missing"),
        ("dac", "downsampling_ratios", serde_json::json!([2048, 2048]), "downsampling_ratios"),
        ("dac", "decoder_hidden_size", serde_json::json!(3), "decoder_hidden_size is 3: cannot be halved"),
        ("dac", "model_type", serde_json::json!("snac"), "model_type"),
    ];
    for (kind, field, value, wanted) in fields {
        let Some(golden) = of(kind) else { continue };
        let message = refusal(golden, |config| config[field] = value.clone(), keep);
        assert!(message.contains(wanted), "{kind} {field}: {message}");
    }
    let Some(golden) = of("encodec") else { return };
    let rename = |bytes: Vec<u8>| {
        let (from, to) = (b"decoder.layers.0.conv.bias", b"decoder.layers.0.conv.bios");
        let at = bytes.windows(from.len()).position(|w| w == from).expect("the name");
        [&bytes[..at], &to[..], &bytes[at + from.len()..]].concat()
    };
    let message = refusal(golden, |_| (), rename);
    assert!(
        message.contains("decoder.layers.0.conv.bias is missing (nearest name: decoder.layers.0.conv.bios)"),
        "{message}"
    );
    let message = refusal(golden, |_| (), |bytes| bytes[..bytes.len() - 5].to_vec());
    assert!(message.contains("model.safetensors"), "{message}");
    // Fewer codebooks than the file has: the others would be left over.
    let message = refusal(golden, |config| config["target_bandwidths"] = serde_json::json!([0.5]), keep);
    assert!(message.contains("target_bandwidths") || message.contains("unknown tensor"), "{message}");
}

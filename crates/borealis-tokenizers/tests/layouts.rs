//! Grids, layouts and configurations.

use borealis_tokenizers::{AudioConfig, CodeLayout, Grid, VideoConfig, nearest_ratio};
use proptest::prelude::*;

const VIDEO: &str = r#"{ "type": "causal_fsq", "channels": [8, 12, 16], "digits": 9, "levels": 8, "layers": 3, "stride": 4, "patch": 5, "norm_eps": 1e-5 }"#;
const AUDIO: &str = include_str!("../../../tests/goldens/tiny-default/audio_tokenizer/config.json");

proptest! {
    #[test]
    fn cells_return_from_their_positions(rows in 1usize..12, columns in 1usize..20, side in 1usize..4, seed in any::<u32>()) {
        let layout = CodeLayout::new("video", side * side, vec![(100, 8), (108, 8), (200, 300)]).unwrap();
        let limit = [8, 8, 300];
        let codes: Vec<u16> = (0..rows * columns * 3)
            .map(|k| (seed.wrapping_mul(2_654_435_761).wrapping_add(k as u32 * 40_503) >> 7) as u16 % limit[k % 3])
            .collect();
        let ids = layout.cell_ids(&codes, rows, columns).unwrap();
        let (ph, pw) = layout.positions(rows, columns);
        prop_assert_eq!(ids.len(), ph * pw * layout.ids_per_position());
        prop_assert_eq!(layout.cells(&ids, rows, columns).unwrap(), codes.clone());
        prop_assert_eq!(layout.codes(&layout.ids(&codes).unwrap()).unwrap(), codes);
    }

    #[test]
    fn crops_keep_the_ratio_and_stay_inside(width in 16u32..4000, height in 16u32..4000, ratio in 0usize..7) {
        let config = VideoConfig::parse(VIDEO.as_bytes()).unwrap();
        let (w, h) = [(16, 9), (9, 16), (1, 1), (4, 3), (3, 4), (3, 2), (2, 3)][ratio];
        let crop = Grid::for_ratio(&config, (w, h)).unwrap().crop(width, height);
        prop_assert!(crop.x + crop.width <= width && crop.y + crop.height <= height);
        prop_assert!(crop.width == width || crop.height == height);
        // One pixel of rounding on the side that was cut.
        let off = f64::from(crop.width) * h as f64 - f64::from(crop.height) * w as f64;
        prop_assert!(off.abs() <= w.max(h) as f64);
    }
}

#[test]
fn edge_cells_are_repeated() {
    let layout = CodeLayout::new("video", 4, vec![(10, 8)]).unwrap();
    // 1 x 3 cells in 1 x 2 positions: the second row and the fourth column do not exist.
    assert_eq!(layout.cell_ids(&[1, 2, 3], 1, 3).unwrap(), [11, 12, 11, 12, 13, 13, 13, 13]);
}

#[test]
fn grids_of_the_common_ratios() {
    let config = VideoConfig::parse(VIDEO.as_bytes()).unwrap();
    let cells = |w, h| Grid::for_ratio(&config, (w, h)).map(|g| (g.rows, g.columns)).unwrap();
    assert_eq!(
        [cells(16, 9), cells(9, 16), cells(1, 1), cells(4, 3), cells(3, 2)],
        [(9, 16), (16, 9), (9, 9), (9, 12), (9, 14)]
    );
    assert_eq!((config.frames(37), config.latents(144), config.latents(1), config.frames(1)), (145, 37, 1, 1));
    assert_eq!(nearest_ratio(1920, 1080, &[(1, 1), (16, 9), (4, 3)]), Some(1));
    assert_eq!(nearest_ratio(1000, 990, &[(16, 9), (1, 1)]), Some(1));
    let error = Grid::for_ratio(&config, (1000, 1)).unwrap_err().to_string();
    assert!(error.contains("must have 1 to 4096 cells"), "{error}");
}

#[test]
fn wrong_configurations_name_the_field() {
    for (from, to, message) in [
        ("causal_fsq", "vae", "video_tokenizer/config.json: type is \"vae\": only \"causal_fsq\" is known"),
        ("\"levels\": 8", "\"levels\": 1", "video_tokenizer/config.json: levels is 1: must be 2 to 65536"),
        ("\"digits\": 9", "\"digits\": 0", "video_tokenizer/config.json: digits is 0: must be 1 to 256"),
        ("1e-5", "-1", "video_tokenizer/config.json: norm_eps is -1: must be above 0 and below 1"),
    ] {
        let error = VideoConfig::parse(VIDEO.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert_eq!(error, message);
    }
    for (from, to, message) in [
        ("\"lead_in\": 3000", "\"lead_in\": 4000", "lead_in is 4000: must be below 4000"),
        ("\"window\": 2048", "\"window\": 2000", "analysis.window is 2000: must be a power of two"),
        ("\"frame_samples\": 1000", "\"frame_samples\": 1001", "frame_samples is 1001"),
        ("11500", "13000", "band_hertz is [60, 13000]: must rise and lie in (0, 12000]"),
    ] {
        assert!(AUDIO.contains(from), "{from}");
        let error = AudioConfig::parse(AUDIO.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    assert!(VideoConfig::parse(b"{").unwrap_err().to_string().starts_with("video_tokenizer/config.json: json"));
}

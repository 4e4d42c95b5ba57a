//! Row features against a naive version in f64, written from the text of `weights.md`.

use std::f64::consts::TAU;

use borealis_weights::{Grid, Manifest, testing::tiny_config};
use proptest::prelude::*;

use crate::features::FeatureWriter;

fn sc(v: f64, frequencies: &[f32]) -> Vec<f64> {
    let wave = |f: fn(f64) -> f64| frequencies.iter().map(move |&k| f(TAU * f64::from(k) * v)).collect::<Vec<_>>();
    [wave(f64::sin), wave(f64::cos)].concat()
}

proptest! {
    #[test]
    fn features_equal_a_naive_version(place in 0usize..40, t in 0i32..90, levels in prop::collection::vec(0u32..14, 8)) {
        let manifest = Manifest::new(&tiny_config(), None).unwrap();
        let features = manifest.row_features.clone().unwrap();
        let near = features.near.clone().unwrap();
        let state = &manifest.modalities[near.modality];
        let ids: Vec<u32> = levels.iter().zip(state.codes.iter().cycle()).map(|(l, c)| c.start + l).collect();
        let writer = FeatureWriter::new(&manifest, Grid { height: 5, width: 8 }, (9, 16)).unwrap();
        let mut got = vec![7.0f32; 3];
        writer.picture(place, t, Some(&ids), &mut got);

        let (x, y) = ((2 * (place % 8) + 1) as f64 / 9.0, (2 * (place / 8) + 1) as f64 / 9.0);
        let seconds = f64::from(t) / 6.0;
        let mut want = [sc(x - 16.0 / 18.0, &features.x), sc(y, &features.y), sc(seconds, &features.seconds)].concat();
        for slot in 0..2 {
            for point in [[0, 1], [2, 3]] {
                let level = |c: usize| levels[4 * slot + c];
                if level(point[0]) == 13 || level(point[1]) == 13 {
                    want.extend(vec![0.0; 4 * near.frequencies.len() + near.decays.len()]);
                    continue;
                }
                let at = |c: usize| f64::from(level(c)) / f64::from(near.scale) + f64::from(near.shift);
                let (dx, dy) = (x - at(point[0]), y - at(point[1]));
                want.extend([sc(dx, &near.frequencies), sc(dy, &near.frequencies)].concat());
                want.extend(near.decays.iter().map(|&d| (-f64::from(d) * (dx * dx + dy * dy)).exp()));
            }
        }
        prop_assert_eq!(got.len(), 3 + writer.len());
        prop_assert_eq!(writer.len(), want.len());
        for (i, (g, w)) in got[3..].iter().zip(&want).enumerate() {
            prop_assert!((f64::from(*g) - w).abs() < 2e-4, "{i}: {g} {w}");
        }

        // Without a state the rest stays; a row without a place has time alone.
        let fixed = 2 * (features.x.len() + features.y.len() + features.seconds.len());
        let (mut source, mut sound) = (Vec::new(), Vec::new());
        writer.picture(place, t, None, &mut source);
        writer.time(t, &mut sound);
        prop_assert_eq!(&source[..fixed], &got[3..3 + fixed]);
        prop_assert!(source[fixed..].iter().all(|&v| v == 0.0));
        let time = 2 * (features.x.len() + features.y.len());
        prop_assert_eq!(&sound[time..fixed], &source[time..fixed]);
        prop_assert!(sound[..time].iter().chain(&sound[fixed..]).all(|&v| v == 0.0));
    }
}

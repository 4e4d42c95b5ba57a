//! RGB to and from I420: BT.709, limited range, chroma sited in the middle of 2x2 pixels.
//!
//! Integer arithmetic with 16 fractional bits for bytes, plain `f32` for the decoders' planes; the inner loops have no
//! branches and no bounds checks that the compiler cannot remove, so that they become SIMD code.

/// Fractional bits of the integer matrices.
const SHIFT: i32 = 16;
const HALF: i32 = 1 << (SHIFT - 1);

const fn fix(value: f64) -> i32 {
    let scaled = value * (1 << SHIFT) as f64;
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

const KR: f64 = 0.2126;
const KB: f64 = 0.0722;
const KG: f64 = 1.0 - KR - KB;
const Y_SCALE: f64 = 219.0 / 255.0;
const C_SCALE: f64 = 224.0 / 255.0;

const Y_R: i32 = fix(Y_SCALE * KR);
const Y_G: i32 = fix(Y_SCALE * KG);
const Y_B: i32 = fix(Y_SCALE * KB);
const U_R: i32 = fix(-C_SCALE * KR / (2.0 * (1.0 - KB)));
const U_G: i32 = fix(-C_SCALE * KG / (2.0 * (1.0 - KB)));
const U_B: i32 = -(U_R + U_G);
const V_G: i32 = fix(-C_SCALE * KG / (2.0 * (1.0 - KR)));
const V_B: i32 = fix(-C_SCALE * KB / (2.0 * (1.0 - KR)));
const V_R: i32 = -(V_G + V_B);

const R_V: i32 = fix(2.0 * (1.0 - KR) / C_SCALE);
const B_U: i32 = fix(2.0 * (1.0 - KB) / C_SCALE);
const G_U: i32 = fix(-2.0 * (1.0 - KB) * KB / KG / C_SCALE);
const G_V: i32 = fix(-2.0 * (1.0 - KR) * KR / KG / C_SCALE);
const L_Y: i32 = fix(1.0 / Y_SCALE);

/// Y, U, V of one colour.
pub fn yuv_of([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (r, g, b) = (i32::from(r), i32::from(g), i32::from(b));
    let y = 16 + ((Y_R * r + Y_G * g + Y_B * b + HALF) >> SHIFT);
    let u = 128 + ((U_R * r + U_G * g + U_B * b + HALF) >> SHIFT);
    let v = 128 + ((V_R * r + V_G * g + V_B * b + HALF) >> SHIFT);
    [y as u8, u as u8, v as u8]
}

/// Interleaved RGB (`width * height * 3` bytes) to I420.
pub fn rgb8_to_i420(width: usize, height: usize, rgb: &[u8]) -> Vec<u8> {
    let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
    let mut out = vec![0; width * height + 2 * cw * ch];
    rgb8_to_i420_into(width, height, rgb, &mut out);
    out
}

/// As [`rgb8_to_i420`], into a buffer of exactly the I420 size.
pub(crate) fn rgb8_to_i420_into(width: usize, height: usize, rgb: &[u8], out: &mut [u8]) {
    let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
    let (luma, chroma) = out.split_at_mut(width * height);
    let (us, vs) = chroma.split_at_mut(cw * ch);
    for (y, px) in luma.iter_mut().zip(rgb.as_chunks::<3>().0) {
        let sum = Y_R * i32::from(px[0]) + Y_G * i32::from(px[1]) + Y_B * i32::from(px[2]);
        *y = (16 + ((sum + HALF) >> SHIFT)) as u8;
    }
    for cy in 0..ch {
        let top = &rgb[2 * cy * width * 3..][..width * 3];
        let bottom = &rgb[(2 * cy + 1).min(height - 1) * width * 3..][..width * 3];
        let (urow, vrow) = (&mut us[cy * cw..][..cw], &mut vs[cy * cw..][..cw]);
        let pairs = top.as_chunks::<6>().0.iter().zip(bottom.as_chunks::<6>().0);
        for ((u, v), (a, b)) in urow.iter_mut().zip(vrow.iter_mut()).zip(pairs) {
            let sum = |c: usize| i32::from(a[c]) + i32::from(a[c + 3]) + i32::from(b[c]) + i32::from(b[c + 3]);
            (*u, *v) = chroma_of(sum(0), sum(1), sum(2));
        }
        if width % 2 == 1 {
            let sum = |c: usize| 2 * (i32::from(top[width * 3 - 3 + c]) + i32::from(bottom[width * 3 - 3 + c]));
            (urow[cw - 1], vrow[cw - 1]) = chroma_of(sum(0), sum(1), sum(2));
        }
    }
}

/// U and V from the sums of four pixels.
#[inline(always)]
fn chroma_of(r: i32, g: i32, b: i32) -> (u8, u8) {
    let round = 1 << (SHIFT + 1);
    let u = 128 + ((U_R * r + U_G * g + U_B * b + round) >> (SHIFT + 2));
    let v = 128 + ((V_R * r + V_G * g + V_B * b + round) >> (SHIFT + 2));
    (u as u8, v as u8)
}

/// I420 to interleaved RGB; every chroma sample serves its 2x2 pixels.
pub fn i420_to_rgb8(width: usize, height: usize, data: &[u8]) -> Vec<u8> {
    let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
    let (luma, chroma) = data.split_at(width * height);
    let (us, vs) = chroma.split_at(cw * ch);
    let mut out = vec![0; width * height * 3];
    // Chroma terms of one row of pixels, widened so that the luma loop runs straight through.
    let mut terms = vec![[0i32; 3]; cw * 2];
    for y in 0..height {
        if y % 2 == 0 {
            let (urow, vrow) = (&us[y / 2 * cw..][..cw], &vs[y / 2 * cw..][..cw]);
            for (pair, (u, v)) in terms.as_chunks_mut::<2>().0.iter_mut().zip(urow.iter().zip(vrow)) {
                let (u, v) = (i32::from(*u) - 128, i32::from(*v) - 128);
                *pair = [[R_V * v, G_U * u + G_V * v, B_U * u]; 2];
            }
        }
        let row = &luma[y * width..][..width];
        let target = out[y * width * 3..][..width * 3].as_chunks_mut::<3>().0;
        for ((px, l), t) in target.iter_mut().zip(row).zip(&terms) {
            let base = L_Y * (i32::from(*l) - 16) + HALF;
            *px = t.map(|c| ((base + c) >> SHIFT).clamp(0, 255) as u8);
        }
    }
    out
}

/// Planar `f32` RGB in 0..=1 (three planes of `width * height`; values outside are clamped, NaN is black) to I420, into
/// `out` of exactly the I420 size. Width and height must be even.
///
/// # Panics
/// When the slices have other lengths or a side is odd: the caller owns both buffers.
pub fn planar_f32_to_i420(width: usize, height: usize, rgb: [&[f32]; 3], out: &mut [u8]) {
    assert!(width.is_multiple_of(2) && height.is_multiple_of(2), "planar_f32_to_i420: {width}x{height} is not even");
    assert!(rgb.iter().all(|p| p.len() == width * height) && out.len() == width * height * 3 / 2);
    let (luma, chroma) = out.split_at_mut(width * height);
    let (us, vs) = chroma.split_at_mut(width * height / 4);
    for (y, row) in luma.chunks_exact_mut(width).enumerate() {
        luma_row(rgb.map(|plane| &plane[y * width..][..width]), row);
    }
    let rows = us.chunks_exact_mut(width / 2).zip(vs.chunks_exact_mut(width / 2));
    for (cy, (urow, vrow)) in rows.enumerate() {
        chroma_row(rgb.map(|plane| plane[2 * cy * width..][..2 * width].split_at(width)), urow, vrow);
    }
}

fn luma_row([r, g, b]: [&[f32]; 3], out: &mut [u8]) {
    let (kr, kg, kb) = (219.0 * KR as f32, 219.0 * KG as f32, 219.0 * KB as f32);
    for (((l, r), g), b) in out.iter_mut().zip(r).zip(g).zip(b) {
        *l = byte(16.0 + kr * unit(*r) + kg * unit(*g) + kb * unit(*b));
    }
}

fn chroma_row(rows: [(&[f32], &[f32]); 3], us: &mut [u8], vs: &mut [u8]) {
    let [r, g, b] = rows.map(|(top, bottom)| (top.as_chunks::<2>().0, bottom.as_chunks::<2>().0));
    let count = us.len();
    let (us, vs) = (&mut us[..count], &mut vs[..count]);
    let [r, g, b] = [r, g, b].map(|(top, bottom)| (&top[..count], &bottom[..count]));
    let mean = |(top, bottom): (&[[f32; 2]], &[[f32; 2]]), x: usize| {
        0.25 * (unit(top[x][0]) + unit(top[x][1]) + unit(bottom[x][0]) + unit(bottom[x][1]))
    };
    let (ku, kv) = (112.0 / (1.0 - KB as f32), 112.0 / (1.0 - KR as f32));
    for x in 0..count {
        let (r, g, b) = (mean(r, x), mean(g, x), mean(b, x));
        let l = KR as f32 * r + KG as f32 * g + KB as f32 * b;
        us[x] = byte(128.0 + ku * (b - l));
        vs[x] = byte(128.0 + kv * (r - l));
    }
}

/// Clamps to 0..=1; NaN becomes 0, which `clamp` would keep.
#[inline(always)]
#[allow(clippy::manual_clamp)]
fn unit(value: f32) -> f32 {
    value.max(0.0).min(1.0)
}

/// Rounds a number in 0..=255: adding 1.5 * 2^23 leaves it in the low bits, which costs one SIMD addition, where a
/// saturating cast costs half a dozen instructions.
#[inline(always)]
fn byte(value: f32) -> u8 {
    (value + 12_582_912.0).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BT.709 limited range values of the primaries, from ITU-R BT.709-6, section 3.
    const PRIMARIES: [([u8; 3], [u8; 3]); 8] = [
        ([0, 0, 0], [16, 128, 128]),
        ([255, 255, 255], [235, 128, 128]),
        ([255, 0, 0], [63, 102, 240]),
        ([0, 255, 0], [173, 42, 26]),
        ([0, 0, 255], [32, 240, 118]),
        ([255, 255, 0], [219, 16, 138]),
        ([0, 255, 255], [188, 154, 16]),
        ([255, 0, 255], [78, 214, 230]),
    ];

    #[test]
    fn primaries_have_the_values_of_the_standard() {
        for (rgb, yuv) in PRIMARIES {
            assert_eq!(yuv_of(rgb), yuv, "{rgb:?}");
            let picture = rgb8_to_i420(3, 3, &rgb.repeat(9));
            assert_eq!((picture[0], picture[9], picture[13]), (yuv[0], yuv[1], yuv[2]));
            for (back, want) in i420_to_rgb8(3, 3, &picture).chunks(3).flat_map(|p| p.iter().zip(rgb)) {
                assert!(back.abs_diff(want) <= 2, "{rgb:?} came back as {back}");
            }
        }
    }

    #[test]
    fn floats_and_bytes_agree() {
        let (w, h) = (16, 10);
        let rgb: Vec<u8> = (0..w * h * 3).map(|i| (i * 37 % 256) as u8).collect();
        let plane = |c: usize| rgb.iter().skip(c).step_by(3).map(|v| f32::from(*v) / 255.0).collect::<Vec<_>>();
        let (r, g, b) = (plane(0), plane(1), plane(2));
        let mut out = vec![0; w * h * 3 / 2];
        planar_f32_to_i420(w, h, [&r, &g, &b], &mut out);
        let wild = [f32::NAN, -7.0, f32::NEG_INFINITY].map(|v| vec![v; w * h]);
        let mut black = vec![0; w * h * 3 / 2];
        planar_f32_to_i420(w, h, [&wild[0], &wild[1], &wild[2]], &mut black);
        assert_eq!(black, rgb8_to_i420(w, h, &vec![0; w * h * 3]));
        for (a, b) in out.iter().zip(rgb8_to_i420(w, h, &rgb)) {
            assert!(a.abs_diff(b) <= 1, "{a} {b}");
        }
    }
}

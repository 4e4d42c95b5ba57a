//! Pictures as numbers, and masks of their pixels.

use borealis_media::{Frame, PixelFormat, Result};

/// A picture of red, green, blue in 0..1.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Rows of pixels.
    pub data: Vec<[f32; 3]>,
}

impl Picture {
    /// The picture whose pixel (x, y) is `color(x, y)`.
    pub fn from_fn(width: usize, height: usize, mut color: impl FnMut(usize, usize) -> [f32; 3]) -> Self {
        let data = (0..width * height).map(|i| color(i % width, i / width)).collect();
        Self { width, height, data }
    }

    /// From a decoded frame.
    pub fn from_frame(frame: &Frame) -> Self {
        let rgb = frame.to_rgb8();
        let data = rgb.data.as_chunks::<3>().0.iter().map(|p| p.map(|v| f32::from(v) / 255.0)).collect();
        Self { width: frame.width as usize, height: frame.height as usize, data }
    }

    /// As a frame of bytes.
    pub fn to_frame(&self) -> Result<Frame> {
        let bytes = self.data.iter().flat_map(|p| p.map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8)).collect();
        Frame::new(self.width as u32, self.height as u32, PixelFormat::Rgb8, bytes)
    }

    /// Largest difference of a channel, per pixel.
    pub fn difference(&self, other: &Self) -> Vec<f32> {
        let channels = |(a, b): (&[f32; 3], &[f32; 3])| (0..3).map(|i| (a[i] - b[i]).abs()).fold(0.0, f32::max);
        self.data.iter().zip(&other.data).map(channels).collect()
    }

    /// Peak signal-to-noise ratio (dB) over the pixels that `keep` names.
    pub fn psnr(&self, other: &Self, keep: impl Fn(usize) -> bool) -> Option<f64> {
        let (mut sum, mut count) = (0.0f64, 0usize);
        for (_, (a, b)) in self.data.iter().zip(&other.data).enumerate().filter(|(i, _)| keep(*i)) {
            sum += (0..3).map(|c| f64::from(a[c] - b[c]).powi(2)).sum::<f64>();
            count += 3;
        }
        (count > 0).then(|| -10.0 * (sum / count as f64 + 1e-9).log10())
    }
}

/// A Gaussian blur of a plane `[height, width]`; edges are repeated.
pub fn blurred(plane: &[f32], width: usize, height: usize, deviation: f32) -> Vec<f32> {
    if deviation <= 0.0 {
        return plane.to_vec();
    }
    let reach = (3.0 * deviation).ceil() as isize;
    let kernel: Vec<f32> = (-reach..=reach).map(|i| (-0.5 * (i as f32 / deviation).powi(2)).exp()).collect();
    let total: f32 = kernel.iter().sum();
    let (w, h) = (width as isize, height as isize);
    let pass = |plane: &[f32], dx: isize, dy: isize| -> Vec<f32> {
        let at = |x: isize, y: isize| plane[(y.clamp(0, h - 1) * w + x.clamp(0, w - 1)) as usize];
        let near = |x: isize, y: isize| (-reach..=reach).zip(&kernel).map(move |(i, k)| k * at(x + i * dx, y + i * dy));
        (0..w * h).map(|i| near(i % w, i / w).sum::<f32>() / total).collect()
    };
    pass(&pass(plane, 1, 0), 0, 1)
}

/// Some pixels of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Rows of pixels.
    pub bits: Vec<bool>,
}

/// The box around a mask's pixels, last row and column included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub left: usize,
    pub top: usize,
    pub right: usize,
    pub bottom: usize,
}

impl Mask {
    /// The pixels for which `inside(x, y)` holds.
    pub fn from_fn(width: usize, height: usize, mut inside: impl FnMut(usize, usize) -> bool) -> Self {
        let bits = (0..width * height).map(|i| inside(i % width, i / width)).collect();
        Self { width, height, bits }
    }

    /// How many pixels.
    pub fn count(&self) -> usize {
        self.bits.iter().filter(|b| **b).count()
    }

    /// Its pixels (x, y).
    pub fn pixels(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.bits.iter().enumerate().filter(|(_, b)| **b).map(|(i, _)| (i % self.width, i / self.width))
    }

    /// `None` for an empty mask.
    pub fn bounds(&self) -> Option<Bounds> {
        let mut all: Option<Bounds> = None;
        for (x, y) in self.pixels() {
            let b = all.get_or_insert(Bounds { left: x, top: y, right: x, bottom: y });
            *b = Bounds { left: b.left.min(x), top: b.top, right: b.right.max(x), bottom: y };
        }
        all
    }

    /// Whether it reaches the picture's edge.
    pub fn touches_edge(&self) -> bool {
        self.bounds()
            .is_some_and(|b| b.left == 0 || b.top == 0 || b.right + 1 == self.width || b.bottom + 1 == self.height)
    }

    /// Mean place of its pixels.
    pub fn centre(&self) -> (f32, f32) {
        let n = self.count().max(1) as f32;
        let (x, y) = self.pixels().fold((0.0, 0.0), |(a, b), (x, y)| (a + x as f32, b + y as f32));
        (x / n, y / n)
    }

    /// Pixels whose four neighbours are all inside, `times` over; what lies beyond the edge is outside.
    pub fn erode(&self, times: usize) -> Self {
        (0..times).fold(self.clone(), |m, _| {
            Self::from_fn(m.width, m.height, |x, y| m.get(x, y) && m.neighbours(x, y).iter().all(|b| *b))
        })
    }

    /// Pixels with a neighbour inside, `times` over.
    pub fn dilate(&self, times: usize) -> Self {
        (0..times).fold(self.clone(), |m, _| {
            Self::from_fn(m.width, m.height, |x, y| m.get(x, y) || m.neighbours(x, y).iter().any(|b| *b))
        })
    }

    /// Corners rounded: where a Gaussian blur of this standard deviation, in pixels, leaves more than a half.
    pub fn rounded(&self, deviation: f32) -> Self {
        let plane: Vec<f32> = self.bits.iter().map(|&b| f32::from(u8::from(b))).collect();
        let bits = blurred(&plane, self.width, self.height, deviation).into_iter().map(|v| v > 0.5).collect();
        Self { width: self.width, height: self.height, bits }
    }

    /// Connected parts, largest first.
    pub fn parts(&self) -> Vec<Self> {
        let mut left = self.bits.clone();
        let mut parts: Vec<(usize, Self)> = Vec::new();
        for start in 0..left.len() {
            if !std::mem::take(&mut left[start]) {
                continue;
            }
            let mut part = Self { bits: vec![false; left.len()], ..*self };
            let (mut queue, mut count) = (vec![start], 0);
            while let Some(i) = queue.pop() {
                part.bits[i] = true;
                count += 1;
                let (x, y) = (i % self.width, i / self.width);
                let near = [
                    (x > 0).then(|| i - 1),
                    (x + 1 < self.width).then(|| i + 1),
                    (y > 0).then(|| i - self.width),
                    (y + 1 < self.height).then(|| i + self.width),
                ];
                queue.extend(near.into_iter().flatten().filter(|&j| std::mem::take(&mut left[j])));
            }
            parts.push((count, part));
        }
        parts.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        parts.into_iter().map(|(_, part)| part).collect()
    }

    /// Share of the pixels of either that are not of both.
    pub fn unlike(&self, other: &Self) -> f32 {
        let pairs = || self.bits.iter().zip(&other.bits);
        let either = pairs().filter(|(a, b)| **a || **b).count();
        pairs().filter(|(a, b)| a != b).count() as f32 / either.max(1) as f32
    }

    fn get(&self, x: usize, y: usize) -> bool {
        self.bits[y * self.width + x]
    }

    fn neighbours(&self, x: usize, y: usize) -> [bool; 4] {
        [
            x > 0 && self.get(x - 1, y),
            x + 1 < self.width && self.get(x + 1, y),
            y > 0 && self.get(x, y - 1),
            y + 1 < self.height && self.get(x, y + 1),
        ]
    }
}

/// The middle value; 0 for an empty list.
pub fn median(mut values: Vec<f32>) -> f32 {
    percentile(&mut values, 50.0)
}

/// The value below which `p` percent lie, between neighbours in proportion; 0 for an empty list.
pub fn percentile(values: &mut [f32], p: f32) -> f32 {
    values.sort_by(f32::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    let at = p / 100.0 * last as f32;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    values[low] + (values[high] - values[low]) * at.fract()
}

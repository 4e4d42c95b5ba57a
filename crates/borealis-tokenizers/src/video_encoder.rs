//! Pictures to codes.

use borealis_kernels::Backend;
use borealis_media::{Filter, Frame, PixelFormat, Rect};

use crate::video_config::{Grid, VideoConfig};
use crate::video_layers::{Block, Conv, Loader, Norm, Past, Scratch, TimeMix};
use crate::{Result, TokenizerError};

/// The encoder's weights.
pub(crate) struct Encoder<B: Backend> {
    input: Conv<B>,
    block1: Block<B>,
    down1: Conv<B>,
    block2: Block<B>,
    down2: Conv<B>,
    time: TimeMix<B>,
    block3: Block<B>,
    norm: Norm<B>,
    out: Conv<B>,
}

impl<B: Backend> Encoder<B> {
    pub(crate) fn load(l: &Loader<'_, B>, config: &VideoConfig) -> Result<Self> {
        let [a, b, c] = config.channels;
        let eps = config.norm_eps;
        Ok(Self {
            input: l.conv("encoder.in", patch_len(config), a, 1, 1)?,
            block1: l.block("encoder.block1", a, eps)?,
            down1: l.conv("encoder.down1", a, b, 4, 2)?,
            block2: l.block("encoder.block2", b, eps)?,
            down2: l.conv("encoder.down2", b, c, 4, 2)?,
            time: l.time("encoder.time", c)?,
            block3: l.block("encoder.block3", c, eps)?,
            norm: l.norm("encoder.norm", c, eps)?,
            out: l.conv("encoder.out", c, config.digits, 1, 1)?,
        })
    }
}

/// Numbers of the vector of one patch over a latent frame's frames.
fn patch_len(config: &VideoConfig) -> usize {
    config.stride * 3 * config.patch * config.patch
}

/// One clip on its way through the encoder: all buffers, and the features of the latent frame before.
pub(crate) struct EncoderRun<'a, B: Backend> {
    backend: &'a B,
    encoder: &'a Encoder<B>,
    config: &'a VideoConfig,
    grid: Grid,
    /// Patches on the host, `[places, patch_len]`.
    patches: Vec<f32>,
    input: B::Buffer,
    x1: B::Buffer,
    x2: B::Buffer,
    x3: B::Buffer,
    mixed: B::Buffer,
    past: Past<B>,
    scratch: Scratch<B>,
    z: Vec<f32>,
}

impl<'a, B: Backend> EncoderRun<'a, B> {
    pub(crate) fn new(backend: &'a B, encoder: &'a Encoder<B>, config: &'a VideoConfig, grid: Grid) -> Result<Self> {
        let [a, b, c] = config.channels;
        let cells = grid.cells();
        let places = 16 * cells;
        let widest = (places * a).max(4 * cells * b).max(cells * c.max(config.digits));
        let columns = [
            9 * places * a,
            encoder.down1.columns(places),
            9 * 4 * cells * b,
            encoder.down2.columns(4 * cells),
            9 * cells * c,
        ];
        Ok(Self {
            patches: vec![0.0; places * patch_len(config)],
            input: backend.alloc(places * patch_len(config))?,
            x1: backend.alloc(places * a)?,
            x2: backend.alloc(4 * cells * b)?,
            x3: backend.alloc(cells * c)?,
            mixed: backend.alloc(cells * c)?,
            past: Past::new(backend, cells * c)?,
            scratch: Scratch::new(backend, widest, columns.into_iter().max().unwrap_or(0))?,
            z: vec![0.0; cells * config.digits],
            backend,
            encoder,
            config,
            grid,
        })
    }

    /// The next latent frame, given as `stride` pictures at analysis scale: interleaved RGB bytes of the size of the grid's picture.
    pub(crate) fn latent(&mut self, pictures: &[&[u8]]) -> Result<Vec<u16>> {
        for (f, picture) in pictures.iter().enumerate() {
            self.gather(f, picture);
        }
        let (b, e, s) = (self.backend, self.encoder, &mut self.scratch);
        let (rows, columns) = (self.grid.rows, self.grid.columns);
        let (fine, middle, coarse) = ((4 * rows, 4 * columns), (2 * rows, 2 * columns), (rows, columns));
        let cells = self.grid.cells();
        b.write(&mut self.input, 0, &self.patches)?;
        e.input.apply(b, &self.input, fine, &mut s.columns, false, &mut self.x1)?;
        e.block1.apply(b, &mut self.x1, fine, s)?;
        e.down1.apply(b, &self.x1, fine, &mut s.columns, false, &mut self.x2)?;
        e.block2.apply(b, &mut self.x2, middle, s)?;
        e.down2.apply(b, &self.x2, middle, &mut s.columns, false, &mut self.x3)?;
        e.time.apply(b, &mut self.x3, cells, &mut self.past, &mut self.mixed)?;
        e.block3.apply(b, &mut self.mixed, coarse, s)?;
        e.norm.apply(b, &self.mixed, cells, &mut s.a)?;
        e.out.apply(b, &s.a, coarse, &mut s.columns, false, &mut s.b)?;
        b.read(&s.b, 0, &mut self.z)?;
        Ok(self.z.iter().map(|z| quantise(*z, self.config.levels)).collect())
    }

    /// Puts picture `f` into its part of every patch vector; places beyond the picture repeat its edge.
    fn gather(&mut self, f: usize, picture: &[u8]) {
        let (p, len) = (self.config.patch, patch_len(self.config));
        let (h, w) = self.grid.picture;
        let columns = 4 * self.grid.columns;
        for (place, vector) in self.patches.chunks_exact_mut(len).enumerate() {
            let (top, left) = (place / columns * p, place % columns * p);
            let frame = &mut vector[f * 3 * p * p..][..3 * p * p];
            for dy in 0..p {
                let line = (top + dy).min(h - 1) * w;
                for dx in 0..p {
                    let at = (line + (left + dx).min(w - 1)) * 3;
                    for colour in 0..3 {
                        frame[(colour * p + dy) * p + dx] = f32::from(picture[at + colour]) / 255.0 * 2.0 - 1.0;
                    }
                }
            }
        }
    }
}

/// Finite scalar quantisation (Mentzer et al. 2023): a bounded number to the nearest of `levels` integers.
fn quantise(z: f32, levels: usize) -> u16 {
    let half = (levels - 1) as f32 / 2.0;
    let bounded = z.tanh() * (half + 0.499) + half;
    bounded.round_ties_even().clamp(0.0, (levels - 1) as f32) as u16
}

/// Cuts `crop` out of a frame and brings it to the size of the grid's picture: area mean where it shrinks, linear where it grows.
pub(crate) fn at_analysis_scale(frame: &Frame, crop: Rect, grid: &Grid) -> Result<Frame> {
    let inside = |at: u32, len: u32, side: u32| len > 0 && at.checked_add(len).is_some_and(|end| end <= side);
    if !inside(crop.x, crop.width, frame.width) || !inside(crop.y, crop.height, frame.height) {
        let (w, h) = (frame.width as usize, frame.height as usize);
        return Err(TokenizerError::size("picture", w, h, "must contain the rectangle that is cut out of it"));
    }
    let (height, width) = (grid.picture.0 as u32, grid.picture.1 as u32);
    let shrink = |source: &Frame| {
        let whole = (crop.width, crop.height) == (source.width, source.height);
        if whole {
            source.resize(width, height, Filter::Auto)
        } else {
            source.crop(crop).resize(width, height, Filter::Auto)
        }
    };
    Ok(if frame.format == PixelFormat::Rgb8 { shrink(frame) } else { shrink(&frame.to_rgb8()) })
}

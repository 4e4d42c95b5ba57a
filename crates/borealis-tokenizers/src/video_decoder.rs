//! Codes to pictures, one latent frame at a time.

use std::sync::Arc;

use borealis_kernels::{Backend, Canvas, Target};
use borealis_media::{Frame, PixelFormat};

use crate::video::VideoTokenizer;
use crate::video_config::{Grid, VideoConfig};
use crate::video_layers::{Block, Conv, Loader, Past, Scratch, Split, TimeMix};
use crate::{Result, TokenizerError};

/// The decoder's weights.
pub(crate) struct Decoder<B: Backend> {
    input: Conv<B>,
    time: TimeMix<B>,
    block1: Block<B>,
    block2: Block<B>,
    up1: Conv<B>,
    block3: Block<B>,
    up2: Conv<B>,
    block4: Block<B>,
    logits: Split<B>,
    colors: Split<B>,
}

impl<B: Backend> Decoder<B> {
    pub(crate) fn load(l: &Loader<'_, B>, config: &VideoConfig) -> Result<Self> {
        let [a, b, c] = config.channels;
        let (eps, planes, frames) = (config.norm_eps, config.stride * config.layers, config.stride);
        Ok(Self {
            input: l.conv("decoder.in", config.digits, c, 1, 1)?,
            time: l.time("decoder.time", c)?,
            block1: l.block("decoder.block1", c, eps)?,
            block2: l.block("decoder.block2", c, eps)?,
            up1: l.conv("decoder.up1", c, 4 * b, 1, 1)?,
            block3: l.block("decoder.block3", b, eps)?,
            up2: l.conv("decoder.up2", b, 4 * a, 1, 1)?,
            block4: l.block("decoder.block4", a, eps)?,
            logits: l.split("decoder.logits", a, 4 * planes, frames)?,
            colors: l.split("decoder.colors", a, 3 * planes, frames)?,
        })
    }
}

/// Size and layout of the decoded frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSpec {
    /// Pixels across; even for I420.
    pub width: usize,
    /// Pixels down; even for I420.
    pub height: usize,
    /// I420 for clips, RGB for stills.
    pub format: PixelFormat,
}

impl FrameSpec {
    /// Most pixels of a side.
    pub const MAX_SIDE: usize = 8192;

    fn check(&self) -> Result<()> {
        let (w, h) = (self.width, self.height);
        if w == 0 || h == 0 || w.max(h) > Self::MAX_SIDE {
            return Err(TokenizerError::size("output", w, h, "both sides must be 1 to 8192 pixels"));
        }
        if self.format == PixelFormat::I420 && (w % 2 != 0 || h % 2 != 0) {
            return Err(TokenizerError::size("output", w, h, "both sides of a clip must be even"));
        }
        Ok(())
    }
}

/// How a grid's planes are painted at an output size.
pub(crate) fn canvas(config: &VideoConfig, grid: &Grid, spec: &FrameSpec) -> Canvas {
    let (gh, gw) = grid.pixels(config);
    let (ph, pw) = grid.picture;
    let full = |cells: usize, out: usize, picture: usize| ((cells * out + picture / 2) / picture).max(out);
    Canvas {
        grid: (4 * grid.rows, 4 * grid.columns),
        layers: config.layers,
        scale: spec.height.min(spec.width) as f32 / ph.min(pw) as f32,
        full: (full(gh, spec.height, ph), full(gw, spec.width, pw)),
        size: (spec.height, spec.width),
    }
}

/// A causal decoder: state and buffers of one clip. Nothing is allocated for a frame but the frame.
pub struct VideoStream<B: Backend> {
    tokenizer: Arc<VideoTokenizer<B>>,
    grid: Grid,
    spec: FrameSpec,
    canvas: Canvas,
    digits: Vec<f32>,
    input: B::Buffer,
    x3: B::Buffer,
    mixed: B::Buffer,
    x2: B::Buffer,
    x1: B::Buffer,
    /// Outputs of a head or of an upsampling layer before the pixel shuffle.
    packed: B::Buffer,
    masks: B::Buffer,
    colors: B::Buffer,
    past: Past<B>,
    scratch: Scratch<B>,
    /// Planar RGB of one frame; empty for I420.
    rgb: Vec<f32>,
    latents: usize,
    /// Only every n-th frame is painted.
    every: usize,
    /// Frames so far, and the last one that was painted when others repeat it.
    frames: usize,
    held: Option<Frame>,
}

impl<B: Backend> std::fmt::Debug for VideoStream<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VideoStream")
            .field("grid", &self.grid)
            .field("spec", &self.spec)
            .field("latents", &self.latents)
            .finish()
    }
}

impl<B: Backend> VideoStream<B> {
    pub(crate) fn new(tokenizer: Arc<VideoTokenizer<B>>, grid: Grid, spec: FrameSpec) -> Result<Self> {
        spec.check()?;
        let b = tokenizer.backend();
        let config = tokenizer.config();
        let [a, m, c] = config.channels;
        let cells = grid.cells();
        let widest = (16 * cells * a).max(4 * cells * m).max(cells * c);
        let packed = (4 * cells * m).max(16 * cells * a).max(64 * cells * config.layers);
        let rgb = if spec.format == PixelFormat::Rgb8 { 3 * spec.width * spec.height } else { 0 };
        Ok(Self {
            canvas: canvas(config, &grid, &spec),
            digits: vec![0.0; cells * config.digits],
            input: b.alloc(cells * config.digits)?,
            x3: b.alloc(cells * c)?,
            mixed: b.alloc(cells * c)?,
            x2: b.alloc(4 * cells * m)?,
            x1: b.alloc(16 * cells * a)?,
            packed: b.alloc(packed)?,
            masks: b.alloc(64 * cells * config.layers)?,
            colors: b.alloc(16 * cells * 3 * config.layers)?,
            past: Past::new(b, cells * c)?,
            scratch: Scratch::new(b, widest, 9 * widest)?,
            rgb: vec![0.0; rgb],
            latents: 0,
            every: 1,
            frames: 0,
            held: None,
            grid,
            spec,
            tokenizer,
        })
    }

    /// Size and layout of the frames.
    pub fn spec(&self) -> FrameSpec {
        self.spec
    }

    /// Frames that the next latent frame gives: 1 for the first, `stride` for the others.
    pub fn next_frames(&self) -> usize {
        if self.latents == 0 { 1 } else { self.tokenizer.config().stride }
    }

    /// From now on only every `n`-th frame is painted; the others repeat it. For speed: painting is most of the work.
    pub fn show_every(&mut self, n: usize) {
        self.every = n.max(1);
    }

    /// Codes `[rows, columns, digits]` of the next latent frame -> its frames, handed to `each` in order.
    ///
    /// # Errors
    /// [`TokenizerError::Length`], [`TokenizerError::Code`], or an error of the device.
    pub fn push(&mut self, codes: &[u16], mut each: impl FnMut(Frame)) -> Result<()> {
        let tokenizer = self.tokenizer.clone();
        self.features(&tokenizer, codes)?;
        let stride = tokenizer.config().stride;
        for f in stride - self.next_frames()..stride {
            let repeated = self.held.clone().filter(|_| !self.frames.is_multiple_of(self.every));
            let frame = match repeated {
                Some(frame) => frame,
                None => self.paint(&tokenizer, f)?,
            };
            self.frames += 1;
            if self.every > 1 {
                self.held = Some(frame.clone());
            }
            each(frame);
        }
        self.latents += 1;
        Ok(())
    }

    /// Everything up to the painting head: into `x1`.
    fn features(&mut self, tokenizer: &VideoTokenizer<B>, codes: &[u16]) -> Result<()> {
        let config = tokenizer.config();
        if codes.len() != self.digits.len() {
            return Err(TokenizerError::length("video codes", codes.len(), self.digits.len()));
        }
        let half = (config.levels - 1) as f32 / 2.0;
        for (x, &code) in self.digits.iter_mut().zip(codes) {
            if usize::from(code) >= config.levels {
                return Err(TokenizerError::code("video", code.into(), config.levels));
            }
            *x = f32::from(code) / half - 1.0;
        }
        let (b, d, s) = (tokenizer.backend(), tokenizer.decoder_weights(), &mut self.scratch);
        let (rows, columns, cells) = (self.grid.rows, self.grid.columns, self.grid.cells());
        let [a, m, _] = config.channels;
        let (coarse, middle, fine) = ((rows, columns), (2 * rows, 2 * columns), (4 * rows, 4 * columns));
        b.write(&mut self.input, 0, &self.digits)?;
        d.input.apply(b, &self.input, coarse, &mut s.columns, false, &mut self.x3)?;
        d.time.apply(b, &mut self.x3, cells, &mut self.past, &mut self.mixed)?;
        d.block1.apply(b, &mut self.mixed, coarse, s)?;
        d.block2.apply(b, &mut self.mixed, coarse, s)?;
        d.up1.apply(b, &self.mixed, coarse, &mut s.columns, false, &mut self.packed)?;
        b.pixel_shuffle2(&self.packed, 1, rows, columns, m, &mut self.x2)?;
        d.block3.apply(b, &mut self.x2, middle, s)?;
        d.up2.apply(b, &self.x2, middle, &mut s.columns, false, &mut self.packed)?;
        b.pixel_shuffle2(&self.packed, 1, 2 * rows, 2 * columns, a, &mut self.x1)?;
        d.block4.apply(b, &mut self.x1, fine, s)
    }

    /// Frame `f` of the latent frame whose features are in `x1`.
    fn paint(&mut self, tokenizer: &VideoTokenizer<B>, f: usize) -> Result<Frame> {
        let (b, d) = (tokenizer.backend(), tokenizer.decoder_weights());
        let places = 16 * self.grid.cells();
        let (h, w) = self.canvas.grid;
        d.logits.apply(b, &self.x1, places, f, &mut self.packed)?;
        b.pixel_shuffle2(&self.packed, 1, h, w, self.canvas.layers, &mut self.masks)?;
        d.colors.apply(b, &self.x1, places, f, &mut self.colors)?;
        let FrameSpec { width, height, format } = self.spec;
        let mut data = vec![0; format.bytes(width as u32, height as u32)];
        if format == PixelFormat::I420 {
            let (y, chroma) = data.split_at_mut(width * height);
            let (u, v) = chroma.split_at_mut(width / 2 * (height / 2));
            b.paint(&self.masks, 0, &self.colors, 0, self.canvas, Target::I420(y, u, v))?;
        } else {
            b.paint(&self.masks, 0, &self.colors, 0, self.canvas, Target::Rgb(&mut self.rgb))?;
            let (red, rest) = self.rgb.split_at(width * height);
            let (green, blue) = rest.split_at(width * height);
            for (pixel, ((r, g), b)) in data.chunks_exact_mut(3).zip(red.iter().zip(green).zip(blue)) {
                pixel.copy_from_slice(&[r, g, b].map(|v| (v * 255.0 + 0.5) as u8));
            }
        }
        Ok(Frame { width: width as u32, height: height as u32, format, data })
    }

    /// Planar RGB of the last frame painted, `[3, height, width]`, 0..1; empty unless the layout is RGB. For tests against a reference.
    pub fn last_rgb(&self) -> &[f32] {
        &self.rgb
    }
}

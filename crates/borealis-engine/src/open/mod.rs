//! Requests to open checkpoints: text after text, text about a picture, a picture after text. Everything that is decided is the tail of a prompt: rows of one id each,
//! some given by the family's layout, the others drawn from the ids that are allowed there. What differs between families is data (`recipe.rs`).

mod compose;
mod decode;
mod recipe;

use std::time::Instant;

use borealis_media::{PixelFormat, read_image};
use borealis_tokenizers::vq::Pictures;
use borealis_weights::{Manifest, SamplingSpec};

use self::compose::{Composer, Given, Item};
use self::decode::{PictureDecoder, TextDecoder};
use self::recipe::{Draw, Recipe, Without, recipe};
use crate::decode::{Decode, Line};
use crate::engine::{Command, Core};
use crate::error::{EngineError, Result};
use crate::event::{Event, Stage};
use crate::inputs::limits;
use crate::layout::Layout;
use crate::plan::{Plan, PlanSpec};
use crate::prompt::PromptRows;
use crate::request::{Conditioning, Media, OutputKind, Request};
use crate::stream::{Outlet, ROOM};
use crate::validate;
use crate::work::{Open, TailRow, Work};

/// Most places along a side of a picture that is drawn.
const MAX_SIDE: usize = 512;
/// Most pictures that a drawing starts from, as Emu3.5's authors allow it.
const MOST_PICTURES: usize = 3;
/// Bytes of a picture decoder's maps for each pixel of its output, about.
const DECODER_BYTES: u64 = 4 << 10;

/// What a request comes to: prompts, what follows them, and how it is drawn and shown.
struct Asked {
    prompts: Vec<PromptRows>,
    tail: Vec<TailRow>,
    guidance: f32,
    sampling: SamplingSpec,
    open: Open,
    /// Rows and columns of the picture that is drawn; `None` for text.
    picture: Option<(usize, usize)>,
}

/// Checks a request to an open checkpoint, encodes what it brings, lays it out and sizes it.
pub(crate) fn prepare(core: &Core, request: &Request, id: u64, outlet: Outlet) -> Result<Command> {
    let begin = Instant::now();
    validate::check_open(request)?;
    let family = core.manifest.family.as_deref().unwrap_or_default();
    let layout = core.layout.clone().ok_or_else(|| unsupported(core, "has no text", "use another model"))?;
    let asker = Asker { core, request, recipe: recipe(family), layout: &layout };
    let asked = match request.output.kind {
        OutputKind::Image => asker.draw()?,
        OutputKind::Text { max_tokens } => asker.write(max_tokens)?,
        OutputKind::Video { .. } => return Err(unsupported(core, "makes no clips", "ask for a picture or for text")),
    };
    let positions = asked.prompts.iter().map(|p| p.rows.len()).max().unwrap_or(0) + asked.tail.len();
    if let Some(reach) = core.reach.filter(|reach| positions > *reach as usize) {
        let problem = format!("comes to {positions} positions with its output, the model's rope_type allows {reach}");
        return Err(EngineError::invalid("prompt", problem, "shorten it, or ask for less"));
    }
    let decoders = (0..request.variants).map(|_| asker.decoder(&asked)).collect::<Result<Vec<_>>>()?;
    let (width, height) = asker.pixels(&asked)?;
    let pictures = asked.picture.is_some();
    let work = asker.work(id, &outlet, asked, begin);
    let mut memory = core.memory.estimate(work.ranges().iter().sum(), work.widest());
    if pictures {
        let pixels = u64::from(width) * u64::from(height);
        memory.frames = ROOM as u64 * PixelFormat::Rgb8.bytes(width, height) as u64 + DECODER_BYTES * pixels;
    }
    core.memory.check(&memory)?;
    let frames = usize::from(pictures);
    outlet.send(Ok(Event::Started { width, height, frames, sample_rate: 0, memory: memory.total() }));
    outlet.send(Ok(Event::Progress { stage: Stage::Queued, done: 0, total: work.total() }));
    let line = Line::new(id, outlet, decoders, None, work.total());
    Ok(Command { work, line })
}

fn unsupported(core: &Core, what: &str, remedy: &str) -> EngineError {
    EngineError::Unsupported { model: core.info.model.clone(), what: what.into(), remedy: remedy.into() }
}

/// A request and its family's recipe.
struct Asker<'a> {
    core: &'a Core,
    request: &'a Request,
    recipe: Recipe,
    layout: &'a std::sync::Arc<Layout>,
}

impl Asker<'_> {
    fn composer<'b>(&'b self, size: (usize, usize), given: &'b [Given]) -> Composer<'b> {
        let factor = self.core.tokenizers.pictures().map_or(1, |p| p.factor());
        Composer { core: self.core, block: self.recipe.block, size, factor, given }
    }

    /// A picture: the prompt, the block's beginning, then its ids row by row. What follows the last row changes no pixel and is not computed.
    fn draw(&self) -> Result<Asked> {
        let from_pictures = !matches!(self.request.conditioning, Conditioning::Text);
        let (Some(draw), Some(block)) = (self.recipe.draw, self.recipe.block) else {
            return Err(unsupported(self.core, "draws no pictures", "ask for text"));
        };
        let draw = if from_pictures { self.recipe.edit } else { Some(draw) };
        let Some(draw) = draw else {
            let remedy = "leave it out, or ask for text about it";
            return Err(unsupported(self.core, "cannot start from a given picture", remedy));
        };
        let pictures = self.core.tokenizers.pictures()?;
        if !pictures.can_decode() {
            let remedy = "put the decoder beside it as image_decoder/ (see weights.md)";
            return Err(unsupported(self.core, "has no decoder for pictures", remedy));
        }
        let given = self.given(draw.prompt, MOST_PICTURES)?;
        let size = self.size(pictures, block.unit, given.first())?;
        let composer = self.composer(size, &given);
        let whole = |prompt: &[recipe::Piece], words: &str| -> Result<Vec<Item>> {
            let mut items = composer.items(prompt, words)?;
            items.extend(composer.items(block.before, words)?);
            Ok(items)
        };
        let guidance = self.request.sampling.guidance.unwrap_or(draw.guidance);
        let mut branches = vec![whole(draw.prompt, &self.request.prompt)?];
        if guidance != 1.0 {
            branches.push(self.without(&draw, &composer, &branches[0], whole)?);
        }
        let segment = self.core.manifest.segment("image");
        let segment = segment.ok_or_else(|| unsupported(self.core, "has no ids of pictures", "ask for text"))?;
        let ids = (segment.start, segment.end());
        let end = block.row_end.map(|(piece, _)| composer.id(piece)).transpose()?;
        let first = self.last_id(&mut branches)?;
        Ok(Asked {
            prompts: branches.iter().map(|items| composer.rows(self.layout, items)).collect(),
            tail: grid(first, ids, end, size),
            guidance,
            sampling: self.core.manifest.generation.sampling.get("image").copied().unwrap_or(draw.sampling),
            open: Open { name: "image", stops: Vec::new(), columns: Some(size.1) },
            picture: Some(size),
        })
    }

    /// The unconditional prompt.
    fn without(
        &self,
        draw: &Draw,
        composer: &Composer<'_>,
        conditional: &[Item],
        whole: impl Fn(&[recipe::Piece], &str) -> Result<Vec<Item>>,
    ) -> Result<Vec<Item>> {
        let negative = self.request.negative.as_deref();
        match draw.without {
            Without::Words(default) => whole(draw.prompt, negative.unwrap_or(default)),
            _ if negative.is_some() => Err(unsupported(self.core, "takes no negative prompt", "leave it out")),
            Without::Prompt(pieces) => whole(pieces, ""),
            Without::Padded(piece) => {
                let pad = Item::Id(composer.id(piece)?);
                let last = conditional.len().saturating_sub(1);
                let keep = |(i, item): (usize, &Item)| if i == 0 || i == last { *item } else { pad };
                Ok(conditional.iter().enumerate().map(keep).collect())
            }
        }
    }

    /// Text after the prompt, up to one of the ids that end it.
    fn write(&self, max_tokens: usize) -> Result<Asked> {
        let given = self.given(self.recipe.write, 1)?;
        let rows = given.first().map_or(0, |g| if let Given::Rows(rows) = g { rows.places().isqrt() } else { 0 });
        let composer = self.composer((rows, rows), &given);
        let mut branches = vec![composer.items(self.recipe.write, &self.request.prompt)?];
        let first = self.last_id(&mut branches)?;
        let manifest = &self.core.manifest;
        let vocabulary = manifest.modalities.get(self.layout.text).and_then(|m| m.codes.first());
        let all = vocabulary.map_or((0, manifest.vocab_size), |range| (range.start, range.end()));
        let image = manifest.segment("image").map(|s| (s.start, s.end()));
        let except = image.filter(|ids| !self.recipe.mixed && ids.1 <= all.1);
        let row = TailRow { id: None, predicts: Some(all), except };
        let mut tail = vec![row; max_tokens];
        tail[0].id = Some(first);
        Ok(Asked {
            prompts: branches.iter().map(|items| composer.rows(self.layout, items)).collect(),
            tail,
            guidance: 1.0,
            sampling: manifest.generation.sampling("text"),
            open: Open { name: "text", stops: stops(manifest), columns: None },
            picture: None,
        })
    }

    /// The pictures that the request brings, at most `most`, as the family reads them in `prompt`.
    fn given(&self, prompt: &[recipe::Piece], most: usize) -> Result<Vec<Given>> {
        let media: &[Media] = match &self.request.conditioning {
            Conditioning::Text => return Ok(Vec::new()),
            Conditioning::Image(media) => std::slice::from_ref(media),
            Conditioning::References(list) => list,
            _ => return Err(unsupported(self.core, "reads no clips", "give a picture, or none")),
        };
        if !prompt.contains(&recipe::Piece::Picture) {
            return Err(unsupported(self.core, "reads no pictures", "leave it out"));
        }
        if media.len() > most {
            let what = format!("reads {most} picture{} at most", if most == 1 { "" } else { "s" });
            return Err(unsupported(self.core, &what, "give fewer"));
        }
        let pictures = self.core.tokenizers.pictures()?;
        let read = |media: &Media| -> Result<Given> {
            let picture = read_image(media.source(), &limits())
                .map_err(|source| EngineError::Input { field: "image", source })?;
            Ok(match pictures.tower() {
                Some(_) => Given::Rows(pictures.look(&picture)?),
                None => Given::Ids(pictures.encode(&picture)?),
            })
        };
        media.iter().map(read).collect()
    }

    /// Takes the last id off every branch: it is the first row of the tail, and the same for all.
    fn last_id(&self, branches: &mut [Vec<Item>]) -> Result<u32> {
        let mut last = None;
        for items in branches {
            last = items.pop();
        }
        match last {
            Some(Item::Id(id)) => Ok(id),
            _ => Err(EngineError::invalid("prompt", "nothing is left of it as ids", "say what to make")),
        }
    }

    /// Rows and columns of the picture, multiples of `unit`: the family's own, or those of the asked ratio (else that of a given picture) whose area is that of
    /// a square with the resolution's lines.
    fn size(&self, pictures: &Pictures, unit: usize, given: Option<&Given>) -> Result<(usize, usize)> {
        let output = &self.request.output;
        let own = match given {
            Some(Given::Ids(picture)) => format!("{}:{}", picture.columns, picture.rows),
            _ => "1:1".into(),
        };
        let aspect = output.aspect_ratio.as_deref().unwrap_or(&own);
        if let Some(side) = pictures.side() {
            if aspect != "1:1" || output.size.is_some_and(|(w, h)| w != h || w as usize != side * pictures.factor()) {
                let pixels = side * pictures.factor();
                let remedy = format!("leave size and ratio out, or ask for {pixels}x{pixels}");
                return Err(unsupported(self.core, "makes pictures of one size", &remedy));
            }
            return Ok((side, side));
        }
        let unknown =
            || EngineError::invalid("aspect_ratio", format!("\"{aspect}\" is no ratio"), "use one such as 16:9");
        let (w, h) = aspect.split_once(':').ok_or_else(unknown)?;
        let part = |s: &str| s.parse::<u32>().ok().filter(|v| (1..=1000).contains(v)).ok_or_else(unknown);
        let (w, h) = (f64::from(part(w)?), f64::from(part(h)?));
        let factor = (pictures.factor() * unit) as f64;
        // As the references do it: ties to even.
        let places = |pixels: f64| unit * (pixels / factor).round_ties_even().max(1.0) as usize;
        let (rows, columns) = match output.size {
            Some((width, height)) => (places(height.into()), places(width.into())),
            None => {
                let scale = f64::from(output.resolution.lines()) / (w * h).sqrt();
                (places(h * scale), places(w * scale))
            }
        };
        if rows.max(columns) > MAX_SIDE {
            let problem = format!("{columns}x{rows} places are too many");
            return Err(EngineError::invalid("resolution", problem, "ask for a smaller picture"));
        }
        Ok((rows, columns))
    }

    fn pixels(&self, asked: &Asked) -> Result<(u32, u32)> {
        let Some((rows, columns)) = asked.picture else { return Ok((0, 0)) };
        let factor = self.core.tokenizers.pictures()?.factor();
        Ok(((columns * factor) as u32, (rows * factor) as u32))
    }

    fn decoder(&self, asked: &Asked) -> Result<Box<dyn Decode>> {
        let tokenizers = &self.core.tokenizers;
        Ok(match asked.picture {
            Some(size) => Box::new(PictureDecoder::new(tokenizers.pictures()?.clone(), size)),
            None => Box::new(TextDecoder::new(tokenizers.text()?.clone(), asked.open.stops.clone())),
        })
    }

    fn work(&self, id: u64, outlet: &Outlet, asked: Asked, begin: Instant) -> Work {
        Work {
            id,
            outlet: outlet.clone(),
            layout: self.layout.clone(),
            plan: Plan::for_output(self.layout, PlanSpec::of_tail(asked.tail.len())),
            features: None,
            prompt_tokens: asked.prompts[0].rows.len() + 1,
            prompts: asked.prompts,
            tail: asked.tail,
            variants: self.request.variants,
            seed: self.request.seed,
            guidance: asked.guidance,
            text_rule: crate::submit::rule(&self.request.sampling, asked.sampling),
            rules: Vec::new(),
            given: Vec::new(),
            source: Vec::new(),
            forced: Vec::new(),
            open: Some(asked.open),
            window: self.core.window(self.request.window),
            encode_seconds: begin.elapsed().as_secs_f64(),
            submitted: Instant::now(),
        }
    }
}

/// Ids that end a text: `<eos>`, `<eos_2>`, ..
fn stops(manifest: &Manifest) -> Vec<u32> {
    manifest
        .controls
        .iter()
        .filter(|(name, _)| *name == "<eos>" || name.starts_with("<eos_"))
        .map(|(_, id)| *id)
        .collect()
}

/// The rows that draw a picture after the id `first`: `size` places from `ids`, with `end` between the rows.
fn grid(first: u32, ids: (u32, u32), end: Option<u32>, (rows, columns): (usize, usize)) -> Vec<TailRow> {
    let mut tail = Vec::with_capacity(rows * (columns + 1));
    for place in 0..rows * columns {
        let predicts = Some(ids);
        match (place, end) {
            (0, _) => tail.push(TailRow::new(Some(first), predicts)),
            (_, Some(end)) if place % columns == 0 => {
                tail.push(TailRow::new(None, None));
                tail.push(TailRow::new(Some(end), predicts));
            }
            _ => tail.push(TailRow::new(None, predicts)),
        }
    }
    tail
}

//! The leading rows of a sequence: sources, mode, aspect ratio, text (`weights.md`, section 5).

use borealis_kernels::Span;
use borealis_model::Row;
use borealis_weights::Grid;

use crate::features::FeatureWriter;
use crate::layout::Layout;

/// One latent frame of a source, as ids.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFrame {
    /// Time in latent frames.
    pub t: i32,
    /// Ids by stream: `places * row_codes` of them; empty where the source has none (state; the sound of a picture).
    pub ids: Vec<Vec<u32>>,
}

/// A picture or clip that leads the prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its control id (`<image_0>`, `<video>`).
    pub control: u32,
    /// Its latent frames.
    pub frames: Vec<SourceFrame>,
}

/// Rows of a prompt; slots and visible ranges count from its own start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PromptRows {
    /// The rows; `slot` = index.
    pub rows: Vec<Row>,
    /// Input ids of all rows.
    pub codes: Vec<u32>,
    /// Features of all rows.
    pub features: Vec<f32>,
    /// Where the prompt may be cut for computing it in pieces, ascending; the last is its end. Rows of a latent frame see each other and stay together.
    pub cuts: Vec<usize>,
    /// Position of the text-like row that follows.
    pub next: f32,
}

impl PromptRows {
    /// Longest run of rows without a cut.
    pub fn widest(&self) -> usize {
        self.cuts.iter().scan(0, |last, &cut| Some(cut - std::mem::replace(last, cut))).max().unwrap_or(0)
    }
}

/// Builds prompts for one output.
pub struct PromptBuilder<'a> {
    /// Streams and kinds.
    pub layout: &'a Layout,
    /// Positions of a picture.
    pub grid: Grid,
    /// Row features, if rows carry any.
    pub features: Option<&'a FeatureWriter>,
}

impl PromptBuilder<'_> {
    /// Sources, then text-like ids; `tail` more text-like rows follow that are not part of this (text lies at p = -L .. -1).
    pub fn build(&self, sources: &[Source], ids: &[u32], tail: usize) -> PromptRows {
        let mut out = PromptRows { next: -(tail as f32), ..PromptRows::default() };
        let mut p = -((sources.len() + ids.len() + tail) as f32);
        for source in sources {
            self.text(source.control, p, &mut out);
            p += 1.0;
            for frame in &source.frames {
                self.frame(frame, &mut out);
            }
        }
        for &id in ids {
            self.text(id, p, &mut out);
            p += 1.0;
        }
        out
    }

    fn text(&self, id: u32, p: f32, out: &mut PromptRows) {
        let at = out.rows.len();
        let row = text_row(
            self.layout,
            id,
            p,
            at as u32,
            Span { prefix: (0, at as u32 + 1), recent: (0, 0) },
            &mut out.codes,
        );
        out.rows.push(row);
        out.cuts.push(at + 1);
    }

    fn frame(&self, frame: &SourceFrame, out: &mut PromptRows) {
        let start = out.rows.len();
        for (index, stream) in self.layout.streams.iter().enumerate() {
            let ids = frame.ids.get(index).map_or(&[][..], Vec::as_slice);
            for (place, codes) in ids.chunks_exact(stream.row_codes).enumerate() {
                let at = out.codes.len();
                out.codes.extend_from_slice(codes);
                let features = self.features.map(|f| {
                    let at = out.features.len();
                    if stream.pictures {
                        f.picture(place, frame.t, None, &mut out.features);
                    } else {
                        f.time(frame.t, &mut out.features);
                    }
                    at
                });
                out.rows.push(Row {
                    modality: stream.modality,
                    kind: stream.kinds.source.or(stream.kinds.plain),
                    codes: Some(at),
                    condition: None,
                    scene: None,
                    features,
                    position: self.layout.position(index, self.grid, frame.t, place),
                    slot: out.rows.len() as u32,
                    sees: Span::default(),
                });
            }
        }
        let end = out.rows.len();
        out.rows[start..].iter_mut().for_each(|r| r.sees.prefix = (0, end as u32));
        if end > start {
            out.cuts.push(end);
        }
    }
}

/// A row of one text-like id at diagonal position `p`.
pub fn text_row(layout: &Layout, id: u32, p: f32, slot: u32, sees: Span, codes: &mut Vec<u32>) -> Row {
    let at = codes.len();
    codes.push(id);
    let kind = layout.text_kind(id);
    Row {
        modality: layout.modality(id),
        kind,
        codes: Some(at),
        condition: None,
        scene: None,
        features: None,
        position: [p; 3],
        slot,
        sees,
    }
}

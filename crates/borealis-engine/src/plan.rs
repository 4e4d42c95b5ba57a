//! In which order the positions of a clip are decided, and what each of them reads and sees (`weights.md`, section 4). Pure data: no tensors, no ids.

use std::ops::Range;

use borealis_weights::{Grid, InputMode, PlanKind};

use crate::layout::Layout;

/// What is generated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanSpec {
    /// Positions of a picture.
    pub grid: Grid,
    /// Latent frames to decide, at least 1.
    pub latents: usize,
    /// Time of the first of them in latent frames; more than 0 when something is continued.
    pub first: usize,
    /// What media rows read.
    pub input: InputMode,
    /// Latent frames of the source (for [`InputMode::Source`]).
    pub source: usize,
    /// The codes of the latent frame before the first are given: rows read them instead of nothing.
    pub continued: bool,
    /// The first so many latent frames of pictures are given: their rows are computed, their codes are known.
    pub forced: usize,
    /// Rows of the prompt that each variant has of its own (the scene plan).
    pub tail: usize,
}

impl PlanSpec {
    /// Nothing but a tail.
    pub(crate) fn of_tail(tail: usize) -> Self {
        let grid = Grid { height: 1, width: 1 };
        let input = InputMode::Previous;
        Self { grid, latents: 0, first: 0, input, source: 0, continued: false, forced: 0, tail }
    }
}

/// Where the input codes of a row come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Nowhere.
    Bos,
    /// Position `place` of latent frame `latent` (0 = the first that is decided) of the same stream, decided earlier.
    Own {
        /// Latent frame.
        latent: usize,
        /// Position.
        place: usize,
    },
    /// Position `place` of the given latent frame before the first.
    Given {
        /// Position.
        place: usize,
    },
    /// Position `place` of latent frame `latent` of the source.
    Source {
        /// Latent frame.
        latent: usize,
        /// Position.
        place: usize,
    },
}

/// One media row.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanRow {
    /// Index into [`Layout::streams`].
    pub stream: usize,
    /// Time of its block in latent frames.
    pub t: i32,
    /// Latent frame that it decides (0 = the first); `None` for rows that are only seen.
    pub latent: Option<usize>,
    /// Position in the latent frame, in raster order.
    pub place: usize,
    /// Number among the decided positions of its stream: the address of its noise.
    pub index: u32,
    /// Its codes are given.
    pub forced: bool,
    /// Its input codes.
    pub input: Input,
    /// Input codes of its block's row of the stream that conditions it.
    pub condition: Input,
    /// Input codes of its block's row that features are measured from.
    pub near: Input,
    /// Rotary position.
    pub position: [f32; 3],
    /// Slot in the sequence's region.
    pub slot: usize,
    /// It sees the prompt and slots `0..end` of the region.
    pub end: usize,
}

/// Slots to copy inside a region before a group is computed; the ranges do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// First slot.
    pub from: usize,
    /// Where it goes.
    pub to: usize,
    /// Slots.
    pub len: usize,
}

/// Rows that are computed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Indices into [`Plan::rows`].
    pub rows: Range<usize>,
    /// What is done before.
    pub moves: Vec<Move>,
    /// Latent frames whose pictures and sound are all decided after it.
    pub complete: usize,
}

/// The order of one clip or picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What it is for.
    pub spec: PlanSpec,
    /// All media rows in the order in which they are computed.
    pub rows: Vec<PlanRow>,
    /// The steps.
    pub groups: Vec<Group>,
    /// Slots of a sequence's own region: its part of the prompt and the window.
    pub region: usize,
    /// Most rows in a group.
    pub widest: usize,
}

impl Plan {
    /// The plan of an output.
    pub fn for_output(layout: &Layout, spec: PlanSpec) -> Self {
        Builder::new(layout, spec).build()
    }

    /// Whether the places of a picture are decided one after another.
    pub(crate) fn is_next_token(&self, layout: &Layout) -> bool {
        self.spec.latents > 0 && layout.streams.iter().any(|s| s.pictures && s.plan == PlanKind::Raster)
    }

    /// Whether a group is one place of a picture that needs nothing but the codes decided before: a window can go on over it.
    pub(crate) fn continues(&self, layout: &Layout, group: usize) -> bool {
        let group = &self.groups[group];
        let one = |stream: &crate::layout::Stream| stream.pictures && stream.plan == PlanKind::Raster;
        group.moves.is_empty() && group.rows.len() == 1 && one(&layout.streams[self.rows[group.rows.start].stream])
    }

    /// Positions that a group decides.
    pub(crate) fn decided_in(&self, group: usize) -> usize {
        self.rows[self.groups[group].rows.clone()].iter().filter(|r| r.latent.is_some() && !r.forced).count()
    }

    /// Positions that are decided, over all streams.
    pub fn decided(&self) -> usize {
        self.rows.iter().filter(|r| r.latent.is_some() && !r.forced).count()
    }
}

struct Builder<'a> {
    layout: &'a Layout,
    spec: PlanSpec,
    plan: Plan,
    /// Decided positions of each stream so far.
    counts: Vec<u32>,
    /// Rows of each block of the window, oldest first.
    kept: Vec<usize>,
}

impl<'a> Builder<'a> {
    fn new(layout: &'a Layout, spec: PlanSpec) -> Self {
        let plan = Plan { spec, rows: Vec::new(), groups: Vec::new(), region: spec.tail, widest: 0 };
        Self { layout, spec, plan, counts: vec![0; layout.streams.len()], kept: Vec::new() }
    }

    fn build(mut self) -> Plan {
        let offsets = || self.layout.streams.iter().map(|s| s.offset);
        let lead = offsets().max().unwrap_or(0).max(0);
        let delay = -offsets().min().unwrap_or(0).min(0);
        for block in -lead..self.spec.latents as i32 + delay {
            self.block(block);
        }
        self.complete();
        self.plan
    }

    /// Backwards: a latent frame is complete when no later row decides a part of it.
    fn complete(&mut self) {
        let mut least = self.spec.latents;
        for group in self.plan.groups.iter_mut().rev() {
            group.complete = least;
            let shown = self.plan.rows[group.rows.clone()].iter().filter(|r| self.layout.streams[r.stream].offset <= 0);
            least = shown.filter_map(|r| r.latent).min().map_or(least, |l| l.min(least));
        }
    }

    /// Whether a stream has rows in a block: before the first block only those that lead, after the last only those that owe latent frames.
    fn present(&self, stream: usize, block: i32) -> bool {
        let n = self.spec.latents as i32;
        let latent = block + self.layout.streams[stream].offset;
        if (0..n).contains(&block) { (0..=n).contains(&latent) } else { (0..n).contains(&latent) }
    }

    fn block(&mut self, block: i32) {
        let moves = self.evict();
        let base = self.spec.tail + self.kept.iter().sum::<usize>();
        let first_row = self.plan.rows.len();
        let mut steps = Vec::new();
        for group in &self.layout.groups {
            let members: Vec<usize> = group.iter().copied().filter(|&s| self.present(s, block)).collect();
            let depth = members.iter().map(|&s| self.steps(s)).max().unwrap_or(0);
            for step in 0..depth {
                let start = self.plan.rows.len();
                for &stream in &members {
                    for place in self.places(stream, step) {
                        let slot = base + self.plan.rows.len() - first_row;
                        let row = self.row(stream, block, place, slot);
                        self.plan.rows.push(row);
                    }
                }
                let end = self.plan.rows.len();
                let seen = base + end - first_row;
                self.plan.rows[start..end].iter_mut().for_each(|r| r.end = seen);
                steps.push(start..end);
            }
        }
        steps.retain(|s| !s.is_empty());
        self.group(steps, moves);
        let rows = self.plan.rows.len() - first_row;
        self.plan.region = self.plan.region.max(base + rows);
        self.kept.push(rows);
    }

    /// Forgets the block that leaves the window: the others move to where it was, in pieces that do not overlap.
    fn evict(&mut self) -> Vec<Move> {
        let mut moves = Vec::new();
        while self.kept.len() >= self.layout.window.max(1) {
            let gone = self.kept.remove(0);
            let kept: usize = self.kept.iter().sum();
            let mut done = 0;
            while gone > 0 && done < kept {
                let len = gone.min(kept - done);
                let to = self.spec.tail + done;
                moves.push(Move { from: to + gone, to, len });
                done += len;
            }
        }
        moves
    }

    /// Joins the steps of a block where none waits for codes of another; what a row sees stays as it is.
    fn group(&mut self, steps: Vec<Range<usize>>, mut moves: Vec<Move>) {
        let mut open: Option<Range<usize>> = None;
        for step in steps {
            open = Some(match open {
                Some(rows) if !self.waits(&step, &rows) => rows.start..step.end,
                Some(rows) => {
                    self.close(rows, std::mem::take(&mut moves));
                    step
                }
                None => step,
            });
        }
        if let Some(rows) = open {
            self.close(rows, moves);
        }
    }

    fn close(&mut self, rows: Range<usize>, moves: Vec<Move>) {
        self.plan.widest = self.plan.widest.max(rows.len());
        self.plan.groups.push(Group { rows, moves, complete: 0 });
    }

    /// Whether a row of `step` reads what a row of `rows` decides.
    fn waits(&self, step: &Range<usize>, rows: &Range<usize>) -> bool {
        let all = &self.plan.rows;
        let decides = |stream: usize, input: Input| match input {
            Input::Own { latent, place } => {
                all[rows.clone()].iter().any(|r| r.stream == stream && r.latent == Some(latent) && r.place == place)
            }
            _ => false,
        };
        all[step.clone()].iter().any(|r| {
            let condition = self.layout.streams[r.stream].condition;
            decides(r.stream, r.input)
                || condition.is_some_and(|s| decides(s, r.condition))
                || self.layout.near.is_some_and(|s| decides(s, r.near))
        })
    }

    fn steps(&self, stream: usize) -> usize {
        let s = &self.layout.streams[stream];
        let (places, grid) = (s.places(self.spec.grid), self.spec.grid);
        match s.plan {
            PlanKind::Raster => places,
            PlanKind::Frame => 1,
            _ if !s.pictures => 1,
            PlanKind::Row => grid.height,
            PlanKind::Wavefront => grid.height + grid.width - 1,
        }
    }

    /// Positions of a step, in raster order.
    fn places(&self, stream: usize, step: usize) -> Vec<usize> {
        let s = &self.layout.streams[stream];
        let (places, grid) = (s.places(self.spec.grid), self.spec.grid);
        if step >= self.steps(stream) {
            return Vec::new();
        }
        match s.plan {
            PlanKind::Raster => vec![step],
            PlanKind::Frame => (0..places).collect(),
            _ if !s.pictures => vec![0],
            PlanKind::Row => (step * grid.width..(step + 1) * grid.width).collect(),
            PlanKind::Wavefront => (0..places).filter(|p| p / grid.width + p % grid.width == step).collect(),
        }
    }

    fn row(&mut self, stream: usize, block: i32, place: usize, slot: usize) -> PlanRow {
        let latent = block + self.layout.streams[stream].offset;
        let decides = usize::try_from(latent).ok().filter(|&l| l < self.spec.latents);
        let count = &mut self.counts[stream];
        let index = *count;
        *count += u32::from(decides.is_some());
        let first = |other: Option<usize>| match other {
            Some(s) if self.present(s, block) => self.input(s, block + self.layout.streams[s].offset, 0),
            _ => Input::Bos,
        };
        let t = self.spec.first as i32 + block;
        PlanRow {
            stream,
            t,
            latent: decides,
            place,
            index,
            forced: self.layout.streams[stream].pictures && decides.is_some_and(|l| l < self.spec.forced),
            input: self.input(stream, latent, place),
            condition: first(self.layout.streams[stream].condition),
            near: first(self.layout.near),
            position: self.layout.position(stream, self.spec.grid, t, place),
            slot,
            end: 0,
        }
    }

    /// The predecessor of a position of latent frame `latent`.
    fn input(&self, stream: usize, latent: i32, place: usize) -> Input {
        let s = &self.layout.streams[stream];
        let (places, width) = (s.places(self.spec.grid), if s.pictures { self.spec.grid.width } else { 1 });
        let here = |place: usize| Input::Own { latent: latent as usize, place };
        let before = |place: usize| match latent {
            1.. => Input::Own { latent: latent as usize - 1, place },
            // State rows have nothing before the first: sources carry no states.
            _ if self.spec.continued && s.offset <= 0 => Input::Given { place },
            _ => Input::Bos,
        };
        match s.plan {
            PlanKind::Raster if place > 0 => here(place - 1),
            PlanKind::Raster => before(places - 1),
            PlanKind::Row if place >= width => here(place - width),
            PlanKind::Row => before(places - width + place),
            PlanKind::Wavefront if !place.is_multiple_of(width) => here(place - 1),
            PlanKind::Wavefront if place >= width => here(place - width),
            PlanKind::Wavefront => Input::Bos,
            PlanKind::Frame if self.spec.input == InputMode::Source && s.offset <= 0 && self.spec.source > 0 => {
                Input::Source { latent: (latent.max(0) as usize).min(self.spec.source - 1), place }
            }
            PlanKind::Frame => before(place),
        }
    }
}

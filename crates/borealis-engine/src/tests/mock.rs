//! A model that is a hash: what it predicts depends on every row that is visible, two layers deep, and on nothing else. It refuses what a scheduler must never do:
//! to see slots that were not written, to write slots that are not reserved.

use borealis_kernels::{Drawer, KvFormat, QuantFormat};
use borealis_model::{
    Batch, Forward, Logits, ModelConfig, ModelError, Result, Row, SlotRange, StepCost, Summary, Trace,
};
use borealis_weights::{Manifest, Predict};

/// See the module.
pub struct Mock {
    config: ModelConfig,
    slots: Vec<Option<[u64; 2]>>,
    reserved: Vec<SlotRange>,
    /// Hashes of the `depth` queries of the last step, and how many of their codes are decided.
    depth: Vec<(usize, u64)>,
    decided: usize,
    /// Steps so far.
    pub steps: usize,
    /// Most rows in a step.
    pub widest: usize,
    /// Rows so far.
    pub rows: usize,
    /// Gives not-a-number after so many steps.
    pub breaks_after: usize,
    /// Added to the logits of the ids that a row reads: pictures with large areas of one code.
    pub repeats: f32,
}

fn mix(a: u64, b: u64) -> u64 {
    let mut z = (a ^ b.rotate_left(29)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Mock {
    pub fn new(manifest: &Manifest) -> Self {
        let config = ModelConfig::new(manifest).unwrap();
        let (slots, reserved, depth) = (Vec::new(), Vec::new(), Vec::new());
        let (steps, rows, widest, breaks_after) = (0, 0, 0, usize::MAX);
        Self { config, slots, reserved, depth, decided: 0, steps, rows, widest, breaks_after, repeats: 0.0 }
    }

    fn input(&self, row: &Row, batch: &Batch) -> u64 {
        let mut h = mix(row.modality as u64, u64::from(row.kind.map_or(99, |k| k)));
        let ids = |at: Option<usize>, n: usize| at.map_or(&[][..], |at| &batch.codes[at..at + n]);
        let own = self.config.row_codes(row.modality);
        let condition = self.config.modalities[row.modality].condition.as_ref();
        let condition = condition
            .and_then(|c| self.config.modalities.iter().position(|m| m.name == *c))
            .map_or(0, |m| self.config.row_codes(m));
        for id in ids(row.codes, own).iter().chain(ids(row.condition, condition)) {
            h = mix(h, u64::from(*id) + 1);
        }
        for id in ids(row.scene, self.config.scene.as_ref().map_or(0, |s| s.fields)) {
            h = mix(h, u64::from(*id) + 7);
        }
        let features = row.features.map_or(&[][..], |at| &batch.features[at..at + self.config.row_features]);
        for value in features.iter().chain(&row.position) {
            h = mix(h, u64::from(value.to_bits()));
        }
        h
    }

    /// Sum over what a row sees: attention does not know an order either.
    fn seen(&self, row: &Row, layer: usize) -> Result<u64> {
        let spans = [row.sees.prefix, row.sees.recent];
        let mut sum = 0u64;
        for slot in spans.into_iter().flat_map(|(a, b)| a..b) {
            let value =
                self.slots[slot as usize].ok_or_else(|| ModelError::Batch(format!("slot {slot} was never written")))?;
            sum = sum.wrapping_add(mix(value[layer], 5));
        }
        Ok(sum)
    }

    fn logits(hash: u64, modality: usize, sizes: impl Iterator<Item = (usize, usize)>, out: &mut Logits) {
        for (code, size) in sizes {
            for v in 0..size {
                let bits = mix(mix(hash, (modality * 1000 + code) as u64), v as u64);
                out.values.push((bits >> 40) as f32 / (1u64 << 22) as f32 - 2.0);
            }
        }
        out.offsets.push(out.values.len());
    }
}

impl Forward for Mock {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn backend(&self) -> &'static str {
        "mock"
    }

    fn rows_are_independent(&self) -> bool {
        true
    }

    fn format(&self) -> QuantFormat {
        QuantFormat::F32
    }

    fn kv_format(&self) -> KvFormat {
        KvFormat::F32
    }

    fn keep(&mut self, _format: KvFormat) -> Result<()> {
        Ok(())
    }

    fn allocate(&mut self, slots: usize, _max_rows: usize) -> Result<()> {
        assert!(self.reserved.is_empty());
        self.slots = vec![None; slots];
        Ok(())
    }

    fn cache_bytes(&self, slots: usize, max_rows: usize) -> u64 {
        (slots << 14) as u64 + max_rows as u64 * 100
    }

    fn slots(&self) -> (usize, usize) {
        let used: usize = self.reserved.iter().map(|r| r.len as usize).sum();
        (self.slots.len(), self.slots.len() - used)
    }

    fn reserve(&mut self, slots: usize) -> Result<SlotRange> {
        let mut start = 0;
        for r in &self.reserved {
            if (r.start - start) as usize >= slots {
                break;
            }
            start = r.end();
        }
        let range = SlotRange { start, len: slots as u32 };
        if slots == 0 || range.end() as usize > self.slots.len() {
            return Err(ModelError::CacheFull {
                asked: slots,
                free: self.slots().1,
                largest: 0,
                slots: self.slots.len(),
            });
        }
        self.reserved.push(range);
        self.reserved.sort_by_key(|r| r.start);
        Ok(range)
    }

    fn release(&mut self, range: SlotRange) -> Result<()> {
        let at = self.reserved.iter().position(|r| *r == range).expect("a range that is not reserved");
        self.reserved.remove(at);
        self.slots[range.start as usize..range.end() as usize].fill(None);
        Ok(())
    }

    fn copy_slots(&mut self, from: u32, to: u32, len: u32) -> Result<()> {
        for i in 0..len {
            self.slots[(to + i) as usize] = self.slots[(from + i) as usize];
        }
        Ok(())
    }

    fn step(&mut self, batch: &Batch, out: &mut Logits) -> Result<()> {
        self.steps += 1;
        self.rows += batch.rows.len();
        self.widest = self.widest.max(batch.rows.len());
        for row in &batch.rows {
            assert!(
                self.reserved.iter().any(|r| (r.start..r.end()).contains(&row.slot)),
                "slot {} is not reserved",
                row.slot
            );
            self.slots[row.slot as usize] = Some([self.input(row, batch), 0]);
        }
        let second = batch.rows.iter().map(|r| self.seen(r, 0)).collect::<Result<Vec<_>>>()?;
        for (row, value) in batch.rows.iter().zip(second) {
            let slot = self.slots[row.slot as usize].as_mut().expect("written above");
            slot[1] = mix(slot[0], value);
        }
        out.values.clear();
        out.offsets.clear();
        out.offsets.push(0);
        self.depth.clear();
        self.decided = 1;
        for query in &batch.queries {
            let row = &batch.rows[query.row];
            let own = self.slots[row.slot as usize].expect("written above")[1];
            let hash = mix(own, self.seen(row, 1)?);
            let spec = &self.config.modalities[query.modality];
            let sizes: Vec<(usize, usize)> = match (query.allowed, spec.predict) {
                (Some((start, end)), _) => vec![(start as usize, (end - start) as usize)],
                (None, Predict::Depth) => {
                    (0..spec.slots).map(|s| (s * spec.codes.len(), spec.codes[0].size as usize)).collect()
                }
                (None, _) => {
                    (0..spec.slots).flat_map(|_| &spec.codes).enumerate().map(|(i, c)| (i, c.size as usize)).collect()
                }
            };
            if spec.predict == Predict::Depth {
                self.depth.push((query.modality, hash));
            }
            let mut at = out.values.len();
            Self::logits(hash, query.modality, sizes.clone().into_iter(), out);
            let ranges = (0..spec.slots).flat_map(|_| &spec.codes).map(|range| range.start);
            let starts: Vec<u32> = query.allowed.map_or_else(|| ranges.collect(), |ids| vec![ids.0]);
            let read = batch.rows[query.row].codes.map_or(&[][..], |from| &batch.codes[from..]);
            for ((start, (_, size)), id) in starts.into_iter().zip(sizes).zip(read) {
                if let Some(same) = id.checked_sub(start).filter(|id| (*id as usize) < size) {
                    out.values[at + same as usize] += self.repeats;
                }
                at += size;
            }
        }
        if self.steps > self.breaks_after {
            out.values.fill(f32::NAN);
        }
        let mut host = Drawer::default();
        out.ids = batch.draws.list.iter().map(|d| out.draw(&mut host, d, batch.draws.seen(d))).collect();
        Ok(())
    }

    fn depth_step(&mut self, ids: &[u32], out: &mut Logits) -> Result<bool> {
        out.values.clear();
        out.offsets.clear();
        out.offsets.push(0);
        let (mut at, mut any) = (0, false);
        for (modality, hash) in &mut self.depth {
            let spec = &self.config.modalities[*modality];
            let own = &ids[at..at + spec.slots];
            at += spec.slots;
            for (slot, id) in own.iter().enumerate() {
                *hash = mix(*hash, u64::from(*id) + 1000 * slot as u64);
            }
            match spec.codes.get(self.decided) {
                Some(code) => {
                    any = true;
                    let sizes = (0..spec.slots).map(|s| (s * spec.codes.len() + self.decided, code.size as usize));
                    Self::logits(*hash, *modality, sizes, out);
                }
                None => out.offsets.push(out.values.len()),
            }
        }
        assert_eq!(at, ids.len());
        self.decided += 1;
        Ok(any)
    }

    fn trace(&mut self, _batch: &Batch, _out: &mut Logits) -> Result<Trace> {
        Err(ModelError::Batch("a mock has no layers to trace".into()))
    }

    fn costs(&self, batch: &Batch) -> StepCost {
        StepCost { weight_bytes: 1000.0, kv_bytes: batch.rows.len() as f64, multiply_adds: 1000.0 }
    }

    fn summary(&self) -> Summary {
        Summary {
            parameters: 0,
            active_parameters: 0,
            stored: Vec::new(),
            device_bytes: 0,
            kv_bytes_per_position: 1 << 14,
            fused: Vec::new(),
        }
    }
}

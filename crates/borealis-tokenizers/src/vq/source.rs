//! Where a picture tokenizer's weights are read from: a part of a checkpoint's tensors.

use std::cell::RefCell;
use std::collections::BTreeSet;

use borealis_weights::{TensorSet, nearest};

use crate::{Result, TokenizerError};

/// Endings of tensors that training leaves in the files and that nothing computes with.
const IGNORED: [&str; 1] = [".num_batches_tracked"];

/// The tensors of a set whose names begin with a prefix; remembers which were asked for.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    tensors: &'a TensorSet,
    prefix: String,
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Source<'a> {
    /// The tensors under `prefix`, such as `model.vqmodel.` or nothing.
    pub fn new(tensors: &'a TensorSet, prefix: &str) -> Self {
        Self { tensors, prefix: prefix.into(), asked: RefCell::default() }
    }

    /// The tensors beside `landmark`, a tensor that every such tokenizer has: the prefix is what stands before it.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] when there is none.
    pub fn beside(tensors: &'a TensorSet, landmark: &str) -> Result<Self> {
        let prefix = tensors.names().find_map(|n| n.strip_suffix(landmark));
        let fits = prefix.filter(|p| p.is_empty() || p.ends_with('.'));
        let absent =
            || TokenizerError::absent(format!("tensor {landmark}"), "the picture tokenizer's weights are elsewhere");
        fits.map(|p| Self::new(tensors, p)).ok_or_else(absent)
    }

    /// Whether a tensor whose name begins so is there.
    pub fn has(&self, start: &str) -> bool {
        let start = format!("{}{start}", self.prefix);
        self.tensors.names().any(|n| n.starts_with(&start))
    }

    /// All numbers of a tensor that must have `shape`.
    ///
    /// # Errors
    /// When it is missing, misshapen or not finite.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let full = format!("{}{name}", self.prefix);
        let values = self.tensors.expect_f32(&full, shape)?;
        self.asked.borrow_mut().insert(full);
        Ok(values)
    }

    /// Refuses tensors under the prefix that nothing has asked for.
    ///
    /// # Errors
    /// [`TokenizerError::Config`] with the tensor and its nearest known name.
    pub fn check_all_used(&self) -> Result<()> {
        let asked = self.asked.borrow();
        let ours = self.tensors.names().filter(|n| n.starts_with(&self.prefix));
        let mut strangers = ours.filter(|n| !asked.contains(*n) && !IGNORED.iter().any(|i| n.ends_with(i)));
        match strangers.next() {
            Some(name) => {
                let hint = nearest(name, asked.iter().map(String::as_str));
                let hint = hint.map(|n| format!(" (nearest name: {n})")).unwrap_or_default();
                let what = format!("is not a tensor of this tokenizer{hint}: the tensors do not fit the configuration");
                Err(TokenizerError::config("model.safetensors", name, what))
            }
            None => Ok(()),
        }
    }
}

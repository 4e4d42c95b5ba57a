//! Reading a published `config.json`: absent fields have their authors' defaults, fields for training are not looked at.

use borealis_weights::Node;

use crate::{Result, TokenizerError};

/// Largest number of channels, filters or hidden units.
const MAX_WIDTH: u32 = 1 << 16;

/// A size from 1 to 65,536.
pub(super) fn size(root: &Node<'_>, key: &str, default: usize) -> Result<usize> {
    Ok(root.opt(key)?.map_or(Ok(default), |n| n.size(1, MAX_WIDTH))?)
}

/// A count from 0 to 64.
pub(super) fn count(root: &Node<'_>, key: &str, default: usize) -> Result<usize> {
    Ok(root.opt(key)?.map_or(Ok(default), |n| n.size(0, 64))?)
}

/// true or false.
pub(super) fn flag(root: &Node<'_>, key: &str, default: bool) -> Result<bool> {
    Ok(root.opt(key)?.map_or(Ok(default), |n| n.boolean())?)
}

/// Samples per second.
pub(super) fn sample_rate(root: &Node<'_>, default: u32) -> Result<u32> {
    Ok(root.opt("sampling_rate")?.map_or(Ok(default), |n| n.u32(1_000, 768_000))?)
}

/// Strides, 1 to 12 of them; their product stays below a million, and so does `2^n`.
pub(super) fn ratios(root: &Node<'_>, key: &str, default: &[usize]) -> Result<Vec<usize>> {
    let Some(node) = root.opt(key)? else { return Ok(default.to_vec()) };
    let list: Vec<usize> = node.list(12)?.iter().map(|n| n.size(1, 1 << 10)).collect::<std::result::Result<_, _>>()?;
    if list.is_empty() || list.iter().try_fold(1usize, |a, b| a.checked_mul(*b)).is_none_or(|hop| hop > 1 << 20) {
        return Err(node.fail("must be 1 to 12 strides whose product is at most 1048576").into());
    }
    Ok(list)
}

/// The number of a codebook's codes: a power of two.
pub(super) fn codebook_size(root: &Node<'_>, default: usize) -> Result<usize> {
    let size = size(root, "codebook_size", default)?;
    if size.is_power_of_two() {
        return Ok(size);
    }
    Err(wrong("codebook_size", format!("is {size}: must be a power of two")))
}

/// An error about a field.
pub(super) fn wrong(field: &str, problem: impl std::fmt::Display) -> TokenizerError {
    TokenizerError::config("config.json", field, problem)
}

//! Writing a checkpoint's folder: file by file, with a hash of each, and all or nothing.

use crate::{Result, WeightsError};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// File with the hash of every other file, as `sha256sum` writes and checks it.
const SUMS: &str = "SHA256SUMS";

/// Takes the next bytes of a file.
pub(crate) type Out<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;
/// Is told how many more bytes of tensors were written.
pub(crate) type Tell<'a> = &'a mut dyn FnMut(u64);

/// Writes files below a folder.
pub(crate) struct Writer<'a> {
    root: PathBuf,
    /// Lines of [`SUMS`].
    sums: Vec<String>,
    written: u64,
    progress: Tell<'a>,
}

/// Lets `write` fill the folder `target`, which must not exist or be empty. Everything is written beside it and moved there at the end. `progress` is told
/// the bytes of tensors so far.
pub(crate) fn folder<T>(
    target: &Path,
    progress: &mut dyn FnMut(u64),
    write: impl FnOnce(&mut Writer<'_>) -> Result<T>,
) -> Result<T> {
    if fs::read_dir(target).is_ok_and(|mut d| d.next().is_some()) || target.is_file() {
        return Err(WeightsError::Exists { path: target.to_path_buf() });
    }
    let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let partial = target.with_file_name(format!(".{name}.partial-{}", std::process::id()));
    let mut writer = Writer { root: partial.clone(), sums: Vec::new(), written: 0, progress };
    let result = write(&mut writer).and_then(|value| {
        let sums = writer.sums.concat();
        writer.file(SUMS, |out, _| out(sums.as_bytes()))?;
        let failed = |source| WeightsError::Write { file: target.display().to_string(), source };
        if target.is_dir() {
            fs::remove_dir(target).map_err(failed)?;
        }
        fs::rename(&partial, target).map_err(failed)?;
        Ok(value)
    });
    if result.is_err() {
        // What went wrong is told; leftovers are only in the way.
        let _ = fs::remove_dir_all(&partial);
    }
    result
}

/// The length and the header of a safetensors file, padded to whole words: name, type, shape and bytes of its tensors in order.
pub(crate) fn header<'a>(tensors: impl Iterator<Item = (&'a str, &'static str, &'a [usize], u64)>) -> Vec<u8> {
    let mut fields = Map::new();
    let mut start = 0;
    for (name, dtype, shape, bytes) in tensors {
        fields.insert(name.into(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, start + bytes]}));
        start += bytes;
    }
    let mut text = Value::Object(fields).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}

impl Writer<'_> {
    /// Writes one file and notes its hash.
    pub(crate) fn file(&mut self, name: &str, content: impl FnOnce(Out<'_>, Tell<'_>) -> Result<()>) -> Result<()> {
        let path = self.root.join(name);
        let failed = |source| WeightsError::Write { file: name.to_string(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(failed)?);
        let mut hash = Sha256::new();
        let (written, progress) = (&mut self.written, &mut *self.progress);
        let mut write = |bytes: &[u8]| {
            hash.update(bytes);
            file.write_all(bytes).map_err(failed)
        };
        content(&mut write, &mut |bytes| {
            *written += bytes;
            progress(*written);
        })?;
        file.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)?;
        let digest: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        self.sums.push(format!("{digest}  {name}\n"));
        Ok(())
    }
}

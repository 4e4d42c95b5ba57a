//! Lists the files of the default model, so that the `embed-model` feature can put them into the binary.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The model's folder, seen from this package.
const MODEL: &str = "../../models/borealis-mini";

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?).join(MODEL);
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    if env::var_os("CARGO_FEATURE_EMBED_MODEL").is_some() {
        collect(&folder, &folder, &mut files)?;
        if files.is_empty() {
            let what = format!("no model in {}: restore it, or build with --no-default-features", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
    }
    files.sort();
    let mut code = String::from(
        "/// Name and content of every file of the default model.\npub static FILES: &[(&str, &[u8])] = &[\n",
    );
    for (name, path) in files {
        writeln!(code, "    ({name:?}, include_bytes!({path:?})),").map_err(io::Error::other)?;
    }
    code.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    fs::write(out.join("embedded.rs"), code)
}

/// Adds the checkpoint's files below `folder` as (name with slashes, path); pictures and notes beside them stay out.
fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let kept = path.extension().is_some_and(|ending| ending == "json" || ending == "safetensors");
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if kept && let Ok(name) = path.strip_prefix(root) {
            let name: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
            files.push((name.join("/"), path.clone()));
        }
    }
    Ok(())
}

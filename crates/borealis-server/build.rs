//! Writes the gRPC code from `proto/` (protox parses it: no `protoc` is needed).

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new("proto");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    files.sort();
    let set = protox::compile(&files, [folder])?;
    // Messages carry whole images and video chunks: `bytes` fields share the buffer that they arrived in.
    tonic_prost_build::configure().build_client(true).bytes(".").compile_fds(set)?;
    Ok(())
}

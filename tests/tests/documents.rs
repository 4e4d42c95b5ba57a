//! What the documents say is what the code does.

#[path = "documents/edges.rs"]
mod edges;
#[path = "documents/families.rs"]
mod families;
#[path = "documents/table.rs"]
mod table;

use std::path::PathBuf;

/// The repository's root.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the package lies in the repository").to_path_buf()
}

fn document(name: &str) -> String {
    let path = root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

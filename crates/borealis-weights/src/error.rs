//! What can be wrong with a checkpoint.

use std::path::PathBuf;

/// Errors of this crate: each is one line that names the file, what is wrong in it, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// There is no checkpoint folder.
    #[error("{}: not a checkpoint folder: give the folder that holds config.json", .path.display())]
    NotAFolder {
        /// What was asked for.
        path: PathBuf,
    },
    /// A file of the checkpoint is not there.
    #[error("{location}: {file} is missing: {remedy}")]
    MissingFile {
        /// The checkpoint.
        location: String,
        /// The file, relative to the folder.
        file: String,
        /// What it is for.
        remedy: String,
    },
    /// The system could not read a file.
    #[error("{location}: cannot read {file}: {source}")]
    Io {
        /// The checkpoint.
        location: String,
        /// The file, relative to the folder.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system could not write a file.
    #[error("cannot write {file}: {source}")]
    Write {
        /// The file.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// There is something where a checkpoint would be written.
    #[error("{}: is there already: give a new folder", .path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A file that is not a plain file inside the folder.
    #[error("{file}: {problem}: a checkpoint's files must be plain files inside its folder")]
    Outside {
        /// The file, as it was named.
        file: String,
        /// What it is instead.
        problem: String,
    },
    /// A file beyond the limit of its kind.
    #[error("{file}: {size} bytes, at most {limit} are read: is this the right file?")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size, bytes.
        size: u64,
        /// The limit, bytes.
        limit: u64,
    },
    /// Not JSON, or JSON with a repeated key.
    #[error("{file}: not valid JSON: {problem}: the file is damaged, fetch it again")]
    Json {
        /// The file.
        file: String,
        /// Position and reason.
        problem: String,
    },
    /// A value that is missing, of the wrong kind, out of range, or in contradiction to another.
    #[error("{file}: {field} {value}: {remedy}")]
    Field {
        /// The file.
        file: String,
        /// Path of the field, such as `modalities[2].codes[0].size`.
        field: String,
        /// `is ...` or `is missing`.
        value: String,
        /// What it must be.
        remedy: String,
    },
    /// A safetensors file whose header does not describe it.
    #[error("{file}: {problem}: the file is damaged or was cut off, fetch it again")]
    Header {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A tensor that breaks a rule of the format.
    #[error("{file}: tensor {tensor} {problem}")]
    Tensor {
        /// The file.
        file: String,
        /// Its name.
        tensor: String,
        /// What is wrong and what is expected.
        problem: String,
    },
    /// A tensor that the model needs and the checkpoint lacks.
    #[error("{file}: tensor {name} is missing{}: the tensors do not fit the configuration", hint(.nearest))]
    MissingTensor {
        /// The file or folder.
        file: String,
        /// The name asked for.
        name: String,
        /// The most similar name that is there.
        nearest: Option<String>,
    },
    /// A tensor that the model does not know.
    #[error("{file}: unknown tensor {name}{}: the tensors do not fit the configuration", hint(.nearest))]
    UnknownTensor {
        /// The file or folder.
        file: String,
        /// The name found.
        name: String,
        /// The most similar name that the model knows.
        nearest: Option<String>,
    },
    /// A tensor with another shape than the configuration says.
    #[error(
        "{file}: tensor {name} has shape {found:?}, the configuration asks for {expected:?}: they are not of one checkpoint"
    )]
    Shape {
        /// The file or folder.
        file: String,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|n| format!(" (nearest name: {n})")).unwrap_or_default()
}

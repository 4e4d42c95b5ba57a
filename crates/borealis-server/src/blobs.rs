//! Bytes of pictures and clips, named by their SHA-256.

use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};

use crate::error::{Result, ServerError};
use crate::secrets;

/// Blobs that are younger are not removed: their owner may be about to be stored.
const YOUNG: Duration = Duration::from_secs(3600);

/// The store of bytes: a local folder.
#[derive(Clone)]
pub(crate) struct Blobs {
    store: Arc<dyn ObjectStore>,
}

impl Blobs {
    /// Opens `blobs/` in the data folder.
    pub fn open(data: &FilePath) -> Result<Self> {
        let folder = data.join("blobs");
        std::fs::create_dir_all(&folder).map_err(|source| ServerError::Data { path: folder.clone(), source })?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self { store: Arc::new(store) })
    }

    /// Stores bytes; they are on the disk when it returns. Writing the same bytes again changes nothing but their age.
    pub async fn put(&self, bytes: Bytes) -> Result<String> {
        let hash = secrets::hex(&secrets::sha256(&bytes));
        self.store.put(&place(&hash), PutPayload::from(bytes)).await?;
        Ok(hash)
    }

    /// All bytes of a blob.
    pub async fn get(&self, hash: &str) -> Result<Bytes> {
        Ok(self.store.get(&place(hash)).await?.bytes().await?)
    }

    /// Size of a blob.
    pub async fn size(&self, hash: &str) -> Result<u64> {
        Ok(self.store.head(&place(hash)).await?.size)
    }

    /// A part of a blob, as it is read.
    pub async fn stream(
        &self,
        hash: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, object_store::Result<Bytes>>> {
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        Ok(self.store.get_opts(&place(hash), options).await?.into_stream())
    }

    /// Hashes of the blobs that are old enough to be removed when nobody needs them.
    pub async fn old(&self) -> Result<Vec<String>> {
        let young = SystemTime::now() - YOUNG;
        let all: Vec<ObjectMeta> = self.store.list(None).try_collect().await?;
        let hash = |meta: &ObjectMeta| meta.location.as_ref().replace('/', "");
        Ok(all.iter().filter(|meta| SystemTime::from(meta.last_modified) < young).map(hash).collect())
    }

    /// Removes a blob.
    pub async fn remove(&self, hash: &str) -> Result<()> {
        match self.store.delete(&place(hash)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Hashes come from the store of jobs and are hexadecimal digits: no client chooses a path.
fn place(hash: &str) -> Path {
    let (head, tail) = hash.split_at(2.min(hash.len()));
    Path::from(format!("{head}/{tail}"))
}

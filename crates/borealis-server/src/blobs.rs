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
use url::Url;

use crate::error::{Result, ServerError};
use crate::secrets;

/// Blobs that were written later are not removed: whoever wrote them, again perhaps, may be about to say so in the database.
const YOUNG: Duration = Duration::from_secs(45);
/// The same for blobs that nobody has asked to remove: there is no hurry.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// The store of bytes: a local folder, or a bucket of anything that speaks S3.
#[derive(Clone)]
pub(crate) struct Blobs {
    store: Arc<dyn ObjectStore>,
}

impl Blobs {
    /// Opens `s3://bucket/prefix` where one is given, with the credentials of the environment (`AWS_...`); else `blobs/` in the data folder.
    pub fn open(data: &FilePath, elsewhere: Option<&str>) -> Result<Self> {
        match elsewhere {
            Some(url) => Self::bucket(url),
            None => Self::folder(data),
        }
    }

    #[cfg(feature = "s3")]
    fn bucket(text: &str) -> Result<Self> {
        use object_store::{RetryConfig, aws::AmazonS3Builder, prefix::PrefixStore};
        let (url, prefix) = check_place(text)?;
        // A client waits on the line.
        let retry = RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(15), ..RetryConfig::default() };
        let store = AmazonS3Builder::from_env().with_url(url).with_retry(retry).build()?;
        Ok(Self { store: Arc::new(PrefixStore::new(store, prefix)) })
    }

    #[cfg(not(feature = "s3"))]
    fn bucket(text: &str) -> Result<Self> {
        check_place(text)?;
        Err(ServerError::Config {
            field: "--store",
            problem: format!("\"{text}\" needs an S3 client, which this program was built without"),
            remedy: "build it with --features s3, or keep results in the data folder".into(),
        })
    }

    fn folder(data: &FilePath) -> Result<Self> {
        let folder = data.join("blobs");
        std::fs::create_dir_all(&folder).map_err(|source| ServerError::Data { path: folder.clone(), source })?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self { store: Arc::new(store) })
    }

    /// Fails when the store cannot be asked: a bucket that is not there, or not ours.
    pub async fn check(&self) -> Result<()> {
        match self.store.head(&Path::from("00/none")).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores bytes; they are durable when it returns. Writing the same bytes again changes nothing but their age.
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

    /// Hashes of the blobs that are old enough to be removed when nobody needs them: of jobs that were given up, and of processes that died.
    pub async fn old(&self) -> Result<Vec<String>> {
        let young = SystemTime::now() - FORGOTTEN;
        let all: Vec<ObjectMeta> = self.store.list(None).try_collect().await?;
        let hash = |meta: &ObjectMeta| meta.location.as_ref().replace('/', "");
        Ok(all.iter().filter(|meta| SystemTime::from(meta.last_modified) < young).map(hash).collect())
    }

    /// Removes a blob unless it is young; returns whether it is gone.
    pub async fn remove_old(&self, hash: &str) -> Result<bool> {
        match self.store.head(&place(hash)).await {
            Ok(meta) if SystemTime::from(meta.last_modified) > SystemTime::now() - YOUNG => Ok(false),
            Ok(_) => self.remove(hash).await.map(|()| true),
            Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a blob.
    pub async fn remove(&self, hash: &str) -> Result<()> {
        match self.store.delete(&place(hash)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A place of results that are not kept in the data folder: its URL, and the folder in the bucket.
pub(crate) fn check_place(text: &str) -> Result<(Url, Path)> {
    let wrong = |problem: String| ServerError::Config {
        field: "--store",
        problem,
        remedy:
            "give s3://BUCKET or s3://BUCKET/FOLDER; AWS_ENDPOINT, AWS_REGION and the keys come from the environment"
                .into(),
    };
    let url = Url::parse(text).map_err(|error| wrong(format!("\"{text}\" is no URL ({error})")))?;
    let plain =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if url.scheme() != "s3" || url.host_str().is_none_or(str::is_empty) || !plain {
        return Err(wrong(format!("\"{text}\" is no place for results")));
    }
    let prefix = Path::parse(url.path().trim_matches('/')).map_err(|error| wrong(format!("\"{text}\": {error}")))?;
    Ok((url, prefix))
}

/// Hashes come from the store of jobs and are hexadecimal digits: no client chooses a path.
fn place(hash: &str) -> Path {
    let (head, tail) = hash.split_at(2.min(hash.len()));
    Path::from(format!("{head}/{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn blobs_are_what_was_put() {
        let folder = tempfile::tempdir().unwrap();
        let local = Blobs::open(folder.path(), None).unwrap();
        let memory = object_store::memory::InMemory::new();
        for blobs in [
            local,
            Blobs { store: Arc::new(memory) },
            #[cfg(feature = "s3")]
            bucket().await,
        ] {
            blobs.check().await.unwrap();
            let hash = blobs.put(Bytes::from_static(b"0123456789")).await.unwrap();
            assert_eq!(blobs.put(Bytes::from_static(b"0123456789")).await.unwrap(), hash);
            assert_eq!(
                (blobs.size(&hash).await.unwrap(), &blobs.get(&hash).await.unwrap()[..]),
                (10, &b"0123456789"[..])
            );
            let part: Vec<Bytes> = blobs.stream(&hash, 3..7).await.unwrap().try_collect().await.unwrap();
            assert_eq!(part.concat(), b"3456");
            assert!(!blobs.remove_old(&hash).await.unwrap(), "it is young");
            assert!(blobs.old().await.unwrap().is_empty());
            blobs.remove(&hash).await.unwrap();
            blobs.remove(&hash).await.unwrap();
            assert!(blobs.remove_old(&hash).await.unwrap());
            let gone = blobs.get(&hash).await.unwrap_err();
            assert!(matches!(gone, ServerError::Blobs(object_store::Error::NotFound { .. })), "{gone}");
        }
    }

    /// A bucket on loopback that speaks as much S3 as blobs need.
    #[cfg(feature = "s3")]
    async fn bucket() -> Blobs {
        use axum::extract::{Path as At, Query, State};
        use axum::response::IntoResponse;
        use axum::routing::get;
        use http::{HeaderMap, StatusCode, header};
        use std::collections::{BTreeMap, HashMap};
        use std::sync::Mutex;

        type Kept = Arc<Mutex<BTreeMap<String, Bytes>>>;
        let object = async |State(kept): State<Kept>, At(key): At<String>, headers: HeaderMap| {
            let Some(bytes) = kept.lock().unwrap().get(&key).cloned() else {
                return StatusCode::NOT_FOUND.into_response();
            };
            let known = [(header::LAST_MODIFIED, "Wed, 21 Oct 2099 07:28:00 GMT"), (header::ETAG, "\"1\"")];
            let Some(range) = headers.get(header::RANGE) else { return (known, bytes).into_response() };
            let (start, end) = range.to_str().unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
            let part = [(header::CONTENT_RANGE, format!("bytes {start}-{end}/{}", bytes.len()))];
            (StatusCode::PARTIAL_CONTENT, known, part, bytes.slice(start..end + 1)).into_response()
        };
        let put = async |State(kept): State<Kept>, At(key): At<String>, headers: HeaderMap, bytes: Bytes| {
            assert!(headers[header::AUTHORIZATION].to_str().unwrap().contains("Credential=test-key/"));
            kept.lock().unwrap().insert(key, bytes);
            [(header::ETAG, "\"1\"")]
        };
        let list = async |State(kept): State<Kept>, Query(query): Query<HashMap<String, String>>| {
            let entry = |(key, bytes): (&String, &Bytes)| {
                format!(
                    "<Contents><Key>{key}</Key><LastModified>2099-10-21T07:28:00.000Z</LastModified><ETag>1</ETag><Size>{}</Size></Contents>",
                    bytes.len()
                )
            };
            let kept = kept.lock().unwrap();
            let entries: String = kept.iter().filter(|(key, _)| key.starts_with(&query["prefix"])).map(entry).collect();
            format!(
                "<ListBucketResult><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
            )
        };
        let remove = async |State(kept): State<Kept>, At(key): At<String>| {
            kept.lock().unwrap().remove(&key);
            StatusCode::NO_CONTENT
        };
        let delete = async |State(kept): State<Kept>, body: String| {
            let key = body.split("<Key>").nth(1).unwrap().split('<').next().unwrap();
            kept.lock().unwrap().remove(key);
            format!("<DeleteResult><Deleted><Key>{key}</Key></Deleted></DeleteResult>")
        };
        let routes = axum::Router::new()
            .route("/media", get(list).post(delete))
            .route("/media/{*key}", get(object).put(put).delete(remove))
            .with_state(Kept::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let store = object_store::aws::AmazonS3Builder::new()
            .with_url("s3://media")
            .with_endpoint(endpoint)
            .with_allow_http(true)
            .with_access_key_id("test-key")
            .with_secret_access_key("secret")
            .build()
            .unwrap();
        Blobs { store: Arc::new(object_store::prefix::PrefixStore::new(store, Path::from("a/b"))) }
    }

    #[test]
    fn places_elsewhere_are_buckets() {
        let of =
            |text| check_place(text).map(|(url, prefix)| (url.host_str().unwrap().to_string(), prefix.to_string()));
        assert_eq!(of("s3://media").unwrap(), ("media".into(), String::new()));
        assert_eq!(of("s3://media/borealis/results/").unwrap(), ("media".into(), "borealis/results".into()));
        for wrong in [
            "",
            "media",
            "s3://",
            "file:///tmp",
            "http://media",
            "s3://key:secret@media",
            "s3://media?x=y",
            "s3://media/a//b",
        ] {
            let error = of(wrong).unwrap_err().to_string();
            assert!(error.starts_with("--store") && error.contains("s3://BUCKET"), "{wrong}: {error}");
        }
    }
}

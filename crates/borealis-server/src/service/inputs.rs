//! Pictures and clips that clients name: found, made ours, stored.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::Service;
use crate::config::MAX_FILE;
use crate::error::{ApiError, ApiErrorKind};
use crate::media_process::{Readied, Task, check_size};
use crate::store::now_ms;
use crate::types::{Account, AssetRef, FrameAt, Input, MediaKind};
use crate::urls;

/// Most bytes of a picture.
const MAX_PICTURE: u64 = 20 << 20;

impl Service {
    /// Finds an input, has strangers' bytes read by a media process, and stores what comes out. `field` is for messages.
    pub async fn resolve(
        &self,
        account: &Account,
        input: Input,
        kind: MediaKind,
        field: &str,
    ) -> Result<AssetRef, ApiError> {
        let bytes = match input {
            Input::Data { bytes, .. } => bytes,
            Input::File(id) => self.input_file(account, &id, field).await?,
            Input::Url(url) => match self.at_url(account, &url, kind, field).await? {
                Found::Own(asset) => return Ok(asset),
                Found::Bytes(bytes) => bytes,
            },
        };
        let (limit, task) = match kind {
            MediaKind::Image => (MAX_PICTURE, Task::Picture),
            MediaKind::Video => (MAX_FILE, Task::Clip),
        };
        check_size(&bytes, limit, field)?;
        let readied = self.inner.media.read(task, bytes, field).await.inspect_err(|_| {
            self.metrics().media_refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        })?;
        self.look_at(&readied, kind, field).await?;
        self.keep(account, readied, kind).await
    }

    /// A frame of a clip as a picture of its own.
    pub async fn frame(&self, account: &Account, clip: &AssetRef, at: FrameAt) -> Result<AssetRef, ApiError> {
        self.keep(account, self.still(clip, at).await?, MediaKind::Image).await
    }

    /// The PNG of a frame of a clip, to be looked at only.
    pub async fn frame_bytes(&self, clip: &AssetRef, at: FrameAt) -> Result<Bytes, ApiError> {
        self.still(clip, at).await.map(|still| still.bytes)
    }

    async fn still(&self, clip: &AssetRef, at: FrameAt) -> Result<Readied, ApiError> {
        if !clip.mime.starts_with("video/") {
            return Err(ApiError::invalid("video", "this is a picture, not a clip: name a clip"));
        }
        let second = match at {
            FrameAt::Last => None,
            FrameAt::Second(second) if (0.0..=clip.seconds).contains(&second) => Some(second),
            FrameAt::Second(second) => {
                let message = format!("second {second} is outside of the clip: use 0 to {:.3}", clip.seconds);
                return Err(ApiError::invalid("timestamp_s", message));
            }
        };
        let bytes = self.read_asset(clip).await?;
        self.inner.media.read(Task::Frame { second }, bytes, "video").await
    }

    /// A clip up to and with one of its frames (24 a second, from 0): what is extended when the end is not wanted.
    pub async fn cut(&self, account: &Account, clip: &AssetRef, frame: u32) -> Result<AssetRef, ApiError> {
        let last = ((clip.seconds * 24.0).round() as u32).saturating_sub(1);
        if frame >= last {
            let beyond =
                || ApiError::invalid("frame", format!("the clip ends with frame {last}: name that or an earlier one"));
            return if frame == last { Ok(clip.clone()) } else { Err(beyond()) };
        }
        let bytes = self.read_asset(clip).await?;
        let readied = self.inner.media.read(Task::Cut { frames: frame + 1 }, bytes, "video").await?;
        self.keep(account, readied, MediaKind::Video).await
    }

    async fn input_file(&self, account: &Account, id: &str, field: &str) -> Result<Bytes, ApiError> {
        let found = self.read_file(account, id).await;
        found.map(|(_, bytes)| bytes).map_err(|error| ApiError { field: Some(field.into()), ..error })
    }

    async fn at_url(&self, account: &Account, url: &str, kind: MediaKind, field: &str) -> Result<Found, ApiError> {
        if let Some(data) = url.get(..5).filter(|start| start.eq_ignore_ascii_case("data:")).map(|_| &url[5..]) {
            return Ok(Found::Bytes(decode_data(data, field)?));
        }
        let Ok(parsed) = url::Url::parse(url) else {
            return Err(ApiError::invalid(
                field,
                "this is not a URL: use data:, https:, a URL of this server or a file id",
            ));
        };
        if let Some(id) = urls::signed_id(self.secret(), &parsed) {
            return self.own(account, &id, kind, field).await.map(Found::Own);
        }
        if let Some(bytes) = self.public_bytes(&parsed).await? {
            return Ok(Found::Bytes(bytes));
        }
        let fetched = self.inner.fetcher.get(url, kind).await;
        let (_, bytes) = fetched.map_err(|error| ApiError { field: Some(field.into()), ..error })?;
        Ok(Found::Bytes(bytes))
    }

    /// An asset of ours: nothing is decoded.
    async fn own(&self, account: &Account, id: &str, kind: MediaKind, field: &str) -> Result<AssetRef, ApiError> {
        let gone =
            || ApiError { field: Some(field.into()), ..ApiError::not_found("this result has expired: make it again") };
        let (asset, _, _) = self.inner.store.asset(id).await?.ok_or_else(gone)?;
        let start = if kind == MediaKind::Image { "image/" } else { "video/" };
        if !asset.mime.starts_with(start) {
            let message = format!("the URL is that of a {} file: give one of {start}*", asset.mime);
            return Err(ApiError::invalid(field, message));
        }
        self.adopt(account, &asset).await
    }

    /// An asset with the same bytes and a life of its own: it cannot expire, or be deleted, under a job that is made from it.
    pub async fn adopt(&self, account: &Account, asset: &AssetRef) -> Result<AssetRef, ApiError> {
        let copy = AssetRef { id: ulid::Ulid::generate().to_string(), ..asset.clone() };
        self.inner.store.insert_asset(&account.id, &copy, self.input_end()).await?;
        Ok(copy)
    }

    /// Bytes behind a public address of ours.
    async fn public_bytes(&self, url: &url::Url) -> Result<Option<Bytes>, ApiError> {
        let base = self.base_url();
        let own = url::Url::parse(&base).is_ok_and(|base| base.origin() == url.origin());
        let token =
            url.path().strip_prefix("/files/public/").map(|name| name.rsplit_once('.').map_or(name, |(t, _)| t));
        let Some(token) = token.filter(|_| own) else { return Ok(None) };
        match self.inner.store.public_file(token).await? {
            Some(file) => Ok(Some(self.inner.blobs.get(&file.sha256).await?)),
            None => Err(ApiError::not_found("this file has expired, or is not public any more")),
        }
    }

    /// Shows a given picture to the classifier, when there is one.
    async fn look_at(&self, readied: &Readied, kind: MediaKind, field: &str) -> Result<(), ApiError> {
        if !self.inner.moderation.has_classifier() {
            return Ok(());
        }
        let picture = match kind {
            MediaKind::Image => readied.bytes.clone(),
            MediaKind::Video => {
                let task = Task::Frame { second: Some(readied.seconds / 2.0) };
                self.inner.media.read(task, readied.bytes.clone(), field).await?.bytes
            }
        };
        self.inner.moderation.picture(&picture).await.map_err(|blocked| ApiError {
            field: Some(field.into()),
            ..ApiError::new(ApiErrorKind::ContentModerated, blocked.to_string())
        })
    }

    async fn keep(&self, account: &Account, readied: Readied, kind: MediaKind) -> Result<AssetRef, ApiError> {
        let asset = AssetRef {
            id: ulid::Ulid::generate().to_string(),
            size: readied.bytes.len() as u64,
            sha256: self.inner.blobs.put(readied.bytes).await?,
            mime: if kind == MediaKind::Image { "image/png" } else { "video/mp4" }.into(),
            width: readied.width,
            height: readied.height,
            seconds: readied.seconds,
        };
        self.inner.store.insert_asset(&account.id, &asset, self.input_end()).await?;
        Ok(asset)
    }

    /// Inputs outlive every job that may be waiting for them.
    fn input_end(&self) -> i64 {
        now_ms() + 2 * self.config().retention.as_millis() as i64
    }
}

enum Found {
    Own(AssetRef),
    Bytes(Bytes),
}

/// The bytes of `[type][;base64],...`, the part of a data URL after `data:`.
fn decode_data(data: &str, field: &str) -> Result<Bytes, ApiError> {
    let bad = |why: &str| ApiError::invalid(field, format!("the data: URL {why}: use data:TYPE;base64,BYTES"));
    let (head, body) = data.split_once(',').ok_or_else(|| bad("has no comma"))?;
    if !head.to_ascii_lowercase().ends_with(";base64") {
        return Err(bad("is not base64"));
    }
    let clean: std::borrow::Cow<'_, [u8]> = if body.bytes().any(|b| b.is_ascii_whitespace() || b == b'%') {
        let text = percent(body);
        text.into_iter().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<u8>>().into()
    } else {
        body.as_bytes().into()
    };
    STANDARD.decode(&*clean).map(Bytes::from).map_err(|_| bad("is not valid base64"))
}

/// Resolves `%2B` and the like; whatever is no such thing stays.
fn percent(text: &str) -> Vec<u8> {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while at < bytes.len() {
        let code =
            bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_urls() {
        let of = |text: &str| decode_data(text, "image").map(|b| b.to_vec());
        assert_eq!(of("image/png;base64,AP8=").unwrap(), [0, 255]);
        assert_eq!(of("image/png;BASE64,A P\n8%3D").unwrap(), [0, 255]);
        assert!(of(";base64,").unwrap().is_empty());
        for wrong in ["image/png,AP8=", "image/png;base64", "image/png;base64,!!", "image/png;base64,AP8"] {
            assert!(of(wrong).unwrap_err().message.contains("data:"), "{wrong}");
        }
        assert_eq!(percent("a%2Bb%zz%2"), b"a+b%zz%2");
    }
}

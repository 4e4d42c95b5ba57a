//! Pieces of messages that several services share.

use prost_types::Timestamp;
use serde_json::{Value, json};
use tonic::Status;

use super::proto;
use crate::service::{Account, Job, Output, Service, Spec, StoredFile};

/// Entries of a page: as the SDK documents it, and at most.
const PAGE: u32 = 100;
pub(super) const MAX_PAGE: u32 = 1000;

/// Entries of a page; 0 leaves it to the server.
pub(super) fn limit(limit: i32) -> Result<u32, Status> {
    match u32::try_from(limit) {
        Ok(0) => Ok(PAGE),
        Ok(limit) => Ok(limit.min(MAX_PAGE)),
        Err(_) => Err(Status::invalid_argument(format!("limit is {limit}: it must not be negative"))),
    }
}

/// Milliseconds since 1970 as a message.
pub(super) fn timestamp(ms: i64) -> Timestamp {
    Timestamp { seconds: ms.div_euclid(1000), nanos: (ms.rem_euclid(1000) * 1_000_000) as i32 }
}

/// An optional text that is absent when empty: proto3 strings have no absence.
pub(super) fn given(text: &str) -> Option<&str> {
    Some(text).filter(|t| !t.is_empty())
}

/// A picture as REST names it.
pub(super) fn image(content: proto::ImageUrlContent) -> Value {
    use proto::image_url_content::Source;
    match content.source {
        Some(Source::ImageUrl(url)) => json!({ "url": url }),
        Some(Source::FileId(id)) => json!({ "file_id": id }),
        None => json!({}),
    }
}

/// Pictures, in order; none at all is an absent field.
pub(super) fn images(contents: Vec<proto::ImageUrlContent>) -> Option<Value> {
    (!contents.is_empty()).then(|| contents.into_iter().map(image).collect())
}

/// A clip as REST names it.
pub(super) fn video(content: proto::VideoUrlContent) -> Value {
    use proto::video_url_content::Source;
    match content.source {
        Some(Source::Url(url)) => json!({ "url": url }),
        Some(Source::FileId(id)) => json!({ "file_id": id }),
        None => json!({}),
    }
}

/// `storage_options` as REST names them.
pub(super) fn storage(options: proto::StorageOptions) -> Value {
    json!({
        "filename": options.filename,
        "expires_after": options.expires_after,
        "public_url": options.public_url.map(|public| json!({ "expires_after": public.expires_after })),
    })
}

/// Backwards: `storage_options` of a job.
pub(super) fn storage_message(spec: &Spec) -> Option<proto::StorageOptions> {
    let storage = spec.storage.as_ref()?;
    let public_url = storage.public_url.map(|expires_after| proto::PublicUrlOptions { expires_after });
    Some(proto::StorageOptions { filename: storage.filename.clone(), expires_after: storage.expires_after, public_url })
}

/// The file that an output was kept as, and why it is not there where one was asked for.
pub(super) async fn file_output(
    service: &Service,
    account: &Account,
    job: &Job,
    output: &Output,
) -> (Option<proto::FileOutput>, Option<String>) {
    if job.spec.storage.is_none() {
        return (None, None);
    }
    let Some(id) = &output.file_id else { return (None, Some("the result was not kept as a file".into())) };
    match service.file(account, id).await {
        Ok(file) => (Some(file_output_message(&job.spec, file)), None),
        Err(error) => (None, Some(error.message)),
    }
}

fn file_output_message(spec: &Spec, file: StoredFile) -> proto::FileOutput {
    let wanted = spec.storage.as_ref().is_some_and(|s| s.public_url.is_some());
    let missing = wanted && file.public_url.is_none();
    proto::FileOutput {
        file_id: file.id,
        filename: file.filename,
        public_url_expires_at: file.public_url.as_ref().and(file.public_expires_at).map(timestamp),
        public_url: file.public_url,
        expires_at: file.expires_at.map(timestamp),
        public_url_error: missing.then(|| "the file has no public URL".into()),
    }
}

/// Counts of a job.
pub(super) fn usage(job: &Job) -> proto::SamplingUsage {
    let count = |n: u64| i32::try_from(n).unwrap_or(i32::MAX);
    let usage = &job.usage;
    proto::SamplingUsage {
        completion_tokens: count(usage.output_tokens),
        prompt_tokens: count(usage.text_tokens + usage.image_tokens),
        total_tokens: count(usage.text_tokens + usage.image_tokens + usage.output_tokens),
        prompt_text_tokens: count(usage.text_tokens),
        prompt_image_tokens: count(usage.image_tokens),
        cost_in_usd_ticks: Some(job.cost_ticks),
        ..Default::default()
    }
}

/// An enum's value of the wire, refused when it is not one of ours.
pub(super) fn known<E: TryFrom<i32>>(field: &str, value: i32) -> Result<E, Status> {
    E::try_from(value).map_err(|_| Status::invalid_argument(format!("{field} is {value}: this value is not known")))
}

/// The ratio that is meant by the name of an enum's value: `IMG_ASPECT_RATIO_19_5_9` is `19.5:9`.
pub(super) fn ratio(name: &str, prefix: &str) -> Option<String> {
    let rest = name.strip_prefix(prefix)?;
    match rest {
        "INVALID" | "UNSPECIFIED" => None,
        "AUTO" => Some("auto".into()),
        "9_19_5" => Some("9:19.5".into()),
        "19_5_9" => Some("19.5:9".into()),
        rest => Some(rest.replace('_', ":")),
    }
}

/// Backwards: the name of an enum's value that means this ratio.
pub(super) fn ratio_name(ratio: &str, prefix: &str) -> String {
    format!("{prefix}{}", ratio.to_uppercase().replace([':', '.'], "_"))
}

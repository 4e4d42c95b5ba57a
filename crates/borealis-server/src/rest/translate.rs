//! From the bodies of the xAI dialect to [`Spec`]: ranges, names, inputs.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::body::{Media, Payload, Source};
use super::requests::{
    ClipRequest, ImageRequest, LocalRequest, OutputRequest, PublicUrl, StorageRequest, VideoRequest,
};
use crate::service::{
    Account, ApiError, AssetRef, Dialect, FrameAt, ImageFormat, JobKind, MediaKind, Service, Spec, StorageOptions,
};

const IMAGE_RATIOS: &[&str] =
    &["1:1", "3:4", "4:3", "9:16", "16:9", "2:3", "3:2", "9:19.5", "19.5:9", "9:20", "20:9", "1:2", "2:1", "auto"];
pub(super) const VIDEO_RATIOS: &[&str] = &["1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "auto"];
/// Longest life of a file, seconds, and shortest of a public URL.
pub(super) const MAX_LIFE: i64 = 2_592_000;
pub(super) const MIN_PUBLIC: i64 = 3600;
/// Pictures of one edit.
const MAX_EDIT_IMAGES: usize = 3;
const MAX_REFERENCES: usize = 7;
/// Longest prompt, characters.
const MAX_PROMPT: usize = 10_000;
/// Longest clip that can be edited, seconds; a frame more than xAI's 8.7, for rounding.
const MAX_EDIT_SECONDS: f64 = 8.75;
/// Clips that can be extended, seconds; with the same tolerance.
const EXTEND_SECONDS: RangeInclusive<f64> = 1.95..=30.05;

/// The names of fields that clients of other APIs use.
const ALIASES: &[(&str, &str)] = &[
    ("seconds", "duration"),
    ("image_url", "image"),
    ("video_url", "video"),
    ("image_urls", "images"),
    ("reference_image_urls", "reference_images"),
    ("cfg_scale", "guidance"),
    ("guidance_scale", "guidance"),
    ("folder", "folder_id"),
    ("callback_url", "webhook_url"),
];

/// A number in its range.
pub(super) fn within<T>(field: &str, value: Option<i128>, range: RangeInclusive<T>) -> Result<Option<T>, ApiError>
where
    T: Copy + Into<i128> + TryFrom<i128> + std::fmt::Display,
{
    let Some(value) = value else { return Ok(None) };
    let out = || ApiError::invalid(field, format!("{value} is out of range: use {} to {}", range.start(), range.end()));
    if !((*range.start()).into()..=(*range.end()).into()).contains(&value) {
        return Err(out());
    }
    T::try_from(value).map(Some).map_err(|_| out())
}

/// A name out of a list; the empty string is absent.
pub(super) fn one_of(field: &str, value: Option<String>, known: &[&str]) -> Result<Option<String>, ApiError> {
    let Some(value) = value.filter(|v| !v.trim().is_empty()) else { return Ok(None) };
    let wanted = value.trim().to_ascii_lowercase();
    if known.contains(&wanted.as_str()) {
        return Ok(Some(wanted));
    }
    let shown: String = value.chars().take(40).collect();
    Err(ApiError::invalid(field, format!("\"{shown}\" is not known: use one of {}", known.join(", "))))
}

/// Checks the prompt; `needed` says why it cannot be empty.
pub(super) fn prompt(text: &str, needed: Option<&str>) -> Result<(), ApiError> {
    let length = text.chars().count();
    if length > MAX_PROMPT {
        return Err(ApiError::invalid("prompt", format!("{length} characters are too many: use at most {MAX_PROMPT}")));
    }
    match needed {
        Some(why) if text.trim().is_empty() => Err(ApiError::invalid("prompt", format!("it is empty: {why}"))),
        _ => Ok(()),
    }
}

fn unsupported(field: &str, value: &Option<Value>) -> Result<(), ApiError> {
    let empty = |v: &Value| v.as_array().is_some_and(Vec::is_empty) || v.as_object().is_some_and(|m| m.is_empty());
    match value {
        Some(value) if !empty(value) => {
            Err(ApiError::invalid(field, "it is not supported by this server's models: leave it out"))
        }
        _ => Ok(()),
    }
}

fn storage(options: Option<StorageRequest>) -> Result<Option<StorageOptions>, ApiError> {
    let Some(options) = options else { return Ok(None) };
    if options.filename.trim().is_empty() || options.filename.chars().count() > 255 {
        return Err(ApiError::invalid("storage_options.filename", "give a name of 1 to 255 characters"));
    }
    let public_url = match options.public_url {
        None | Some(PublicUrl::Flag(false)) => None,
        Some(PublicUrl::Flag(true)) => Some(None),
        Some(PublicUrl::Life { expires_after }) => {
            Some(within("storage_options.public_url.expires_after", expires_after, MIN_PUBLIC..=MAX_LIFE)?)
        }
    };
    let expires_after = within("storage_options.expires_after", options.expires_after, 1..=MAX_LIFE)?;
    Ok(Some(StorageOptions { filename: options.filename, expires_after, public_url }))
}

fn upload(output: Option<OutputRequest>) -> Option<String> {
    output?.upload_url.filter(|url| !url.is_empty())
}

/// Fields that are ours.
fn local(spec: &mut Spec, payload: &Payload) -> Result<(), ApiError> {
    let local: LocalRequest = payload.parse()?;
    spec.seed = within("seed", local.seed.filter(|s| *s >= 0), 0..=u64::MAX)?;
    spec.guidance = match local.guidance {
        Some(g) if !(0.0..=100.0).contains(&g) => {
            return Err(ApiError::invalid("guidance", format!("{g} is out of range: use 0 to 100; 1 is off")));
        }
        guidance => guidance.map(|g| g as f32),
    };
    // A preset of the request wins over what `quality` means.
    if let Some(preset) = one_of("preset", local.preset, &["quality", "speed"])? {
        spec.preset = Some(preset);
    }
    spec.webhook_url = local.webhook_url.filter(|u| !u.is_empty());
    spec.folder = local.folder_id.filter(|f| !f.is_empty());
    Ok(())
}

/// Makes a picture or clip of the request an asset.
pub(super) async fn resolve(
    service: &Service,
    account: &Account,
    payload: &Payload,
    media: &Media,
    kind: MediaKind,
    field: &str,
) -> Result<AssetRef, ApiError> {
    // A frame can only be taken out of a clip.
    let wanted = if media.frame.is_some() { MediaKind::Video } else { kind };
    let asset = match media.input(&payload.files, field)? {
        Some(input) => service.resolve(account, input, wanted, field).await?,
        None => of_job(service, account, media, field).await?,
    };
    let is_clip = asset.mime.starts_with("video/");
    match (kind, media.frame) {
        (MediaKind::Image, frame) if is_clip => service.frame(account, &asset, frame.unwrap_or(FrameAt::Last)).await,
        (MediaKind::Video, _) if !is_clip => Err(ApiError::invalid(field, "it is a picture: give a clip")),
        _ => Ok(asset),
    }
}

/// The first output of an earlier job.
async fn of_job(service: &Service, account: &Account, media: &Media, field: &str) -> Result<AssetRef, ApiError> {
    let Source::Job(id) = &media.source else { return Err(ApiError::invalid(field, "give a url, a file_id or an id")) };
    let job = service.job(account, super::plain_id(id)).await?;
    let output = job.outputs.first().ok_or_else(|| {
        let state = job.state.name();
        ApiError::invalid(
            field,
            format!("the generation \"{id}\" has nothing to take ({state}): wait until it is done"),
        )
    })?;
    service.adopt(account, &output.asset).await
}

async fn resolve_all(
    service: &Service,
    account: &Account,
    payload: &Payload,
    list: &[Media],
    field: &str,
) -> Result<Vec<AssetRef>, ApiError> {
    let mut assets = Vec::with_capacity(list.len());
    for (i, media) in list.iter().enumerate() {
        assets.push(resolve(service, account, payload, media, MediaKind::Image, &format!("{field}[{i}]")).await?);
    }
    Ok(assets)
}

/// Whether pictures go into the answer.
pub(super) fn wants_base64(format: Option<String>) -> Result<bool, ApiError> {
    Ok(one_of("response_format", format, &["url", "b64_json"])?.as_deref() == Some("b64_json"))
}

/// `images/generations` and `images/edits`. `edit`: a picture must be given.
pub(super) async fn image(
    service: &Service,
    account: &Account,
    mut payload: Payload,
    edit: bool,
) -> Result<Spec, ApiError> {
    payload.rename(ALIASES);
    let request: ImageRequest = payload.parse()?;
    prompt(&request.prompt, Some("say what to make"))?;
    let n = within("n", request.n, 1..=10u32)?.unwrap_or(1);
    let aspect = one_of("aspect_ratio", request.aspect_ratio, IMAGE_RATIOS)?.filter(|a| a != "auto");
    let resolution = one_of("resolution", request.resolution, &["1k", "2k"])?;
    let quality = one_of("quality", request.quality, &["low", "medium", "high", "auto", "standard", "hd"])?;
    let base64 = wants_base64(request.response_format)?;
    let storage = storage(request.storage_options)?;

    if !request.image.is_empty() && !request.images.is_empty() {
        return Err(ApiError::invalid("images", "image and images exclude each other: use one of them"));
    }
    let (list, field) = if request.images.is_empty() { (request.image, "image") } else { (request.images, "images") };
    let single = request.model.as_deref().is_some_and(|m| m.starts_with("grok-imagine-image-pro"));
    let most = if single { 1 } else { MAX_EDIT_IMAGES };
    if list.len() > most {
        return Err(ApiError::invalid(field, format!("{} pictures are too many: give at most {most}", list.len())));
    }
    if edit && list.is_empty() {
        return Err(ApiError::invalid("image", "there is no picture to edit: give image or images"));
    }
    let kind = if list.len() == 1 { JobKind::EditImage } else { JobKind::Image };
    let model = service.resolve_model(request.model.as_deref().filter(|m| !m.is_empty()), kind)?;
    let mut spec = Spec::new(kind, model.id.clone(), request.prompt);
    local(&mut spec, &payload)?;
    spec.n = n;
    spec.storage = storage;
    spec.user = request.user;
    if spec.preset.is_none() {
        spec.preset = quality.map(|q| if q == "low" { "speed" } else { "quality" }.to_string());
    }
    if request.output_format.is_some_and(|f| f.eq_ignore_ascii_case("png")) {
        spec.format = ImageFormat::Png;
    }
    // OpenAI's size says both at once.
    let size = request.size.filter(|_| aspect.is_none() && resolution.is_none());
    spec.resolution = size.and_then(|s| pixels(&s)).map(|(w, h)| format!("{w}x{h}")).or(resolution);
    // An edited picture keeps its own ratio, as xAI's does.
    spec.aspect_ratio = aspect.filter(|_| kind != JobKind::EditImage);
    spec.extra = json!({"base64": base64});
    let mut assets = resolve_all(service, account, &payload, &list, field).await?;
    match kind {
        JobKind::EditImage => spec.image = assets.pop(),
        _ => spec.references = assets,
    }
    Ok(spec)
}

/// `1024x1536`, each side 64 to 2,048.
pub(super) fn pixels(size: &str) -> Option<(u32, u32)> {
    let (w, h) = size.split_once(['x', 'X', '*'])?;
    let side = |text: &str| text.trim().parse::<u32>().ok().filter(|side| (64..=2048).contains(side));
    Some((side(w)?, side(h)?))
}

/// `videos/generations`.
pub(super) async fn video(service: &Service, account: &Account, mut payload: Payload) -> Result<Spec, ApiError> {
    payload.rename(ALIASES);
    payload.rename(&[("images", "reference_images")]);
    let request: VideoRequest = payload.parse()?;
    let text = request.prompt.unwrap_or_default();
    prompt(&text, request.image.is_none().then_some("say what to make, or give a first frame as image"))?;
    unsupported("last_frame", &request.last_frame)?;
    unsupported("keyframes", &request.keyframes)?;
    unsupported("reference_audios", &request.reference_audios)?;
    let model = service.resolve_model(request.model.as_deref().filter(|m| !m.is_empty()), JobKind::Video)?;
    if request.image.is_some() && !request.reference_images.is_empty() {
        return Err(ApiError::invalid("reference_images", "image and reference_images exclude each other: use one"));
    }
    let seconds = within("duration", request.duration, 1..=15u32)?.unwrap_or(8);
    let resolution = one_of("resolution", request.resolution, &["480p", "720p", "1080p"])?;
    limits(&model.id, request.reference_images.len(), seconds, resolution.as_deref())?;
    let mut spec = Spec::new(JobKind::Video, model.id.clone(), text);
    local(&mut spec, &payload)?;
    spec.n = within("n", request.n, 1..=4u32)?.unwrap_or(1);
    spec.seconds = Some(seconds as f32);
    spec.aspect_ratio = one_of("aspect_ratio", request.aspect_ratio, VIDEO_RATIOS)?.filter(|a| a != "auto");
    spec.resolution = resolution;
    spec.audio = request.generate_audio.unwrap_or(true);
    spec.storage = storage(request.storage_options)?;
    spec.upload_url = upload(request.output);
    spec.user = request.user;
    if let Some(image) = &request.image {
        spec.image = Some(resolve(service, account, &payload, image, MediaKind::Image, "image").await?);
    }
    spec.references = resolve_all(service, account, &payload, &request.reference_images, "reference_images").await?;
    Ok(spec)
}

/// What reference pictures and xAI's first video model do not go together with.
fn limits(model: &str, references: usize, seconds: u32, resolution: Option<&str>) -> Result<(), ApiError> {
    let first_model = model == "grok-imagine-video";
    if references > MAX_REFERENCES {
        let message = format!("{references} pictures are too many: give at most {MAX_REFERENCES}");
        return Err(ApiError::invalid("reference_images", message));
    }
    if references > 0 && first_model && seconds > 10 {
        // In xAI's own words.
        let message = format!("Duration {seconds}s exceeds the maximum allowed for reference-to-video, which is 10s.");
        return Err(ApiError::invalid("duration", message));
    }
    if resolution == Some("1080p") && references > 0 {
        return Err(ApiError::invalid("resolution", "1080p is not made from reference pictures: use 720p"));
    }
    if resolution == Some("1080p") && first_model {
        let message = "grok-imagine-video makes at most 720p: use 720p, or the model grok-imagine-video-1.5";
        return Err(ApiError::invalid("resolution", message));
    }
    Ok(())
}

/// `videos/edits`.
pub(super) async fn edit(service: &Service, account: &Account, mut payload: Payload) -> Result<Spec, ApiError> {
    let (request, mut spec) = from_clip(service, &mut payload, JobKind::EditVideo, "say what changes")?;
    let clip = resolve(service, account, &payload, &request.video, MediaKind::Video, "video").await?;
    if clip.seconds > MAX_EDIT_SECONDS {
        let message = format!("the clip has {:.1} s: give one of at most 8.7 s", clip.seconds);
        return Err(ApiError::invalid("video", message));
    }
    spec.video = Some(clip);
    Ok(spec)
}

/// `videos/extensions`.
pub(super) async fn extension(service: &Service, account: &Account, mut payload: Payload) -> Result<Spec, ApiError> {
    let (request, mut spec) = from_clip(service, &mut payload, JobKind::Extend, "say what happens next")?;
    spec.seconds = Some(within("duration", request.duration, 1..=10u32)?.unwrap_or(6) as f32);
    let frame = within("frame", request.frame, 0..=720u32)?;
    let mut clip = resolve(service, account, &payload, &request.video, MediaKind::Video, "video").await?;
    if !EXTEND_SECONDS.contains(&clip.seconds) {
        let message = format!("the clip has {:.1} s: give one of 2 to 30 s", clip.seconds);
        return Err(ApiError::invalid("video", message));
    }
    if let Some(frame) = frame {
        clip = service.cut(account, &clip, frame).await?;
    }
    spec.video = Some(clip);
    Ok(spec)
}

/// What edits and extensions have in common.
fn from_clip(
    service: &Service,
    payload: &mut Payload,
    kind: JobKind,
    needed: &str,
) -> Result<(ClipRequest, Spec), ApiError> {
    payload.rename(ALIASES);
    let mut request: ClipRequest = payload.parse()?;
    prompt(&request.prompt, Some(needed))?;
    let model = service.resolve_model(request.model.as_deref().filter(|m| !m.is_empty()), kind)?;
    let mut spec = Spec::new(kind, model.id.clone(), std::mem::take(&mut request.prompt));
    local(&mut spec, payload)?;
    spec.n = within("n", request.n, 1..=4u32)?.unwrap_or(1);
    spec.storage = storage(request.storage_options.take())?;
    spec.upload_url = upload(request.output.take());
    spec.user = request.user.take();
    Ok((request, spec))
}

/// The dialect's own mark on a spec.
pub(super) fn marked(mut spec: Spec, dialect: Dialect) -> Spec {
    spec.dialect = dialect;
    spec
}

//! `xai_api.Image`: one call that answers when the pictures are there.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use super::proto::image_server::Image;
use super::proto::{
    self, GenerateImageRequest, GeneratedImage, ImageAspectRatio, ImageQuality, ImageResolution, ImageResponse,
};
use super::{account, convert, idempotency, seed, spec, status};
use crate::service::{Account, CancelOnDrop, Job, JobState, Output, Service, Spec};

/// The same request in REST.
pub(super) const PATH: &str = "images/generations";
/// How long one look at a job waits for it to end.
const LOOK: Duration = Duration::from_secs(30);
/// Names of the enum's values before the ratio.
const RATIO: &str = "IMG_ASPECT_RATIO_";

#[tonic::async_trait]
impl Image for Service {
    async fn generate_image(&self, request: Request<GenerateImageRequest>) -> Result<Response<ImageResponse>, Status> {
        let account = account(&request)?;
        let seed = seed(&request)?;
        let key = idempotency(&request, "Image.GenerateImage")?;
        let spec = spec(self, &account, PATH, body(request.into_inner())?, seed).await?;
        let repeatable = key.is_some();
        let id = self.submit(&account, spec, key).await?;
        let guard = CancelOnDrop::new(self, &account, &id, repeatable);
        let job = ended(self, &account, &id).await?;
        guard.release();
        Ok(Response::new(response(self, &account, &job).await?))
    }
}

/// The job when it has ended.
async fn ended(service: &Service, account: &Account, id: &str) -> Result<Job, Status> {
    loop {
        let job = service.wait(account, id, LOOK).await?;
        if job.state.is_final() {
            return Ok(job);
        }
    }
}

/// The request as the body of `POST /v1/images/generations`, which knows all rules.
pub(super) fn body(message: GenerateImageRequest) -> Result<Value, Status> {
    let format: proto::ImageFormat = convert::known("format", message.format)?;
    let aspect: ImageAspectRatio = convert::known("aspect_ratio", message.aspect_ratio.unwrap_or_default())?;
    let resolution: ImageResolution = convert::known("resolution", message.resolution.unwrap_or_default())?;
    let quality: ImageQuality = convert::known("quality", message.quality.unwrap_or_default())?;
    Ok(json!({
        "prompt": message.prompt,
        "model": convert::given(&message.model),
        "n": message.n,
        "user": convert::given(&message.user),
        "response_format": if format == proto::ImageFormat::ImgFormatBase64 { "b64_json" } else { "url" },
        "aspect_ratio": convert::ratio(aspect.as_str_name(), RATIO),
        "resolution": match resolution {
            ImageResolution::ImgResolutionInvalid => None,
            ImageResolution::ImgResolution1k => Some("1k"),
            ImageResolution::ImgResolution2k => Some("2k"),
        },
        "quality": match quality {
            ImageQuality::ImgQualityInvalid => None,
            ImageQuality::ImgQualityLow => Some("low"),
            ImageQuality::ImgQualityMedium => Some("medium"),
            ImageQuality::ImgQualityHigh => Some("high"),
        },
        "image": message.image.map(convert::image),
        "images": convert::images(message.images),
        "storage_options": message.storage_options.map(convert::storage),
    }))
}

/// Whether a job's pictures go into the answer; otherwise their URLs do.
pub(super) fn wants_base64(job: &Job) -> bool {
    job.spec.extra["base64"] == true
}

/// What a job that has ended answers: exactly as many pictures as were asked for, moderated ones without content.
pub(super) async fn response(service: &Service, account: &Account, job: &Job) -> Result<ImageResponse, Status> {
    match job.state {
        JobState::Done | JobState::Moderated => {}
        JobState::Expired => return Err(Status::not_found("the pictures of this job have expired")),
        _ => return Err(status::of_job(&status::job_error(job))),
    }
    let mut images = Vec::with_capacity(job.spec.n as usize);
    for (i, output) in job.outputs.iter().enumerate() {
        images.push(picture(service, account, job, i, output).await?);
    }
    images.resize_with(job.spec.n as usize, GeneratedImage::default);
    Ok(ImageResponse { images, model: job.spec.model.clone(), usage: Some(convert::usage(job)) })
}

async fn picture(
    service: &Service,
    account: &Account,
    job: &Job,
    index: usize,
    output: &Output,
) -> Result<GeneratedImage, Status> {
    use proto::generated_image::Image;
    let image = if wants_base64(job) {
        let bytes = service.read_asset(&output.asset).await?;
        Image::Base64(format!("data:{};base64,{}", output.asset.mime, STANDARD.encode(bytes)))
    } else {
        Image::Url(service.output_url(job, index))
    };
    let (file_output, storage_error) = convert::file_output(service, account, job, output).await;
    Ok(GeneratedImage { image: Some(image), respect_moderation: true, file_output, storage_error })
}

/// Backwards: the request of a stored job, without its inputs.
pub(super) fn request(spec: &Spec) -> GenerateImageRequest {
    let format = if spec.extra["base64"] == true {
        proto::ImageFormat::ImgFormatBase64
    } else {
        proto::ImageFormat::ImgFormatUrl
    };
    let ratio =
        spec.aspect_ratio.as_deref().and_then(|r| ImageAspectRatio::from_str_name(&convert::ratio_name(r, RATIO)));
    let resolution = match spec.resolution.as_deref() {
        Some("1k") => Some(ImageResolution::ImgResolution1k),
        Some("2k") => Some(ImageResolution::ImgResolution2k),
        _ => None,
    };
    GenerateImageRequest {
        prompt: spec.prompt.clone(),
        model: spec.model.clone(),
        n: Some(spec.n as i32),
        user: spec.user.clone().unwrap_or_default(),
        format: format.into(),
        aspect_ratio: ratio.map(Into::into),
        resolution: resolution.map(Into::into),
        storage_options: convert::storage_message(spec),
        ..Default::default()
    }
}

//! `xai_api.Video`: start, extend, ask.

use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use super::proto::video_server::Video;
use super::proto::{
    DeferredStatus, ExtendVideoRequest, GenerateVideoRequest, GeneratedVideo, GetDeferredVideoRequest,
    GetDeferredVideoResponse, StartDeferredResponse, VideoAspectRatio, VideoError, VideoResolution, VideoResponse,
};
use super::{account, convert, idempotency, seed, spec, status};
use crate::service::{Account, Job, JobState, Service, Spec};

/// The same requests in REST.
pub(super) const GENERATE: &str = "videos/generations";
const EDIT: &str = "videos/edits";
pub(super) const EXTEND: &str = "videos/extensions";
/// Names of the enum's values before the ratio.
const RATIO: &str = "VIDEO_ASPECT_RATIO_";

#[tonic::async_trait]
impl Video for Service {
    async fn generate_video(
        &self,
        request: Request<GenerateVideoRequest>,
    ) -> Result<Response<StartDeferredResponse>, Status> {
        let account = account(&request)?;
        let seed = seed(&request)?;
        let key = idempotency(&request, "Video.GenerateVideo")?;
        let (path, body) = body(request.into_inner())?;
        let spec = spec(self, &account, path, body, seed).await?;
        let request_id = self.submit(&account, spec, key).await?;
        Ok(Response::new(StartDeferredResponse { request_id }))
    }

    async fn extend_video(
        &self,
        request: Request<ExtendVideoRequest>,
    ) -> Result<Response<StartDeferredResponse>, Status> {
        let account = account(&request)?;
        let seed = seed(&request)?;
        let key = idempotency(&request, "Video.ExtendVideo")?;
        let spec = spec(self, &account, EXTEND, extension_body(request.into_inner())?, seed).await?;
        let request_id = self.submit(&account, spec, key).await?;
        Ok(Response::new(StartDeferredResponse { request_id }))
    }

    async fn get_deferred_video(
        &self,
        request: Request<GetDeferredVideoRequest>,
    ) -> Result<Response<GetDeferredVideoResponse>, Status> {
        let account = account(&request)?;
        let id = request.into_inner().request_id;
        let job = self.job(&account, &id).await?;
        if job.spec.kind.is_still() {
            return Err(Status::not_found(format!("no video has the id {id:?}")));
        }
        let status = deferred_status(job.state);
        let response = match status {
            DeferredStatus::Expired => None,
            _ => Some(response(self, &account, &job).await),
        };
        Ok(Response::new(GetDeferredVideoResponse { status: status.into(), response }))
    }
}

pub(super) fn deferred_status(state: JobState) -> DeferredStatus {
    match state {
        JobState::Queued | JobState::Running => DeferredStatus::Pending,
        // A blocked clip is done, without a URL.
        JobState::Done | JobState::Moderated => DeferredStatus::Done,
        JobState::Failed | JobState::Cancelled => DeferredStatus::Failed,
        JobState::Expired => DeferredStatus::Expired,
    }
}

/// The request as a body of REST, which knows all rules, and its path there. The mode is in which inputs are given.
pub(super) fn body(message: GenerateVideoRequest) -> Result<(&'static str, Value), Status> {
    let aspect: VideoAspectRatio = convert::known("aspect_ratio", message.aspect_ratio.unwrap_or_default())?;
    let resolution: VideoResolution = convert::known("resolution", message.resolution.unwrap_or_default())?;
    if message.video.is_some() && (message.image.is_some() || !message.reference_images.is_empty()) {
        return Err(Status::invalid_argument(
            "video: it is given together with pictures: give a video to edit, or pictures",
        ));
    }
    let path = if message.video.is_some() { EDIT } else { GENERATE };
    let body = json!({
        "prompt": message.prompt,
        "model": convert::given(&message.model),
        "duration": message.duration,
        "aspect_ratio": convert::ratio(aspect.as_str_name(), RATIO),
        "resolution": lines(resolution),
        "video": message.video.map(convert::video),
        "image": message.image.map(convert::image),
        "reference_images": convert::images(message.reference_images),
        "last_frame": message.last_frame.map(convert::image),
        "keyframes": message.keyframes.iter().map(|k| json!({"timestamp_s": k.timestamp_s})).collect::<Vec<_>>(),
        "reference_audios": message.reference_audios.iter().map(|_| json!({"voice_id": ""})).collect::<Vec<_>>(),
        "generate_audio": message.generate_audio,
        "storage_options": message.storage_options.map(convert::storage),
    });
    Ok((path, body))
}

/// A continuation as the body of `POST /v1/videos/extensions`.
pub(super) fn extension_body(message: ExtendVideoRequest) -> Result<Value, Status> {
    let Some(video) = message.video else {
        return Err(Status::invalid_argument("video: it is missing: name the video to extend"));
    };
    Ok(json!({
        "prompt": message.prompt,
        "model": convert::given(&message.model),
        "duration": message.duration,
        "video": convert::video(video),
        "storage_options": message.storage_options.map(convert::storage),
    }))
}

fn lines(resolution: VideoResolution) -> Option<&'static str> {
    match resolution {
        VideoResolution::Unspecified => None,
        VideoResolution::VideoResolution480p => Some("480p"),
        VideoResolution::VideoResolution720p => Some("720p"),
        VideoResolution::VideoResolution1080p => Some("1080p"),
    }
}

/// A job as a message: its clip when it is done, its error when it failed, its progress meanwhile.
pub(super) async fn response(service: &Service, account: &Account, job: &Job) -> VideoResponse {
    let mut response =
        VideoResponse { model: job.spec.model.clone(), usage: Some(convert::usage(job)), ..Default::default() };
    match deferred_status(job.state) {
        DeferredStatus::Pending => response.progress = i32::from(job.progress.min(99)),
        DeferredStatus::Done => {
            response.video = Some(clip(service, account, job).await);
            response.progress = 100;
        }
        _ => {
            let error = status::job_error(job);
            response.error = Some(VideoError { code: error.code, message: error.message });
        }
    }
    response
}

async fn clip(service: &Service, account: &Account, job: &Job) -> GeneratedVideo {
    let Some(output) = job.outputs.first() else { return GeneratedVideo::default() };
    let (file_output, storage_error) = convert::file_output(service, account, job, output).await;
    GeneratedVideo {
        url: service.output_url(job, 0),
        duration: output.asset.seconds.round() as i32,
        respect_moderation: true,
        file_output,
        storage_error,
    }
}

/// Backwards: the request of a stored job, without its inputs.
pub(super) fn request(spec: &Spec) -> GenerateVideoRequest {
    let ratio =
        spec.aspect_ratio.as_deref().and_then(|r| VideoAspectRatio::from_str_name(&convert::ratio_name(r, RATIO)));
    let resolution = [
        VideoResolution::VideoResolution480p,
        VideoResolution::VideoResolution720p,
        VideoResolution::VideoResolution1080p,
    ]
    .into_iter()
    .find(|r| lines(*r) == spec.resolution.as_deref());
    GenerateVideoRequest {
        prompt: spec.prompt.clone(),
        model: spec.model.clone(),
        duration: spec.seconds.map(|s| s.round() as i32),
        aspect_ratio: ratio.map(Into::into),
        resolution: resolution.map(Into::into),
        generate_audio: Some(spec.audio),
        storage_options: convert::storage_message(spec),
        ..Default::default()
    }
}

/// Backwards: the request of a stored continuation, without its clip.
pub(super) fn extension_request(spec: &Spec) -> ExtendVideoRequest {
    ExtendVideoRequest {
        prompt: spec.prompt.clone(),
        model: spec.model.clone(),
        duration: spec.seconds.map(|s| s.round() as i32),
        storage_options: convert::storage_message(spec),
        ..Default::default()
    }
}

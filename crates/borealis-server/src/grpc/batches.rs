//! `xai_api.BatchMgmt`: many requests in one, each of them a job.

use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::proto::batch_mgmt_server::BatchMgmt;
use super::proto::batch_request_metadata::State;
use super::proto::{
    self, AddBatchRequestsRequest, BatchRequest, BatchRequestMetadata, BatchResult, BatchResultData,
    CancelBatchRequest, CreateBatchRequest, GetBatchRequest, GetBatchRequestResultRequest,
    GetBatchRequestResultResponse, ListBatchRequestMetadataRequest, ListBatchRequestMetadataResponse,
    ListBatchResultsRequest, ListBatchResultsResponse, ListBatchesRequest, ListBatchesResponse, batch_request,
    batch_result, batch_result_data,
};
use super::{account, convert, google, image, status, video};
use crate::rest;
use crate::service::{
    Account, ApiError, ApiErrorKind, Batch, BatchItem, BatchLine, Job, JobKind, JobState, Page, Service,
};

/// Most bytes of results in one page: a message has at most 20 MiB, and pictures may be inside.
const MAX_PAGE_BYTES: usize = 12 << 20;
/// What chat requests of a batch are told to be.
const CHAT: &str = "chat/completions";
/// Most requests of one call.
const MAX_REQUESTS: usize = 1000;

#[tonic::async_trait]
impl BatchMgmt for Service {
    async fn create_batch(&self, request: Request<CreateBatchRequest>) -> Result<Response<proto::Batch>, Status> {
        let account = account(&request)?;
        let message = request.into_inner();
        let made = match convert::given(&message.input_file_id) {
            Some(file) => rest::batch_of_file(self, &account, &message.name, file).await?,
            None => Service::create_batch(self, &account, &message.name, None).await?,
        };
        Ok(Response::new(batch(made)))
    }

    async fn get_batch(&self, request: Request<GetBatchRequest>) -> Result<Response<proto::Batch>, Status> {
        let account = account(&request)?;
        Ok(Response::new(batch(self.batch(&account, &request.get_ref().batch_id).await?)))
    }

    async fn list_batches(
        &self,
        request: Request<ListBatchesRequest>,
    ) -> Result<Response<ListBatchesResponse>, Status> {
        let account = account(&request)?;
        let message = request.into_inner();
        let page =
            Service::list_batches(self, &account, convert::limit(message.limit)?, token(&message.pagination_token))
                .await?;
        let batches = page.items.into_iter().map(batch).collect();
        Ok(Response::new(ListBatchesResponse { batches, pagination_token: page.next }))
    }

    async fn cancel_batch(&self, request: Request<CancelBatchRequest>) -> Result<Response<proto::Batch>, Status> {
        let account = account(&request)?;
        Ok(Response::new(batch(Service::cancel_batch(self, &account, &request.get_ref().batch_id).await?)))
    }

    async fn add_batch_requests(&self, request: Request<AddBatchRequestsRequest>) -> Result<Response<()>, Status> {
        let account = account(&request)?;
        let message = request.into_inner();
        let count = message.batch_requests.len();
        if !(1..=MAX_REQUESTS).contains(&count) {
            return Err(Status::invalid_argument(format!(
                "batch_requests has {count} entries: 1 to {MAX_REQUESTS} are allowed"
            )));
        }
        // Before inputs are fetched: is there such a batch?
        self.batch(&account, &message.batch_id).await?;
        self.may_start(&account, count)?;
        let mut lines = Vec::with_capacity(count);
        for request in message.batch_requests {
            lines.push(line(self, &account, request).await);
        }
        self.add_to_batch(&account, &message.batch_id, lines).await?;
        Ok(Response::new(()))
    }

    async fn list_batch_request_metadata(
        &self,
        request: Request<ListBatchRequestMetadataRequest>,
    ) -> Result<Response<ListBatchRequestMetadataResponse>, Status> {
        let account = account(&request)?;
        let message = request.into_inner();
        let wanted = message.status.iter().map(|s| convert::known("status", *s)).collect::<Result<Vec<State>, _>>()?;
        let page = items(self, &account, &message.batch_id, message.limit, &message.pagination_token).await?;
        let entries = page.items.iter().map(metadata);
        let batch_request_metadata = entries.filter(|m| wanted.is_empty() || wanted.contains(&m.state())).collect();
        Ok(Response::new(ListBatchRequestMetadataResponse { batch_request_metadata, pagination_token: page.next }))
    }

    async fn list_batch_results(
        &self,
        request: Request<ListBatchResultsRequest>,
    ) -> Result<Response<ListBatchResultsResponse>, Status> {
        let account = account(&request)?;
        let message = request.into_inner();
        let page = items(self, &account, &message.batch_id, message.limit, &message.pagination_token).await?;
        let begin: usize = token(&message.pagination_token).and_then(|t| t.parse().ok()).unwrap_or(0);
        let (mut results, mut bytes) = (Vec::new(), 0);
        for (n, item) in page.items.iter().enumerate() {
            let Some(result) = result(self, &account, item).await? else { continue };
            bytes += prost::Message::encoded_len(&result);
            if bytes > MAX_PAGE_BYTES && !results.is_empty() {
                // Tokens are places in the batch.
                let pagination_token = Some((begin + n).to_string());
                return Ok(Response::new(ListBatchResultsResponse { results, pagination_token }));
            }
            results.push(result);
        }
        Ok(Response::new(ListBatchResultsResponse { results, pagination_token: page.next }))
    }

    async fn get_batch_request_result(
        &self,
        request: Request<GetBatchRequestResultRequest>,
    ) -> Result<Response<GetBatchRequestResultResponse>, Status> {
        let account = account(&request)?;
        let message = request.get_ref();
        let item = self.batch_item(&account, &message.batch_id, &message.batch_request_id).await?;
        let result = result(self, &account, &item).await?;
        Ok(Response::new(GetBatchRequestResultResponse { request: item.job.as_ref().map(|j| asked(&item, j)), result }))
    }
}

fn token(token: &Option<String>) -> Option<&str> {
    token.as_deref().and_then(convert::given)
}

async fn items(
    service: &Service,
    account: &Account,
    batch: &str,
    most: i32,
    after: &Option<String>,
) -> Result<Page<BatchItem>, Status> {
    Ok(service.batch_items(account, batch, convert::limit(most)?, token(after)).await?)
}

/// One request of a batch as a job, or why it is none: a wrong one does not stop the others.
async fn line(service: &Service, account: &Account, request: BatchRequest) -> BatchLine {
    use batch_request::Request as Kind;
    let id = request.batch_request_id.filter(|id| !id.is_empty());
    let (path, body) = match request.request {
        Some(Kind::ImageRequest(message)) => (image::PATH, image::body(message)),
        Some(Kind::VideoRequest(message)) => match video::body(message) {
            Ok((path, body)) => (path, Ok(body)),
            Err(status) => (video::GENERATE, Err(status)),
        },
        Some(Kind::VideoExtensionRequest(message)) => (video::EXTEND, video::extension_body(message)),
        Some(Kind::CompletionRequest(_)) => {
            (CHAT, Err(Status::invalid_argument("chat is not served: this server makes images and videos")))
        }
        None => (
            "",
            Err(Status::invalid_argument(
                "the request is empty: set image_request, video_request or video_extension_request",
            )),
        ),
    };
    let spec = match body {
        Ok(body) => rest::spec(service, account, path, body).await,
        Err(status) => Err(ApiError::new(ApiErrorKind::InvalidArgument, status.message())),
    };
    BatchLine { id, endpoint: format!("/v1/{path}"), spec }
}

fn state(item: &BatchItem) -> State {
    match item.job.as_ref().map(|job| job.state) {
        None => State::Failed,
        Some(JobState::Queued | JobState::Running) => State::Pending,
        Some(JobState::Done | JobState::Expired) => State::Succeeded,
        Some(JobState::Cancelled) => State::Cancelled,
        Some(JobState::Failed | JobState::Moderated) => State::Failed,
    }
}

fn metadata(item: &BatchItem) -> BatchRequestMetadata {
    let finished = item.job.as_ref().map_or(Some(item.created_at), |job| job.finished_at);
    BatchRequestMetadata {
        batch_request_id: item.id.clone(),
        endpoint: item.endpoint.clone(),
        model: item.job.as_ref().map(|job| job.spec.model.clone()).unwrap_or_default(),
        state: state(item).into(),
        create_time: Some(convert::timestamp(item.created_at)),
        finish_time: finished.map(convert::timestamp),
    }
}

/// What became of a request; `None` while it is pending.
async fn result(service: &Service, account: &Account, item: &BatchItem) -> Result<Option<BatchResult>, Status> {
    let outcome = match (&item.job, &item.error) {
        (Some(job), _) if !job.state.is_final() => return Ok(None),
        (Some(job), _) if job.state == JobState::Moderated => {
            Err(Status::invalid_argument("imagine:content-moderated: the output was refused by moderation"))
        }
        (Some(job), _) => made(service, account, job).await,
        (None, Some(error)) => Err(status::of_job(error)),
        (None, None) => return Ok(None),
    };
    let result = match outcome {
        Ok(response) => batch_result::Result::Response(BatchResultData { response: Some(response) }),
        Err(status) => batch_result::Result::Error(google::rpc::Status {
            code: status.code().into(),
            message: status.message().into(),
            details: Vec::new(),
        }),
    };
    Ok(Some(BatchResult { batch_request_id: item.id.clone(), result: Some(result) }))
}

/// What a job that has ended answers inside a batch.
async fn made(service: &Service, account: &Account, job: &Job) -> Result<batch_result_data::Response, Status> {
    use batch_result_data::Response as Made;
    if job.spec.kind.is_still() {
        return Ok(Made::ImageResponse(image::response(service, account, job).await?));
    }
    match job.state {
        JobState::Done => Ok(Made::VideoResponse(video::response(service, account, job).await)),
        JobState::Expired => Err(Status::not_found("the video of this request has expired")),
        _ => Err(status::of_job(&status::job_error(job))),
    }
}

/// The request of an item, as far as its job tells it.
fn asked(item: &BatchItem, job: &Job) -> BatchRequest {
    let request = match job.spec.kind {
        JobKind::Image | JobKind::EditImage => batch_request::Request::ImageRequest(image::request(&job.spec)),
        JobKind::Video | JobKind::EditVideo => batch_request::Request::VideoRequest(video::request(&job.spec)),
        JobKind::Extend => batch_request::Request::VideoExtensionRequest(video::extension_request(&job.spec)),
    };
    BatchRequest { batch_request_id: Some(item.id.clone()), request: Some(request) }
}

fn batch(batch: Batch) -> proto::Batch {
    let time = |ms: i64| -> Option<Timestamp> { Some(convert::timestamp(ms)) };
    proto::Batch {
        batch_id: batch.id,
        name: batch.name,
        create_time: time(batch.created_at),
        expire_time: time(batch.expires_at),
        create_api_key_id: batch.key_id,
        cancel_time: batch.cancelled_at.and_then(time),
        cancel_by_xai_message: None,
        state: Some(proto::BatchState {
            num_requests: batch.counts.total,
            num_pending: batch.counts.pending,
            num_success: batch.counts.success,
            num_error: batch.counts.error,
            num_cancelled: batch.counts.cancelled,
        }),
        cost_breakdown: None,
        input_file_id: batch.input_file,
    }
}

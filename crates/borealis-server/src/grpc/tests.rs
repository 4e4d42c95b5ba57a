//! The six services through real sockets and generated clients, with a fake worker behind them.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::proto::auth_client::AuthClient;
use super::proto::batch_mgmt_client::BatchMgmtClient;
use super::proto::files_client::FilesClient;
use super::proto::image_client::ImageClient;
use super::proto::models_client::ModelsClient;
use super::proto::video_client::VideoClient;
use super::proto::*;
use super::{convert, status};
use crate::service::{ApiError, ApiErrorKind, JobError, JobFilter, JobState};
use crate::testing::{self, Bench};

/// A server with a fake worker, and a key for it.
struct Host {
    bench: Bench,
    channel: Channel,
}

#[derive(Clone)]
struct Headers(Vec<(&'static str, String)>);

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        Ok(request)
    }
}

type Caller = InterceptedService<Channel, Headers>;

impl Host {
    async fn start() -> Self {
        let bench = testing::bench_with_worker().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = bench.app();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { bench, channel }
    }

    fn caller(&self) -> Caller {
        self.caller_with(&[])
    }

    fn caller_with(&self, more: &[(&'static str, &str)]) -> Caller {
        let mut headers = vec![("authorization", format!("Bearer {}", self.bench.key))];
        headers.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        InterceptedService::new(self.channel.clone(), Headers(headers))
    }

    /// Status of a call with an empty message to any path.
    async fn code(&self, path: &str, key: Option<&str>) -> Code {
        let headers = key.map(|key| ("authorization", format!("Bearer {key}")));
        let mut grpc = Grpc::new(InterceptedService::new(self.channel.clone(), Headers(headers.into_iter().collect())));
        grpc.ready().await.unwrap();
        let path: PathAndQuery = path.parse().unwrap();
        let answer = grpc.unary(Request::new(()), path, ProstCodec::<(), ()>::default()).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    }
}

/// `/xai_api.Image/GenerateImage` and all others, out of the proto files.
fn methods() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut methods = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut service = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("service ") {
                service = rest.trim_end_matches(" {");
            }
            if let Some(rest) = line.trim().strip_prefix("rpc ") {
                methods.push(format!("/xai_api.{service}/{}", rest.split('(').next().unwrap()));
            }
        }
    }
    methods
}

#[tokio::test]
async fn every_method_asks_for_a_key() {
    let host = Host::start().await;
    let methods = methods();
    assert_eq!(methods.len(), 26);
    for method in methods {
        assert_eq!(host.code(&method, None).await, Code::Unauthenticated, "{method}");
        assert_eq!(host.code(&method, Some("bk-0123456789-wrong")).await, Code::Unauthenticated, "{method}");
        assert_ne!(host.code(&method, Some(&host.bench.key)).await, Code::Unimplemented, "{method}");
    }
    for method in
        ["/xai_api.Chat/GetCompletion", "/xai_api.Video/Nothing", "/collections.Collections/List", "/v1/models"]
    {
        assert_eq!(host.code(method, None).await, Code::Unauthenticated, "{method}");
        assert_eq!(host.code(method, Some(&host.bench.key)).await, Code::Unimplemented, "{method}");
    }
}

fn image(prompt: &str) -> GenerateImageRequest {
    GenerateImageRequest { prompt: prompt.into(), format: ImageFormat::ImgFormatUrl.into(), ..Default::default() }
}

fn video(prompt: &str) -> GenerateVideoRequest {
    GenerateVideoRequest { prompt: prompt.into(), duration: Some(2), ..Default::default() }
}

#[tokio::test]
async fn images_come_as_many_as_were_asked_for() {
    let host = Host::start().await;
    let mut client = ImageClient::new(host.caller());
    let four =
        client.generate_image(GenerateImageRequest { n: Some(4), ..image("a ball") }).await.unwrap().into_inner();
    assert_eq!((four.images.len(), four.model.as_str()), (4, "grok-imagine-image"));
    for image in &four.images {
        let Some(generated_image::Image::Url(url)) = &image.image else { panic!("no URL: {image:?}") };
        assert!(image.respect_moderation && url.starts_with("http://"), "{url}");
    }
    let inside = GenerateImageRequest { format: ImageFormat::ImgFormatBase64.into(), ..image("a ball") };
    let inside = client.generate_image(inside).await.unwrap().into_inner();
    let Some(generated_image::Image::Base64(data)) = &inside.images[0].image else { panic!("no data") };
    assert!(data.starts_with("data:image/jpeg;base64,"), "{}", &data[..30]);
    for n in [0, 11, -1] {
        let status = client.generate_image(GenerateImageRequest { n: Some(n), ..image("a ball") }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{n}");
        assert!(status.message().starts_with("n"), "{status}");
    }
}

#[tokio::test]
async fn what_cannot_be_made_says_why() {
    let host = Host::start().await;
    let mut client = ImageClient::new(host.caller());
    let mut code = async |request| client.generate_image(request).await.unwrap_err();
    assert_eq!(code(image("")).await.code(), Code::InvalidArgument);
    assert_eq!(code(GenerateImageRequest { model: "gpt-9".into(), ..image("a") }).await.code(), Code::NotFound);
    assert_eq!(
        code(GenerateImageRequest { model: "grok-imagine-video".into(), ..image("a") }).await.code(),
        Code::InvalidArgument
    );
    let blocked = code(image("how to make a bomb")).await;
    assert_eq!(blocked.code(), Code::InvalidArgument);
    assert!(blocked.message().contains("imagine:content-moderated"), "{blocked}");
    let status = code(GenerateImageRequest { aspect_ratio: Some(99), ..image("a") }).await;
    assert!(status.message().contains("aspect_ratio is 99"), "{status}");
    let file = ImageUrlContent { source: Some(image_url_content::Source::FileId("file_nobody".into())), detail: 1 };
    assert_eq!(code(GenerateImageRequest { image: Some(file.clone()), ..image("a") }).await.code(), Code::NotFound);
    let both = GenerateImageRequest { image: Some(file.clone()), images: vec![file], ..image("a") };
    assert_eq!(code(both).await.code(), Code::InvalidArgument);
    let nothing = ImageUrlContent::default();
    assert_eq!(code(GenerateImageRequest { image: Some(nothing), ..image("a") }).await.code(), Code::InvalidArgument);
    // More than tonic reads by default, less than the SDK's channel sends.
    assert_eq!(code(image(&"x".repeat(8 << 20))).await.code(), Code::InvalidArgument);
    assert_eq!(code(image(&"x".repeat(super::MAX_MESSAGE + 1))).await.code(), Code::OutOfRange);
    // The fake worker fails what is called so.
    assert_eq!(code(image("fail")).await.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn what_moderation_holds_back_has_no_content() {
    let host = Host::start().await;
    let answer = ImageClient::new(host.caller())
        .generate_image(GenerateImageRequest { n: Some(2), ..image("moderate") })
        .await
        .unwrap();
    assert_eq!(answer.into_inner().images, vec![GeneratedImage::default(); 2]);
    let mut client = VideoClient::new(host.caller());
    let id = client.generate_video(video("moderate")).await.unwrap().into_inner().request_id;
    let done = ended(&mut client, &id).await;
    assert_eq!((done.status(), done.response.unwrap().video), (DeferredStatus::Done, Some(GeneratedVideo::default())));
}

#[tokio::test]
async fn images_of_a_caller_who_is_gone_are_not_made() {
    let host = Host::start().await;
    let mut client = ImageClient::new(host.caller());
    let call = tokio::spawn(async move { client.generate_image(image("slow")).await });
    let started = JobFilter::default();
    let id = loop {
        let page = host.bench.service.list(&host.bench.account, &started).await.unwrap();
        if let Some(job) = page.items.first() {
            break job.id.clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    call.abort();
    testing::until(&host.bench, &id, |job| job.state == JobState::Cancelled).await;
}

/// The answer when a video is not pending any more.
async fn ended(client: &mut VideoClient<Caller>, id: &str) -> GetDeferredVideoResponse {
    for _ in 0..400 {
        let request = GetDeferredVideoRequest { request_id: id.into() };
        let answer = client.get_deferred_video(request).await.unwrap().into_inner();
        if answer.status() != DeferredStatus::Pending {
            return answer;
        }
        assert!((0..100).contains(&answer.response.unwrap().progress));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{id} does not end");
}

#[tokio::test]
async fn videos_are_started_and_asked_for() {
    let host = Host::start().await;
    let mut client = VideoClient::new(host.caller());
    let id = client.generate_video(video("a ball")).await.unwrap().into_inner().request_id;
    let done = ended(&mut client, &id).await;
    let response = done.response.clone().unwrap();
    let clip = response.video.clone().unwrap();
    assert_eq!(
        (done.status(), response.progress, response.model.as_str()),
        (DeferredStatus::Done, 100, "grok-imagine-video")
    );
    assert!(clip.respect_moderation && clip.url.contains(".mp4"), "{clip:?}");

    let source = Some(video_url_content::Source::Url(clip.url));
    let more = ExtendVideoRequest {
        prompt: "on".into(),
        video: Some(VideoUrlContent { source: source.clone() }),
        ..Default::default()
    };
    for duration in [0, 11] {
        let status =
            client.extend_video(ExtendVideoRequest { duration: Some(duration), ..more.clone() }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let edit = GenerateVideoRequest { video: Some(VideoUrlContent { source }), ..video("blue") };
    let id = client.generate_video(edit.clone()).await.unwrap().into_inner().request_id;
    assert_eq!(ended(&mut client, &id).await.status(), DeferredStatus::Done);
    let both = GenerateVideoRequest { image: Some(ImageUrlContent::default()), ..edit };
    assert_eq!(client.generate_video(both).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(
        client.extend_video(ExtendVideoRequest { video: None, ..more }).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    let id = client.generate_video(video("fail")).await.unwrap().into_inner().request_id;
    let failed = ended(&mut client, &id).await;
    let error = failed.response.clone().unwrap().error.unwrap();
    assert_eq!(failed.status(), DeferredStatus::Failed);
    assert!(!error.code.is_empty() && !error.message.is_empty());

    for (duration, fine) in [(15, true), (16, false), (0, false)] {
        let answer = client.generate_video(GenerateVideoRequest { duration: Some(duration), ..video("a") }).await;
        assert_eq!(answer.is_ok(), fine, "{duration}");
    }
    let frame = GenerateVideoRequest {
        last_frame: Some(ImageUrlContent {
            source: Some(image_url_content::Source::ImageUrl("data:,".into())),
            detail: 1,
        }),
        ..video("a")
    };
    assert!(client.generate_video(frame).await.unwrap_err().message().contains("last_frame"));
}

#[tokio::test]
async fn ids_of_others_are_not_found() {
    let host = Host::start().await;
    let (_, key) = host.bench.other().await;
    let headers = Headers(vec![("authorization", format!("Bearer {key}"))]);
    let mut stranger = VideoClient::new(InterceptedService::new(host.channel.clone(), headers));
    let id = VideoClient::new(host.caller()).generate_video(video("a")).await.unwrap().into_inner().request_id;
    for request_id in [id, "nothing".into(), "../x".into(), String::new()] {
        let status = stranger.get_deferred_video(GetDeferredVideoRequest { request_id }).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
    }
}

#[tokio::test]
async fn a_key_of_idempotency_starts_one_job() {
    let host = Host::start().await;
    let mut client = VideoClient::new(host.caller_with(&[("idempotency-key", "k1"), ("x-borealis-seed", "7")]));
    let first = client.generate_video(video("a")).await.unwrap().into_inner();
    assert_eq!(client.generate_video(video("a")).await.unwrap().into_inner(), first);
    assert_eq!(client.generate_video(video("b")).await.unwrap_err().code(), Code::AlreadyExists);
    let job = host.bench.service.job(&host.bench.account, &first.request_id).await.unwrap();
    assert_eq!(job.spec.seed, Some(7));
    let long = "k".repeat(256);
    for (name, value) in [("idempotency-key", long.as_str()), ("x-borealis-seed", "many")] {
        let mut client = VideoClient::new(host.caller_with(&[(name, value)]));
        assert_eq!(client.generate_video(video("a")).await.unwrap_err().code(), Code::InvalidArgument, "{name}");
    }
}

#[tokio::test]
async fn who_calls_and_what_may_be_named() {
    let host = Host::start().await;
    let info = AuthClient::new(host.caller()).get_api_key_info(()).await.unwrap().into_inner();
    assert_eq!((info.name.as_str(), info.disabled), ("test", false));
    assert!(!host.bench.key.contains(&info.redacted_api_key) && info.create_time.is_some());

    let mut models = ModelsClient::new(host.caller());
    assert!(models.list_language_models(()).await.unwrap().into_inner().models.is_empty());
    let listed = models.list_image_generation_models(()).await.unwrap().into_inner().models;
    assert!(listed.iter().any(|m| m.name == "grok-imagine-image"));
    for model in listed {
        for name in model.aliases.iter().chain([&model.name]) {
            let one = models.get_image_generation_model(GetModelRequest { name: name.clone() }).await.unwrap();
            assert_eq!(one.into_inner(), model);
        }
    }
    for name in ["gpt-9", "grok-imagine-video", ""] {
        assert!(models.get_image_generation_model(GetModelRequest { name: name.into() }).await.is_err(), "{name}");
    }
}

fn upload(name: &str, sizes: &[usize]) -> Vec<UploadFileChunk> {
    let init = UploadFileInit { name: name.into(), expires_after: Some(7200) };
    let pieces = sizes.iter().map(|size| upload_file_chunk::Chunk::Data(Bytes::from(vec![1; *size])));
    std::iter::once(upload_file_chunk::Chunk::Init(init))
        .chain(pieces)
        .map(|c| UploadFileChunk { chunk: Some(c) })
        .collect()
}

#[tokio::test]
async fn files_go_in_and_out_in_pieces() {
    let host = Host::start().await;
    let mut client = FilesClient::new(host.caller());
    let sizes = [3 << 20, 3 << 20, 1];
    let file = client.upload_file(tokio_stream::iter(upload("a.bin", &sizes))).await.unwrap().into_inner();
    assert_eq!((file.size, file.filename.as_str()), (sizes.iter().sum::<usize>() as i64, "a.bin"));
    let life = file.expires_at.unwrap().seconds - file.created_at.unwrap().seconds;
    assert_eq!(life, 7200);
    let request = RetrieveFileContentRequest { file_id: file.id.clone(), format: None };
    let mut stream = client.retrieve_file_content(request).await.unwrap().into_inner();
    let mut size = 0;
    while let Some(piece) = stream.message().await.unwrap() {
        size += piece.data.len();
    }
    assert_eq!(size as i64, file.size);
    let headless = upload("a.bin", &[1]).split_off(1);
    let status = client.upload_file(tokio_stream::iter(headless)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let huge = vec![3 << 20; 17];
    assert!(client.upload_file(tokio_stream::iter(upload("huge.bin", &huge))).await.is_err());

    let public = CreatePublicUrlRequest { file_id: file.id.clone(), expires_after: Some(3599) };
    assert_eq!(client.create_public_url(public.clone()).await.unwrap_err().code(), Code::InvalidArgument);
    let public =
        client.create_public_url(CreatePublicUrlRequest { expires_after: None, ..public }).await.unwrap().into_inner();
    let revoke = RevokePublicUrlRequest { file_id: file.id.clone() };
    let gone = client.revoke_public_url(revoke.clone()).await.unwrap().into_inner();
    assert_eq!((gone.revoked, gone.public_url), (true, Some(public.public_url)));
    let gone = client.revoke_public_url(revoke).await.unwrap().into_inner();
    assert_eq!((gone.revoked, gone.public_url), (false, None));
    assert!(client.delete_file(DeleteFileRequest { file_id: file.id.clone() }).await.unwrap().into_inner().deleted);
    let request = RetrieveFileRequest { file_id: file.id };
    assert_eq!(client.retrieve_file(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn lists_of_files_are_sorted_filtered_and_paged() {
    let host = Host::start().await;
    let mut client = FilesClient::new(host.caller());
    for (name, size) in [("b", 20), ("a", 10), ("c", 30)] {
        client.upload_file(tokio_stream::iter(upload(name, &[size]))).await.unwrap();
    }
    let mut names = async |request: ListFilesRequest| {
        let (mut names, mut token) = (String::new(), None);
        loop {
            let request = ListFilesRequest { pagination_token: token, ..request.clone() };
            let page = client.list_files(request).await?.into_inner();
            names.extend(page.data.into_iter().map(|f| f.filename));
            token = page.pagination_token;
            if token.is_none() {
                return Ok::<_, Status>(names);
            }
        }
    };
    let all = ListFilesRequest { limit: 2, ..Default::default() };
    let by = |sort: FilesSortBy, order: Ordering| ListFilesRequest {
        sort_by: Some(sort.into()),
        order: order.into(),
        ..all.clone()
    };
    assert_eq!(names(by(FilesSortBy::Filename, Ordering::Ascending)).await.unwrap(), "abc");
    assert_eq!(names(by(FilesSortBy::Size, Ordering::Descending)).await.unwrap(), "cba");
    assert_eq!(names(by(FilesSortBy::CreatedAt, Ordering::Ascending)).await.unwrap(), "bac");
    let filtered = ListFilesRequest { filter: Some("size_bytes > 10 AND NOT name = \"c\"".into()), ..all.clone() };
    assert_eq!(names(filtered).await.unwrap(), "b");
    for wrong in
        [ListFilesRequest { filter: Some("nonsense".into()), ..all.clone() }, ListFilesRequest { limit: -1, ..all }]
    {
        assert_eq!(names(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn batches_end_with_a_result_for_every_request() {
    let host = Host::start().await;
    let mut client = BatchMgmtClient::new(host.caller());
    let made = client.create_batch(CreateBatchRequest { name: "night".into(), ..Default::default() }).await.unwrap();
    let batch_id = made.into_inner().batch_id;
    let entry = |id: &str, request| BatchRequest { batch_request_id: Some(id.into()), request };
    let batch_requests = vec![
        entry("image", Some(batch_request::Request::ImageRequest(image("a")))),
        entry("video", Some(batch_request::Request::VideoRequest(video("a")))),
        entry("fails", Some(batch_request::Request::ImageRequest(image("fail")))),
        entry("wrong", Some(batch_request::Request::VideoRequest(video("")))),
        entry("chat", Some(batch_request::Request::CompletionRequest(GetCompletionsRequest {}))),
        entry("empty", None),
    ];
    let add = AddBatchRequestsRequest { batch_id: batch_id.clone(), batch_requests };
    client.add_batch_requests(add).await.unwrap();
    let request = GetBatchRequest { batch_id: batch_id.clone() };
    let state = loop {
        let state = client.get_batch(request.clone()).await.unwrap().into_inner().state.unwrap();
        if state.num_pending == 0 {
            break state;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((state.num_requests, state.num_success, state.num_error), (6, 2, 4));

    let (mut results, mut token) = (Vec::new(), None);
    loop {
        let request = ListBatchResultsRequest { batch_id: batch_id.clone(), limit: 4, pagination_token: token };
        let page = client.list_batch_results(request).await.unwrap().into_inner();
        results.extend(page.results);
        token = page.pagination_token;
        if token.is_none() {
            break;
        }
    }
    let fine: Vec<_> = results.iter().filter(|r| matches!(r.result, Some(batch_result::Result::Response(_)))).collect();
    assert_eq!(fine.iter().map(|r| r.batch_request_id.as_str()).collect::<Vec<_>>(), ["image", "video"]);
    assert_eq!(results.len(), 6);

    let request = GetBatchRequestResultRequest { batch_id: batch_id.clone(), batch_request_id: "video".into() };
    let one = client.get_batch_request_result(request).await.unwrap().into_inner();
    let Some(batch_request::Request::VideoRequest(asked)) = one.request.unwrap().request else { panic!("not a video") };
    assert_eq!((asked.prompt.as_str(), asked.duration), ("a", Some(2)));
    assert_eq!(one.result.as_ref(), Some(fine[1]));

    let status = vec![batch_request_metadata::State::Failed.into()];
    let request = ListBatchRequestMetadataRequest { batch_id: batch_id.clone(), status, ..Default::default() };
    let failed = client.list_batch_request_metadata(request).await.unwrap().into_inner().batch_request_metadata;
    assert_eq!(
        failed.iter().map(|m| m.batch_request_id.as_str()).collect::<Vec<_>>(),
        ["fails", "wrong", "chat", "empty"]
    );
    let cancelled = client.cancel_batch(CancelBatchRequest { batch_id }).await.unwrap().into_inner();
    assert!(cancelled.cancel_time.is_some() && cancelled.state == Some(state));
    let missing = client.get_batch(GetBatchRequest { batch_id: "batch_nobody".into() }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}

#[test]
fn ratios_are_the_names_of_their_enums() {
    let mut seen = Vec::new();
    for value in 0..=14 {
        let name = ImageAspectRatio::try_from(value).unwrap().as_str_name();
        if let Some(ratio) = convert::ratio(name, "IMG_ASPECT_RATIO_") {
            assert_eq!(convert::ratio_name(&ratio, "IMG_ASPECT_RATIO_"), name);
            seen.push(ratio);
        }
    }
    assert_eq!(
        seen,
        ["1:1", "3:4", "4:3", "9:16", "16:9", "2:3", "3:2", "auto", "9:19.5", "19.5:9", "9:20", "20:9", "1:2", "2:1"]
    );
    assert_eq!(convert::ratio("VIDEO_ASPECT_RATIO_UNSPECIFIED", "VIDEO_ASPECT_RATIO_"), None);
}

#[test]
fn only_what_may_be_repeated_is_unavailable() {
    use ApiErrorKind as Kind;
    for (kind, code) in [
        (Kind::InvalidArgument, Code::InvalidArgument),
        (Kind::Unauthenticated, Code::Unauthenticated),
        (Kind::PermissionDenied, Code::PermissionDenied),
        (Kind::NotFound, Code::NotFound),
        (Kind::Conflict, Code::AlreadyExists),
        (Kind::ContentModerated, Code::InvalidArgument),
        (Kind::ResourceExhausted { retry_after: 3 }, Code::ResourceExhausted),
        (Kind::PaymentRequired, Code::ResourceExhausted),
        (Kind::StorageFull, Code::ResourceExhausted),
        (Kind::Fetch, Code::DataLoss),
        (Kind::Unavailable, Code::Unavailable),
        (Kind::Internal, Code::Internal),
    ] {
        assert_eq!(Status::from(ApiError::new(kind, "why")).code(), code, "{kind:?}");
    }
    let limited = Status::from(ApiError::new(Kind::ResourceExhausted { retry_after: 3 }, "why"));
    assert_eq!(limited.metadata().get("retry-after").unwrap(), "3");
    assert_eq!(Status::from(ApiError::invalid("n", "it is 11")).message(), "n: it is 11");
    for code in ["service_unavailable", "internal_error"] {
        let error = JobError { code: code.into(), message: "why".into() };
        assert_eq!(
            status::of_job(&error).code(),
            Code::Internal,
            "a job that failed is not started again by the client"
        );
    }
}

#[test]
fn times_before_and_after_the_epoch() {
    assert_eq!(convert::timestamp(1_500).to_string(), "1970-01-01T00:00:01.500Z");
    assert_eq!(convert::timestamp(-1_500).to_string(), "1969-12-31T23:59:58.500Z");
}

//! The six services through real sockets and generated clients, with a fake worker behind them.

mod account;
mod batches;
mod convert;
mod files;
mod images;
mod videos;

use std::time::Duration;

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::proto::video_client::VideoClient;
use super::proto::*;
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

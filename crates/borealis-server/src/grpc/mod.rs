//! xAI's gRPC services, as the unmodified SDK calls them: messages to [`Spec`](crate::types::Spec), jobs back to messages.
//!
//! What travels in a call's metadata besides the key: `idempotency-key` (as in REST) and `x-borealis-seed`, because the messages have no field for a seed.

mod auth;
mod batches;
mod convert;
mod files;
mod filter;
mod image;
mod models;
mod status;
#[cfg(test)]
mod tests;
mod video;

use axum::Router;
use axum::body::Body;
use axum::extract::Request as HttpRequest;
use axum::middleware::{self, Next};
use axum::response::Response as HttpResponse;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tonic::{Request, Status};
use tower::ServiceExt;

use crate::auth::is_grpc;
use crate::rest;
use crate::service::{Account, ApiError, Dialect, Idempotency, Service, Spec};
use proto::auth_server::AuthServer;
use proto::batch_mgmt_server::BatchMgmtServer;
use proto::files_server::FilesServer;
use proto::image_server::ImageServer;
use proto::models_server::ModelsServer;
use proto::video_server::VideoServer;

/// Largest message in either direction, bytes: what the SDK sets on its channel.
pub const MAX_MESSAGE: usize = 20 * 1024 * 1024;

/// Metadata with the seed of a generation.
const SEED: &str = "x-borealis-seed";
/// Longest idempotency key, bytes.
const MAX_KEY: usize = 255;

/// Messages, servers and clients, written from `proto/`.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("xai_api");
}

/// `google.rpc`: where the generated code looks for `Status`.
#[allow(missing_docs, clippy::all)]
mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// The six services. Any other path is answered with UNIMPLEMENTED.
pub fn routes(service: Service) -> Router {
    macro_rules! server {
        ($server:ident) => {
            $server::new(service.clone()).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
        };
    }
    tonic::service::Routes::new(server!(ImageServer))
        .add_service(server!(VideoServer))
        .add_service(server!(AuthServer))
        .add_service(server!(ModelsServer))
        .add_service(server!(FilesServer))
        .add_service(server!(BatchMgmtServer))
        .prepare()
        .into_axum_router()
}

/// Puts gRPC beside other routes on one port: a call is told from a request by its content type, whatever its path.
pub fn beside(others: Router, service: Service) -> Router {
    let calls = routes(service);
    others.layer(middleware::from_fn(move |request: HttpRequest, next: Next| {
        let calls = calls.clone();
        async move { if is_grpc(request.headers()) { answer(calls, request).await } else { next.run(request).await } }
    }))
}

async fn answer(calls: Router, request: http::Request<Body>) -> HttpResponse {
    match calls.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Who calls, as the authentication layer said.
fn account<T>(request: &Request<T>) -> Result<Account, Status> {
    let account = request.extensions().get::<Account>();
    account
        .cloned()
        .ok_or_else(|| Status::unauthenticated("no API key was given: send it as \"authorization: Bearer KEY\""))
}

/// The seed in the metadata.
fn seed<T>(request: &Request<T>) -> Result<Option<u64>, Status> {
    let Some(value) = request.metadata().get(SEED) else { return Ok(None) };
    let seed = value.to_str().ok().and_then(|v| v.parse().ok());
    seed.map(Some).ok_or_else(|| Status::invalid_argument(format!("{SEED} must be an integer of 0 to {}", u64::MAX)))
}

/// The job that a body of REST asks for, with what the metadata adds. All rules are REST's.
async fn spec(
    service: &Service,
    account: &Account,
    path: &str,
    mut body: Value,
    seed: Option<u64>,
) -> Result<Spec, ApiError> {
    body["seed"] = seed.into();
    let spec = rest::spec(service, account, path, body).await?;
    Ok(Spec { dialect: Dialect::Grpc, ..spec })
}

/// The idempotency key in the metadata, bound to this method and message.
fn idempotency<T: prost::Message>(request: &Request<T>, method: &str) -> Result<Option<Idempotency>, Status> {
    let Some(value) = request.metadata().get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().map_err(|_| Status::invalid_argument("idempotency-key must be printable ASCII"))?;
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(Status::invalid_argument(format!(
            "idempotency-key has {} bytes: 1 to {MAX_KEY} are allowed",
            key.len()
        )));
    }
    let mut hash = Sha256::new();
    hash.update(method.as_bytes());
    hash.update(request.get_ref().encode_to_vec());
    Ok(Some(Idempotency { key: key.to_owned(), request_hash: hash.finalize().into() }))
}

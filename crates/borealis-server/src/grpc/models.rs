//! `xai_api.Models`: what may be named. There are no chat and no embedding models.

use tonic::{Request, Response, Status};

use super::proto::models_server::Models;
use super::proto::{
    EmbeddingModel, GetModelRequest, ImageGenerationModel, LanguageModel, ListEmbeddingModelsResponse,
    ListImageGenerationModelsResponse, ListLanguageModelsResponse, Modality,
};
use super::{account, convert};
use crate::service::{JobKind, ModelInfo, Service};

/// Most characters of a prompt.
const MAX_PROMPT: i32 = 10_000;

#[tonic::async_trait]
impl Models for Service {
    async fn list_language_models(&self, request: Request<()>) -> Result<Response<ListLanguageModelsResponse>, Status> {
        account(&request)?;
        Ok(Response::new(Default::default()))
    }

    async fn list_embedding_models(
        &self,
        request: Request<()>,
    ) -> Result<Response<ListEmbeddingModelsResponse>, Status> {
        account(&request)?;
        Ok(Response::new(Default::default()))
    }

    async fn list_image_generation_models(
        &self,
        request: Request<()>,
    ) -> Result<Response<ListImageGenerationModelsResponse>, Status> {
        account(&request)?;
        let price = self.config().prices.image_1k;
        let models = self.models().iter().filter(|m| m.image).map(|m| message(m, price)).collect();
        Ok(Response::new(ListImageGenerationModelsResponse { models }))
    }

    async fn get_language_model(&self, request: Request<GetModelRequest>) -> Result<Response<LanguageModel>, Status> {
        account(&request)?;
        Err(unknown("language", &request.get_ref().name))
    }

    async fn get_embedding_model(&self, request: Request<GetModelRequest>) -> Result<Response<EmbeddingModel>, Status> {
        account(&request)?;
        Err(unknown("embedding", &request.get_ref().name))
    }

    async fn get_image_generation_model(
        &self,
        request: Request<GetModelRequest>,
    ) -> Result<Response<ImageGenerationModel>, Status> {
        account(&request)?;
        let name = &request.get_ref().name;
        if name.is_empty() {
            return Err(Status::invalid_argument("name is empty: name a model"));
        }
        let model = self.resolve_model(Some(name), JobKind::Image)?;
        Ok(Response::new(message(model, self.config().prices.image_1k)))
    }
}

fn unknown(kind: &str, name: &str) -> Status {
    Status::not_found(format!("no {kind} model has the name {name:?}: this server makes images and videos"))
}

fn message(model: &ModelInfo, price: i64) -> ImageGenerationModel {
    ImageGenerationModel {
        name: model.id.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        input_modalities: vec![Modality::Text.into(), Modality::Image.into()],
        output_modalities: vec![Modality::Image.into()],
        created: Some(convert::timestamp(model.created * 1000)),
        max_prompt_length: MAX_PROMPT,
        system_fingerprint: model.checkpoint.clone(),
        aliases: model.aliases.clone(),
        image_price: price,
    }
}

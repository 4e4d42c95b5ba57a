use super::super::proto::auth_client::AuthClient;
use super::super::proto::models_client::ModelsClient;
use super::*;

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

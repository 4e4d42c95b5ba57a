use super::super::proto::image_client::ImageClient;
use super::*;

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

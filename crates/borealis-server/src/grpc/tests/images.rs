use super::super::proto::image_client::ImageClient;
use super::*;
use crate::service::{JobFilter, JobState};

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
    assert_eq!(code(image(&"x".repeat(super::super::MAX_MESSAGE + 1))).await.code(), Code::OutOfRange);
    // The fake worker fails what is called so.
    assert_eq!(code(image("fail")).await.code(), Code::FailedPrecondition);
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

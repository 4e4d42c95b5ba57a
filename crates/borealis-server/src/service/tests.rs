//! The service's own promises.

use bytes::Bytes;

use super::admit::{check, price};
use super::*;
use crate::config::Prices;
use crate::testing;

fn clip(prompt: &str) -> Spec {
    Spec::new(JobKind::Video, "grok-imagine-video", prompt)
}

#[test]
fn limits_hold_at_their_edge_and_one_beyond() {
    let ok = |spec: Spec| check(&spec).is_ok();
    let with = |change: fn(&mut Spec)| {
        let mut spec = clip("p");
        change(&mut spec);
        ok(spec)
    };
    assert!(with(|s| s.prompt = "ä".repeat(MAX_PROMPT)) && !with(|s| s.prompt = "ä".repeat(MAX_PROMPT + 1)));
    assert!(with(|s| s.n = 4) && !with(|s| s.n = 5) && !with(|s| s.n = 0));
    assert!(with(|s| s.seconds = Some(15.0)) && !with(|s| s.seconds = Some(15.1)) && !with(|s| s.seconds = Some(0.9)));
    assert!(!with(|s| s.seconds = Some(f32::NAN)) && !with(|s| s.guidance = Some(f32::NAN)));
    let chained = |last| {
        let mut spec = clip("p");
        (spec.seconds, spec.chain_seconds) = (Some(15.0), vec![last]);
        ok(spec)
    };
    assert!(chained(15.0) && !chained(15.5) && !chained(f32::INFINITY));
    assert!(with(|s| s.guidance = Some(100.0)) && !with(|s| s.guidance = Some(100.5)));
    assert!(!with(|s| s.prompt = " \n".into()) && !with(|s| s.preset = Some("turbo".into())));
    assert!(!ok(Spec::new(JobKind::EditVideo, "m", "p")) && !ok(Spec::new(JobKind::EditImage, "m", "p")));
    assert!(ok(Spec { n: 10, ..Spec::new(JobKind::Image, "m", "p") }));
    assert!(!ok(Spec { n: 11, ..Spec::new(JobKind::Image, "m", "p") }));
}

#[test]
fn prices_follow_resolution_and_length() {
    let prices = Prices { image_1k: 2, image_2k: 3, video_480p: 5, video_720p: 7, video_1080p: 25 };
    let mut spec = clip("p");
    assert_eq!(price(&prices, &spec), 30);
    (spec.seconds, spec.n, spec.resolution) = (Some(10.0), 2, Some("720p".into()));
    assert_eq!(price(&prices, &spec), 140);
    spec.chain_seconds = vec![5.0];
    assert_eq!(price(&prices, &spec), 210);
    let picture = Spec { n: 4, resolution: Some("2k".into()), ..Spec::new(JobKind::Image, "m", "p") };
    assert_eq!(price(&prices, &picture), 12);
    assert_eq!(price(&Prices::default(), &picture), 0);
}

#[tokio::test]
async fn own_results_are_inputs_without_being_decoded() {
    let bench = testing::bench_with_worker().await;
    let (service, account) = (&bench.service, &bench.account);
    let id = service.submit(account, clip("a ball"), None).await.unwrap();
    let early = service.output_url(&service.job(account, &id).await.unwrap(), 0);
    let job = service.wait(account, &id, Duration::from_secs(20)).await.unwrap();
    let url = service.output_url(&job, 0);
    assert_eq!(early.split('?').next(), url.split('?').next());
    let asset = service.resolve(account, Input::Url(url.clone()), MediaKind::Video, "video").await.unwrap();
    assert_eq!(asset.sha256, job.outputs[0].asset.sha256);
    // By another name of this host, too: the signature decides.
    let renamed = url.replace("127.0.0.1", "localhost");
    assert!(service.resolve(account, Input::Url(renamed), MediaKind::Video, "video").await.is_ok());
    let wrong = service.resolve(account, Input::Url(url.clone()), MediaKind::Image, "image").await.unwrap_err();
    assert_eq!((wrong.kind, wrong.field.as_deref()), (ApiErrorKind::InvalidArgument, Some("image")));
    let forged = url.replace("&s=", "&s=A");
    assert!(service.resolve(account, Input::Url(forged), MediaKind::Video, "video").await.is_err());
    let still = service.frame(account, &asset, FrameAt::Last).await.unwrap();
    assert_eq!((still.mime.as_str(), still.width, still.seconds), ("image/png", 64, 0.0));
    assert!(service.frame(account, &asset, FrameAt::Second(1.5)).await.is_err());
    assert!(service.frame(account, &still, FrameAt::Last).await.is_err());
}

#[tokio::test]
async fn files_are_the_accounts_own() {
    let bench = testing::bench().await;
    let (service, account) = (&bench.service, &bench.account);
    let (other, _) = bench.other().await;
    let png =
        borealis_media::encode_png(&borealis_media::Frame::solid(8, 6, borealis_media::PixelFormat::Rgb8, [9, 9, 9]))
            .unwrap();
    let file = service.put_file(account, "a.png", "", png.into(), None).await.unwrap();
    assert_eq!((file.mime.as_str(), file.public_url.as_deref()), ("image/png", None));
    assert_eq!(service.file(&other, &file.id).await.unwrap_err().kind, ApiErrorKind::NotFound);
    let asset = service.resolve(account, Input::File(file.id.clone()), MediaKind::Image, "image").await.unwrap();
    assert_eq!((asset.width, asset.height), (8, 6));
    assert!(service.resolve(&other, Input::File(file.id.clone()), MediaKind::Image, "image").await.is_err());
    let public = service.publish_file(account, &file.id, Some(3600)).await.unwrap().public_url.unwrap();
    let asset = service.resolve(&other, Input::Url(public.clone()), MediaKind::Image, "image").await.unwrap();
    assert_eq!(asset.width, 8);
    for seconds in [3599, 2_592_001] {
        assert!(service.publish_file(account, &file.id, Some(seconds)).await.is_err());
    }
    service.unpublish_file(account, &file.id).await.unwrap();
    assert!(service.resolve(&other, Input::Url(public), MediaKind::Image, "image").await.is_err());
    service.delete_file(account, &file.id).await.unwrap();
    assert!(service.delete_file(account, &file.id).await.is_err());
    let huge = Bytes::from(vec![0; (crate::config::MAX_FILE + 1) as usize]);
    assert_eq!(service.put_file(account, "b", "", huge, None).await.unwrap_err().kind, ApiErrorKind::PayloadTooLarge);
}

#[tokio::test]
async fn batches_count_their_lines() {
    let bench = testing::bench_with_worker().await;
    let (service, account) = (&bench.service, &bench.account);
    let batch = service.create_batch(account, "night", None).await.unwrap();
    let line = |id: &str, spec| BatchLine { id: Some(id.into()), endpoint: "/v1/images/generations".into(), spec };
    let picture = |prompt| Ok(Spec::new(JobKind::Image, "grok-imagine-image", prompt));
    let lines = vec![
        line("a", picture("a ball")),
        line("b", picture("fail")),
        line("c", Err(ApiError::invalid("prompt", "no"))),
        line("d", picture("")),
    ];
    service.add_to_batch(account, &batch.id, lines).await.unwrap();
    let again = service.add_to_batch(account, &batch.id, vec![line("a", picture("x"))]).await;
    assert_eq!(again.unwrap_err().kind, ApiErrorKind::Conflict);
    let mut changes = service.store().changes();
    let counts = loop {
        let counts = service.batch(account, &batch.id).await.unwrap().counts;
        if counts.pending == 0 {
            break counts;
        }
        changes.changed().await.unwrap();
    };
    assert_eq!(counts, BatchCounts { total: 4, pending: 0, success: 1, error: 3, cancelled: 0 });
    let page = service.batch_items(account, &batch.id, 3, None).await.unwrap();
    assert_eq!(page.items.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let rest = service.batch_items(account, &batch.id, 3, page.next.as_deref()).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));
    service.cancel_batch(account, &batch.id).await.unwrap();
    assert!(service.add_to_batch(account, &batch.id, vec![line("z", picture("x"))]).await.is_err());
}

/// Bytes that lie in the folder of results.
fn blobs(bench: &testing::Bench) -> Vec<std::path::PathBuf> {
    let list = |path: &std::path::Path| {
        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    list(&bench.folder.path().join("blobs")).iter().flat_map(|folder| list(folder)).collect()
}

/// Makes them as old as results are that somebody deletes on another day.
fn age(bench: &testing::Bench) {
    for path in blobs(bench) {
        let file = std::fs::File::options().append(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).unwrap();
    }
}

#[tokio::test]
async fn what_is_deleted_is_gone_unless_somebody_else_has_the_same() {
    let bench = testing::bench_with_worker().await;
    let (service, account) = (&bench.service, &bench.account);
    let made = async |spec: Spec| {
        let id = service.submit(account, spec, None).await.unwrap();
        testing::until(&bench, &id, |job| job.state == JobState::Done).await
    };
    let picture = || Spec { n: 2, ..Spec::new(JobKind::Image, "grok-imagine-image", "a ball") };
    let (one, same) = (made(picture()).await, made(picture()).await);
    assert_eq!(one.outputs[0].asset.sha256, same.outputs[0].asset.sha256);
    assert_eq!(blobs(&bench).len(), 2);
    age(&bench);
    service.delete(account, &one.id).await.unwrap();
    assert_eq!(blobs(&bench).len(), 2, "the other job has them");
    // A job that is to be made from a result keeps its bytes; a result that is a file, too, stays as long as that.
    let input = service.adopt(account, &same.outputs[0].asset).await.unwrap();
    let file = service
        .put_file(account, "b", "", service.read_asset(&same.outputs[1].asset).await.unwrap(), None)
        .await
        .unwrap();
    age(&bench);
    service.delete(account, &same.id).await.unwrap();
    assert_eq!(blobs(&bench).len(), 2);
    service.delete_file(account, &file.id).await.unwrap();
    assert_eq!(blobs(&bench).len(), 1);
    let edit = Spec { image: Some(input), ..Spec::new(JobKind::EditImage, "grok-imagine-image", "blue") };
    let edited = made(Spec { prompt: "another".into(), n: 1, ..edit }).await;
    age(&bench);
    service.delete(account, &edited.id).await.unwrap();
    assert_eq!(blobs(&bench), Vec::<std::path::PathBuf>::new(), "its input was its own");
    // Young bytes wait: whoever writes the same ones at this moment must find them.
    let young = made(picture()).await;
    service.delete(account, &young.id).await.unwrap();
    assert_eq!(blobs(&bench).len(), 2);
    age(&bench);
    service.sweep_discarded().await;
    assert!(blobs(&bench).is_empty());
    // What a process left behind is found by its age alone.
    let file = service.put_file(account, "b", "", Bytes::from_static(b"x"), None).await.unwrap();
    service.store().delete_file(&account.id, &file.id).await.unwrap();
    age(&bench);
    service.sweep_forgotten().await.unwrap();
    assert_eq!(blobs(&bench).len(), 1);
    let blob = std::fs::File::options().append(true).open(&blobs(&bench)[0]).unwrap();
    blob.set_modified(std::time::SystemTime::now() - Duration::from_secs(700)).unwrap();
    service.sweep_forgotten().await.unwrap();
    assert!(blobs(&bench).is_empty());
}

#[tokio::test]
async fn folders_hold_jobs() {
    let bench = testing::bench().await;
    let (service, account) = (&bench.service, &bench.account);
    let folder = service.create_folder(account, "balls").await.unwrap();
    assert_eq!(service.create_folder(account, "balls").await.unwrap_err().kind, ApiErrorKind::Conflict);
    let id = service.submit(account, Spec { folder: Some(folder.id.clone()), ..clip("a") }, None).await.unwrap();
    assert!(service.submit(account, Spec { folder: Some("folder_x".into()), ..clip("a") }, None).await.is_err());
    let inside = JobFilter { folder: Some(folder.id.clone()), ..JobFilter::default() };
    assert_eq!(service.list(account, &inside).await.unwrap().items.len(), 1);
    service.move_job(account, &id, None).await.unwrap();
    assert!(service.list(account, &inside).await.unwrap().items.is_empty());
    service.move_job(account, &id, Some(&folder.id)).await.unwrap();
    let (other, _) = bench.other().await;
    assert!(service.rename_folder(&other, &folder.id, "mine").await.is_err());
    assert_eq!(service.rename_folder(account, &folder.id, "red").await.unwrap().items, 1);
    service.delete_folder(account, &folder.id).await.unwrap();
    assert_eq!(service.folder_of(account, &id).await.unwrap(), None);
    for name in ["", " ", "a\nb", &"x".repeat(101)] {
        assert!(service.create_folder(account, name).await.is_err());
    }
}

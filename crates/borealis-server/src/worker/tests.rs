//! The worker's loop against the real store, with a fake generator.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::fake::Fake;
use super::{WorkerConfig, run};
use crate::service::Service;
use crate::testing::{self, Bench};
use crate::types::{JobKind, JobState, Spec};

const LONG: Duration = Duration::from_secs(20);

fn picture(prompt: &str) -> Spec {
    Spec::new(JobKind::Image, "grok-imagine-image", prompt)
}

async fn end(bench: &Bench, spec: Spec) -> crate::types::Job {
    let id = bench.service.submit(&bench.account, spec, None).await.unwrap();
    bench.service.wait(&bench.account, &id, LONG).await.unwrap()
}

#[tokio::test]
async fn a_job_becomes_its_outputs() {
    let bench = testing::bench_with_worker().await;
    let job = end(&bench, Spec { n: 3, ..picture("a red ball") }).await;
    assert_eq!((job.state, job.progress, job.outputs.len(), job.attempt), (JobState::Done, 100, 3, 1));
    assert!(job.spec.seed.is_some() && job.usage.output_tokens == 100 && job.cost_ticks == 0);
    let bytes = bench.service.read_asset(&job.outputs[1].asset).await.unwrap();
    assert_eq!(bytes.len() as u64, job.outputs[1].asset.size);
    assert!(bytes.starts_with(&[0xff, 0xd8]));
    assert_ne!(job.outputs[0].asset.sha256, job.outputs[1].asset.sha256);
    let leftovers = std::fs::read_dir(bench.folder.path().join("tmp")).unwrap().count();
    assert_eq!(leftovers, 0);
}

#[tokio::test]
async fn every_way_to_fail_has_its_state() {
    let bench = testing::bench_with_worker().await;
    for (prompt, state, code) in [
        ("fail", JobState::Failed, "failed_precondition"),
        ("moderate", JobState::Moderated, "content_moderated"),
        ("panic", JobState::Failed, "internal_error"),
    ] {
        let job = end(&bench, picture(prompt)).await;
        assert_eq!((job.state, job.error.unwrap().code.as_str()), (state, code), "{prompt}");
        assert!(job.outputs.is_empty());
    }
    // The worker goes on.
    assert_eq!(end(&bench, picture("a ball")).await.state, JobState::Done);
}

#[tokio::test]
async fn a_cancelled_job_stops_and_stays_cancelled() {
    let bench = testing::bench_with_worker().await;
    let id = bench.service.submit(&bench.account, picture("slow"), None).await.unwrap();
    testing::until(&bench, &id, |job| job.state == JobState::Running && job.progress > 0).await;
    assert_eq!(bench.service.cancel(&bench.account, &id).await.unwrap().state, JobState::Cancelled);
    // The place is free again: the generator has stopped.
    for _ in 0..5 {
        assert_eq!(end(&bench, picture("a ball")).await.state, JobState::Done);
    }
    assert_eq!(bench.service.job(&bench.account, &id).await.unwrap().state, JobState::Cancelled);
}

#[tokio::test]
async fn pictures_pass_clips_that_fill_the_worker() {
    let bench = testing::bench_with_worker().await;
    let mut clips = Vec::new();
    for _ in 0..6 {
        let spec = Spec::new(JobKind::Video, "grok-imagine-video", "slow");
        clips.push(bench.service.submit(&bench.account, spec, None).await.unwrap());
    }
    testing::until(&bench, &clips[2], |job| job.state == JobState::Running).await;
    assert_eq!(end(&bench, picture("a ball")).await.state, JobState::Done);
    let waiting = bench.service.job(&bench.account, &clips[5]).await.unwrap();
    assert_eq!(waiting.state, JobState::Queued);
    // Those that run would go on for ever.
    for id in &clips {
        bench.service.cancel(&bench.account, id).await.unwrap();
    }
}

/// A worker whose model is lost ends like one that was killed: its jobs, also those that were going well, are made again by the next one.
#[tokio::test]
async fn a_worker_that_loses_its_model_ends_and_its_jobs_are_made_again() {
    let bench = testing::bench().await;
    let well = bench.service.submit(&bench.account, picture("slow"), None).await.unwrap();
    let lost = bench.service.submit(&bench.account, picture("lose"), None).await.unwrap();
    let (_stop, stopped) = watch::channel(false);
    let config = WorkerConfig::new(bench.folder.path(), "m");
    let id = config.id.clone();
    let said = run(config, Arc::new(Fake::default()), stopped).await.unwrap_err().to_string();
    assert_eq!(said, "the model is lost: rank 1 has died (step 7)");
    bench.service.store().bury(&id).await.unwrap();
    for job in [&well, &lost] {
        let job = bench.service.job(&bench.account, job).await.unwrap();
        assert_eq!((job.state, job.error.is_none()), (JobState::Queued, true));
    }
}

#[tokio::test]
async fn a_worker_that_stops_gives_its_jobs_back() {
    let bench = testing::bench().await;
    let id = bench.service.submit(&bench.account, picture("slow"), None).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let config = WorkerConfig { grace: Duration::from_millis(10), ..WorkerConfig::new(bench.folder.path(), "m") };
    let worker = tokio::spawn(run(config, Arc::new(Fake::default()), stopped));
    testing::until(&bench, &id, |job| job.state == JobState::Running).await;
    stop.send(true).unwrap();
    worker.await.unwrap().unwrap();
    let job = testing::until(&bench, &id, |job| job.state != JobState::Running).await;
    assert_eq!((job.state, job.attempt), (JobState::Queued, 0));
}

#[tokio::test]
async fn a_growing_clip_can_be_watched_to_its_end() {
    let bench = testing::bench_with_worker().await;
    let job = end(&bench, Spec { n: 2, ..Spec::new(JobKind::Video, "grok-imagine-video", "a ball") }).await;
    assert_eq!(job.outputs.len(), 2);
    assert!(!crate::live::path(bench.folder.path(), &job.id, 0).exists());
    let _: &Service = &bench.service;
}

//! The job protocol, step by step, on the real database.

use super::*;
use crate::error::ApiErrorKind;
use crate::types::{AssetRef, Idempotency, JobError, JobFilter, JobKind, JobState, JobUsage, Output, Spec};

struct Fixture {
    _folder: tempfile::TempDir,
    store: Store,
    account: String,
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let account = store.account("a").await.unwrap();
    Fixture { _folder: folder, store, account }
}

impl Fixture {
    async fn submit(&self, spec: &Spec, hold: i64) -> String {
        let new = NewJob { account: &self.account, spec, hold, idempotency: None, max_queued: 100 };
        self.store.submit(new).await.unwrap().0
    }

    async fn state(&self, id: &str) -> JobState {
        self.store.job(&self.account, id).await.unwrap().unwrap().state
    }

    async fn claim(&self, running: usize) -> Option<Claimed> {
        self.store.claim("w", running, true).await.unwrap()
    }

    /// As if 31 seconds had gone by.
    async fn lapse(&self, id: &str) {
        sqlx::query("UPDATE job SET lease_until = 1 WHERE id = ?").bind(id).execute(&self.store.write).await.unwrap();
        self.store.reap().await.unwrap();
    }

    async fn money(&self) -> (Option<i64>, i64) {
        let usage = self.store.usage(&self.account, 0).await.unwrap();
        (usage.credits_ticks, usage.held_ticks)
    }
}

fn spec() -> Spec {
    Spec::new(JobKind::Image, "m", "p")
}

fn done(job: &Claimed) -> Ending {
    let asset = AssetRef {
        id: format!("{}-0", job.id),
        sha256: "ab".repeat(32),
        mime: "image/jpeg".into(),
        size: 1,
        width: 1,
        height: 1,
        seconds: 0.0,
    };
    Ending::Done {
        outputs: vec![Output { asset, frames: 1, file_id: None }],
        usage: JobUsage::default(),
        expires_at: now_ms() + 1000,
    }
}

#[tokio::test]
async fn only_the_holder_of_the_fence_can_end_a_job() {
    let f = fixture().await;
    let id = f.submit(&spec(), 0).await;
    let first = f.claim(0).await.unwrap();
    assert!(f.claim(1).await.is_none());
    f.lapse(&id).await;
    assert_eq!(f.state(&id).await, JobState::Queued);
    let second = f.claim(0).await.unwrap();
    assert!(second.fence > first.fence && second.attempt == 2);
    assert!(!f.store.finish(&first, &done(&first)).await.unwrap());
    assert!(f.store.asset(&format!("{id}-0")).await.unwrap().is_none());
    assert!(f.store.finish(&second, &done(&second)).await.unwrap());
    assert!(!f.store.finish(&second, &done(&second)).await.unwrap());
    assert_eq!(f.state(&id).await, JobState::Done);
    assert!(f.store.asset(&format!("{id}-0")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_poisonous_job_fails_after_three_attempts_and_is_made_alone() {
    let f = fixture().await;
    let poison = f.submit(&spec(), 0).await;
    let other = f.submit(&spec(), 0).await;
    let (one, two) = (f.claim(0).await.unwrap(), f.claim(1).await.unwrap());
    assert_eq!((&one.id, &two.id), (&poison, &other));
    // The worker dies: both are suspects, and each is made alone.
    f.store.bury("w").await.unwrap();
    let fresh = f.submit(&spec(), 0).await;
    assert!(f.claim(1).await.is_none());
    let again = f.claim(0).await.unwrap();
    assert_eq!((&again.id, again.attempt), (&poison, 2));
    f.store.bury("w").await.unwrap();
    assert_eq!(f.claim(0).await.unwrap().id, poison);
    f.store.bury("w").await.unwrap();
    assert_eq!(f.state(&poison).await, JobState::Failed);
    let job = f.store.job(&f.account, &poison).await.unwrap().unwrap();
    assert_eq!((job.attempt, job.error.unwrap().code.as_str()), (3, "internal_error"));
    for id in [&other, &fresh] {
        let claimed = f.claim(0).await.unwrap();
        assert_eq!(&claimed.id, id);
        assert!(f.store.finish(&claimed, &done(&claimed)).await.unwrap());
    }
}

#[tokio::test]
async fn releasing_does_not_count_as_an_attempt() {
    let f = fixture().await;
    let id = f.submit(&spec(), 0).await;
    for _ in 0..5 {
        let job = f.claim(0).await.unwrap();
        assert_eq!(job.attempt, 1);
        assert!(f.store.finish(&job, &Ending::Released).await.unwrap());
    }
    assert_eq!(f.state(&id).await, JobState::Queued);
}

#[tokio::test]
async fn credits_are_held_spent_and_given_back() {
    let f = fixture().await;
    f.store.set_credits(&f.account, Some(100)).await.unwrap();
    let (a, b) = (f.submit(&spec(), 40).await, f.submit(&spec(), 40).await);
    let spec = spec();
    let new = NewJob { account: &f.account, spec: &spec, hold: 40, idempotency: None, max_queued: 100 };
    assert_eq!(f.store.submit(new).await.unwrap_err().kind, ApiErrorKind::PaymentRequired);
    assert_eq!(f.money().await, (Some(100), 80));
    let first = f.claim(0).await.unwrap();
    assert_eq!(first.id, a);
    f.store.finish(&first, &done(&first)).await.unwrap();
    assert_eq!(f.money().await, (Some(60), 40));
    let second = f.claim(0).await.unwrap();
    assert_eq!(second.id, b);
    f.store.finish(&second, &Ending::Failed(JobError { code: "x".into(), message: "y".into() })).await.unwrap();
    assert_eq!(f.money().await, (Some(60), 0));
    let c = f.submit(&spec, 60).await;
    assert!(f.store.cancel(&f.account, &c).await.unwrap());
    assert!(!f.store.cancel(&f.account, &c).await.unwrap());
    assert_eq!(f.money().await, (Some(60), 0));
}

#[tokio::test]
async fn an_idempotency_key_makes_one_job() {
    let f = fixture().await;
    let clip = Spec::new(JobKind::Video, "m", "p");
    let still = spec();
    let key = |spec, key: &str, hash| NewJob {
        account: &f.account,
        spec,
        hold: 0,
        idempotency: Some(Idempotency { key: key.into(), request_hash: [hash; 32] }),
        max_queued: 100,
    };
    let all = futures_util::future::join_all((0..50).map(|_| f.store.submit(key(&clip, "k", 1)))).await;
    let ids: std::collections::BTreeSet<String> = all.into_iter().map(|r| r.unwrap().0).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(f.store.submit(key(&clip, "k", 2)).await.unwrap_err().kind, ApiErrorKind::Conflict);
    let (id, fresh) = f.store.submit(key(&still, "s", 1)).await.unwrap();
    assert!(fresh);
    // A picture that is being made is answered when it is there.
    assert_eq!(f.store.submit(key(&still, "s", 1)).await.unwrap_err().kind, ApiErrorKind::Conflict);
    let job = f.claim(0).await.unwrap();
    assert_eq!(job.id, id);
    f.store.finish(&job, &done(&job)).await.unwrap();
    assert_eq!(f.store.submit(key(&still, "s", 1)).await.unwrap(), (id, false));
}

#[tokio::test]
async fn accounts_do_not_see_each_other() {
    let f = fixture().await;
    let id = f.submit(&spec(), 0).await;
    let other = f.store.account("b").await.unwrap();
    assert!(f.store.job(&other, &id).await.unwrap().is_none());
    assert!(!f.store.cancel(&other, &id).await.unwrap());
    assert_eq!(f.store.delete(&other, &id).await.unwrap(), None);
    assert!(f.store.jobs(&other, &JobFilter { limit: 10, ..Default::default() }).await.unwrap().items.is_empty());
    assert_eq!(f.state(&id).await, JobState::Queued);
    assert!(f.store.delete(&f.account, &id).await.unwrap().is_some());
    assert!(f.store.job(&f.account, &id).await.unwrap().is_none());
}

#[tokio::test]
async fn pages_have_every_job_once() {
    let f = fixture().await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(f.submit(&spec(), 0).await);
    }
    for ascending in [false, true] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let filter = JobFilter { limit: 3, after, ascending, ..JobFilter::default() };
            let page = f.store.jobs(&f.account, &filter).await.unwrap();
            seen.extend(page.items.into_iter().map(|job| job.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if !ascending {
            seen.reverse();
        }
        assert_eq!(seen, ids);
    }
}

#[tokio::test]
async fn jobs_are_claimed_in_the_order_of_their_submission() {
    let f = fixture().await;
    let mut ids = Vec::new();
    // More than one in a millisecond.
    for _ in 0..40 {
        ids.push(f.submit(&spec(), 0).await);
    }
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(&f.claim(n).await.unwrap().id, id);
    }
}

#[tokio::test]
async fn results_expire_and_webhooks_are_owed_once() {
    let f = fixture().await;
    let id = f.submit(&Spec { webhook_url: Some("https://example.org/".into()), ..spec() }, 0).await;
    let job = f.claim(0).await.unwrap();
    assert!(f.store.due_webhooks().await.unwrap().is_empty());
    f.store.finish(&job, &done(&job)).await.unwrap();
    assert!(!f.store.finish(&job, &done(&job)).await.unwrap());
    let due = f.store.due_webhooks().await.unwrap();
    assert_eq!((due.len(), due[0].attempt, &due[0].job), (1, 0, &id));
    assert!(f.store.due_webhooks().await.unwrap().is_empty(), "put off while it is tried");
    f.store.webhook_tried(&due[0].id, "pending", 0).await.unwrap();
    assert_eq!(f.store.due_webhooks().await.unwrap()[0].attempt, 1);
    sqlx::query("UPDATE job SET expires_at = 1").execute(&f.store.write).await.unwrap();
    sqlx::query("UPDATE asset SET expires_at = 1").execute(&f.store.write).await.unwrap();
    assert!(f.store.is_needed(&"ab".repeat(32)).await.unwrap());
    f.store.expire().await.unwrap();
    assert_eq!(f.state(&id).await, JobState::Expired);
    assert!(!f.store.is_needed(&"ab".repeat(32)).await.unwrap());
}

#[tokio::test]
async fn another_process_is_noticed() {
    let f = fixture().await;
    let other = Store::open(f.store.path().parent().unwrap()).await.unwrap();
    let mut changes = f.store.changes();
    // The first look of the watcher counts as one, too.
    tokio::time::sleep(LOOK * 5).await;
    changes.borrow_and_update();
    other.account("somebody").await.unwrap();
    changes.changed().await.unwrap();
}

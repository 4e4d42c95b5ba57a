//! Webhooks (Standard Webhooks 1.0) and uploads. What is owed lies in the outbox since its job has ended; it is sent at least once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::error::ApiError;
use crate::fetch::Posted;
use crate::secrets;
use crate::service::Service;
use crate::store::{Delivery, Owed, now_ms};
use crate::types::{Dialect, Job, JobState};

/// Seconds before each try after the first; then it is given up.
const SCHEDULE: [i64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// Longest time that a `Retry-After` is honoured, seconds.
const MAX_RETRY_AFTER: i64 = 86_400;

/// Sends what is due until `stop`.
pub(crate) async fn run(service: Service, mut stop: watch::Receiver<bool>) {
    let mut changes = service.store().changes();
    while !*stop.borrow() {
        match service.store().due_webhooks().await {
            Ok(due) => {
                let sent = due.iter().map(|delivery| deliver(&service, delivery));
                futures_util::future::join_all(sent).await;
            }
            Err(error) => tracing::warn!(%error, "the outbox could not be read"),
        }
        tokio::select! {
            _ = stop.changed() => {}
            _ = async { let _ = changes.changed().await; tokio::time::sleep(Duration::from_millis(100)).await } => {}
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}

/// One try, and what follows from it.
async fn deliver(service: &Service, delivery: &Delivery) {
    let noted = match attempt(service, delivery).await {
        Ok(Tried::Sent) => {
            service.metrics().webhooks_sent.fetch_add(1, Ordering::Relaxed);
            service.store().webhook_tried(&delivery.id, "sent", now_ms()).await
        }
        Ok(Tried::Unwanted) => service.store().disable_webhooks(&delivery.account, &delivery.url).await,
        Ok(Tried::Failed { retry_after }) => again(service, delivery, retry_after).await,
        Err(error) => {
            tracing::info!(webhook = %delivery.id, %error, "a webhook was not delivered");
            again(service, delivery, None).await
        }
    };
    if let Err(error) = noted {
        // It is tried again in a minute: at least once.
        tracing::warn!(%error, "the outbox could not be written");
    }
}

enum Tried {
    Sent,
    /// 410 Gone.
    Unwanted,
    Failed {
        retry_after: Option<u64>,
    },
}

async fn attempt(service: &Service, delivery: &Delivery) -> Result<Tried, ApiError> {
    let Some(job) = service.store().any_job(&delivery.job).await? else { return Ok(Tried::Unwanted) };
    let posted = match delivery.what {
        Owed::Webhook => tell(service, delivery, &job).await?,
        Owed::Upload => {
            // It may have expired, or have been deleted, before its receiver was reached.
            let Some(output) = job.outputs.first() else { return Ok(Tried::Unwanted) };
            let bytes = service.read_asset(&output.asset).await?;
            service.fetcher().put(&delivery.url, &output.asset.mime, bytes).await?
        }
    };
    Ok(match posted.status {
        200..=299 => Tried::Sent,
        410 => Tried::Unwanted,
        _ => Tried::Failed { retry_after: posted.retry_after },
    })
}

/// Posts the news of a job, signed.
async fn tell(service: &Service, delivery: &Delivery, job: &Job) -> Result<Posted, ApiError> {
    let now = now_ms() / 1000;
    let body = body(service, job).await?.to_string().into_bytes();
    let signature =
        secrets::webhook_signature(&service.secret().webhook_key(&delivery.account), &delivery.id, now, &body);
    let headers = vec![
        ("content-type", "application/json".to_string()),
        ("webhook-id", delivery.id.clone()),
        ("webhook-timestamp", now.to_string()),
        ("webhook-signature", signature),
    ];
    service.fetcher().post(&delivery.url, headers, body).await
}

async fn again(service: &Service, delivery: &Delivery, retry_after: Option<u64>) -> crate::Result<()> {
    service.metrics().webhooks_failed.fetch_add(1, Ordering::Relaxed);
    match next_pause(delivery.attempt, retry_after) {
        Some(seconds) => service.store().webhook_tried(&delivery.id, "pending", now_ms() + seconds * 1000).await,
        None => service.store().webhook_tried(&delivery.id, "failed", now_ms()).await,
    }
}

/// Seconds until the next try after `attempt` earlier ones; `None`: that was the last.
fn next_pause(attempt: i64, retry_after: Option<u64>) -> Option<i64> {
    let own = *SCHEDULE.get(usize::try_from(attempt).ok()?)?;
    Some(own.max(retry_after.map_or(0, |s| i64::try_from(s).unwrap_or(MAX_RETRY_AFTER).min(MAX_RETRY_AFTER))))
}

/// What is sent: an event around the job; a task's callback gets the task itself, as its dialect promises.
async fn body(service: &Service, job: &Job) -> Result<Value, ApiError> {
    if job.spec.dialect == Dialect::Task {
        return crate::rest::task_object(service, job).await;
    }
    let thing = if job.spec.kind.is_still() { "image" } else { "video" };
    let what = match job.state {
        JobState::Done => "completed",
        JobState::Cancelled => "cancelled",
        JobState::Expired => "expired",
        JobState::Moderated => "moderated",
        JobState::Failed | JobState::Queued | JobState::Running => "failed",
    };
    let outputs: Vec<Value> = job
        .outputs
        .iter()
        .enumerate()
        .map(|(n, output)| {
            let asset = &output.asset;
            json!({
                "url": service.output_url(job, n), "mime_type": asset.mime, "width": asset.width, "height": asset.height,
                "duration": asset.seconds, "file_id": output.file_id,
            })
        })
        .collect();
    Ok(json!({
        "type": format!("{thing}.{what}"),
        "timestamp": crate::rest::rfc3339(job.finished_at.unwrap_or(job.created_at)),
        "data": {
            "id": job.id, "request_id": job.id, "model": job.spec.model, "status": job.state, "outputs": outputs,
            "error": job.error, "cost_in_usd_ticks": job.cost_ticks,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_spread_over_days_and_end() {
        let pauses: Vec<_> = (0..9).map(|n| next_pause(n, None)).collect();
        assert_eq!(pauses[..3], [Some(5), Some(300), Some(1800)]);
        assert!(pauses.is_sorted() && next_pause(9, None).is_none() && next_pause(-1, None).is_none());
        assert_eq!(next_pause(0, Some(60)), Some(60));
        assert_eq!(next_pause(1, Some(60)), Some(300));
        assert_eq!(next_pause(0, Some(u64::MAX)), Some(86_400));
    }
}

//! `GET /v1/usage`: what an account used.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::{Answer, Caller, Params, time};
use crate::service::Service;

/// Days that are counted when nothing is said.
const DAYS: i64 = 30;
const DAY_MS: i64 = 86_400_000;

/// `GET /v1/usage?days=30`, or `?since=` Unix seconds.
pub(super) async fn get(State(service): State<Service>, Caller(account): Caller, params: Params) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let days = params.whole("days", 1..=3650)?.unwrap_or(DAYS);
    let since = params.whole("since", 0..=253_402_300_799)?.map_or(now - days * DAY_MS, |seconds| seconds * 1000);
    let used = service.usage(&account, since).await?;
    Ok(Json(json!({
        "object": "usage",
        "since": time::seconds(since),
        "jobs": used.jobs,
        "images": used.images,
        "video_seconds": used.video_seconds,
        "cost_in_usd_ticks": used.cost_ticks,
        "credits_in_usd_ticks": used.credits_ticks,
        "held_in_usd_ticks": used.held_ticks,
    })))
}

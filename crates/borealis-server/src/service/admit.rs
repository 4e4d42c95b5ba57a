//! What a job must be to be accepted, what is filled in, and what it costs.

use super::*;
use crate::config::{PaymentStyle, Prices};
use crate::store::NewJob;

/// Longest prompt, characters.
pub const MAX_PROMPT: usize = 10_000;
/// Most pictures that a prompt can name.
pub const MAX_REFERENCES: usize = 7;
/// Longest clip, seconds, over all its continuations.
pub const MAX_SECONDS: f32 = 30.0;
/// Longest idempotency key.
pub const MAX_IDEMPOTENCY_KEY: usize = 255;

impl Service {
    /// Accepts a job. When it returns, the job is on the disk and will end exactly once.
    pub async fn submit(
        &self,
        account: &Account,
        mut spec: Spec,
        idempotency: Option<Idempotency>,
    ) -> Result<JobId, ApiError> {
        if let Some(idempotency) = &idempotency
            && (idempotency.key.is_empty() || idempotency.key.len() > MAX_IDEMPOTENCY_KEY)
        {
            let message = format!("the Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY} bytes");
            return Err(ApiError::invalid("Idempotency-Key", message));
        }
        self.inner.limits.start(&account.key_id, 1)?;
        let hold = self.admit(account, &mut spec).await?;
        let max_queued = self.inner.config.max_queued;
        let new = NewJob { account: &account.id, spec: &spec, hold, idempotency, max_queued };
        let style = self.inner.config.payment;
        let (id, fresh) = self.inner.store.submit(new).await.map_err(|error| unpaid(error, style))?;
        if fresh {
            tracing::info!(job = %id, kind = spec.kind.name(), model = %spec.model, "accepted");
        }
        Ok(id)
    }

    /// Checks a job before it is stored, and completes it; returns the ticks that it costs.
    pub(crate) async fn admit(&self, account: &Account, spec: &mut Spec) -> Result<i64, ApiError> {
        check(spec)?;
        spec.checkpoint = Some(self.resolve_model(Some(&spec.model), spec.kind)?.checkpoint.clone());
        self.inner.moderation.prompt(&spec.prompt, spec.spicy).map_err(|blocked| ApiError {
            field: Some("prompt".into()),
            ..ApiError::new(ApiErrorKind::ContentModerated, blocked.to_string())
        })?;
        for url in spec.webhook_url.iter().chain(&spec.upload_url) {
            self.inner.fetcher.check(url).await?;
        }
        if let Some(folder) = &spec.folder
            && !self.inner.store.folders(&account.id).await?.iter().any(|known| known.id == *folder)
        {
            return Err(ApiError::invalid("folder", format!("there is no folder \"{folder}\": make it first")));
        }
        if spec.seed.is_none() {
            // Short enough to type again, and exact in every language's numbers.
            let random = crate::secrets::random();
            spec.seed = Some(u64::from(u32::from_le_bytes([random[0], random[1], random[2], random[3]])));
        }
        Ok(price(&self.inner.config.prices, spec))
    }
}

/// Tells an account without credits as the operator wants it told.
fn unpaid(error: ApiError, style: PaymentStyle) -> ApiError {
    let kind = match (error.kind, style) {
        (ApiErrorKind::PaymentRequired, PaymentStyle::Forbidden) => ApiErrorKind::PermissionDenied,
        // Credits come back when somebody adds some: an hour keeps clients from hammering.
        (ApiErrorKind::PaymentRequired, PaymentStyle::TooManyRequests) => {
            ApiErrorKind::ResourceExhausted { retry_after: 3600 }
        }
        (kind, _) => kind,
    };
    ApiError { kind, ..error }
}

/// What every dialect promises; a job that passes can be made, unless its inputs or its model say no.
pub(super) fn check(spec: &Spec) -> Result<(), ApiError> {
    let bad = |field: &str, message: String| Err(ApiError::invalid(field, message));
    let length = spec.prompt.chars().count();
    if length > MAX_PROMPT {
        return bad("prompt", format!("the prompt has {length} characters: use at most {MAX_PROMPT}"));
    }
    let alone = spec.kind == JobKind::Video && spec.image.is_some();
    if spec.prompt.trim().is_empty() && !alone {
        return bad("prompt", "the prompt is empty: say what to make".into());
    }
    if !(1..=spec.kind.most()).contains(&spec.n) {
        return bad("n", format!("n {} is out of range: use 1 to {}", spec.n, spec.kind.most()));
    }
    if let Some(seconds) = spec.seconds
        && !(1.0..=15.0).contains(&seconds)
    {
        return bad("duration", format!("duration {seconds} is out of range: use 1 to 15"));
    }
    let whole = spec.seconds.unwrap_or(6.0) + spec.chain_seconds.iter().sum::<f32>();
    if spec.chain_seconds.iter().any(|s| !(1.0..=15.0).contains(s)) || whole > MAX_SECONDS {
        return bad("duration", format!("duration {whole} is out of range: use at most {MAX_SECONDS}"));
    }
    if spec.references.len() > MAX_REFERENCES {
        return bad(
            "reference_images",
            format!("{} pictures are too many: use at most {MAX_REFERENCES}", spec.references.len()),
        );
    }
    if let Some(guidance) = spec.guidance
        && !(0.0..=100.0).contains(&guidance)
    {
        return bad("guidance", format!("guidance {guidance} is out of range: use 0 to 100; 1 is off"));
    }
    if spec.preset.as_deref().is_some_and(|preset| !matches!(preset, "quality" | "speed")) {
        return bad("preset", "the preset is unknown: use quality or speed".into());
    }
    let missing = match spec.kind {
        JobKind::EditImage if spec.image.is_none() => Some("image"),
        JobKind::EditVideo | JobKind::Extend if spec.video.is_none() => Some("video"),
        _ => None,
    };
    missing.map_or(Ok(()), |field| bad(field, format!("{field} is missing: give one")))
}

/// What a job costs, ticks.
pub(super) fn price(prices: &Prices, spec: &Spec) -> i64 {
    let resolution = spec.resolution.as_deref();
    let n = i64::from(spec.n);
    if spec.kind.is_still() {
        return n * if resolution == Some("2k") { prices.image_2k } else { prices.image_1k };
    }
    let given = spec.video.as_ref();
    let lines = given.map_or(0, |video| video.width.min(video.height));
    let second = match resolution {
        Some("1080p") => prices.video_1080p,
        Some("720p") => prices.video_720p,
        None if lines > 500 => prices.video_720p,
        _ => prices.video_480p,
    };
    let seconds = match (spec.kind, given) {
        (JobKind::EditVideo, Some(video)) => video.seconds,
        _ => f64::from(spec.seconds.unwrap_or(6.0) + spec.chain_seconds.iter().sum::<f32>()),
    };
    n * (seconds * second as f64).round() as i64
}

//! How often a key may start work.

use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::error::{ApiError, ApiErrorKind};

/// Keys whose counters are kept before idle ones are dropped.
const MANY: usize = 10_000;

/// A rate per key: `per_minute` at once, then as many a minute, evenly.
pub(crate) struct Limits {
    limiter: Option<DefaultKeyedRateLimiter<String>>,
    clock: DefaultClock,
}

impl Limits {
    /// 0: no limit.
    pub fn new(per_minute: u32) -> Self {
        let quota = NonZeroU32::new(per_minute).map(Quota::per_minute);
        Self { limiter: quota.map(RateLimiter::keyed), clock: DefaultClock::default() }
    }

    /// Counts one start.
    ///
    /// # Errors
    /// Too many: with the seconds until the next one is possible.
    pub fn start(&self, key_id: &str) -> Result<(), ApiError> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if limiter.len() > MANY {
            limiter.retain_recent();
        }
        limiter.check_key(&key_id.to_string()).map_err(|until| {
            let retry_after = until.wait_time_from(self.clock.now()).as_secs() + 1;
            let message = format!("this key starts work too often: try again in {retry_after} s");
            ApiError::new(ApiErrorKind::ResourceExhausted { retry_after }, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_limit() {
        let limits = Limits::new(2);
        assert!(limits.start("a").is_ok() && limits.start("a").is_ok());
        let refused = limits.start("a").unwrap_err();
        assert!(matches!(refused.kind, ApiErrorKind::ResourceExhausted { retry_after: 1..=31 }), "{refused:?}");
        assert!(limits.start("b").is_ok());
        let open = Limits::new(0);
        assert!((0..1000).all(|_| open.start("a").is_ok()));
    }
}

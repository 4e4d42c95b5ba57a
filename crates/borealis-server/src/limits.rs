//! How often a key may start work.

use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::error::{ApiError, ApiErrorKind};

/// Keys whose counters are kept before idle ones are dropped.
const MANY: usize = 10_000;

/// A rate per key: `per_minute` at once, then as many a minute, evenly.
pub(crate) struct Limits {
    limiter: Option<(DefaultKeyedRateLimiter<String>, NonZeroU32)>,
    clock: DefaultClock,
}

impl Limits {
    /// 0: no limit.
    pub fn new(per_minute: u32) -> Self {
        let keyed = |n| (RateLimiter::keyed(Quota::per_minute(n)), n);
        Self { limiter: NonZeroU32::new(per_minute).map(keyed), clock: DefaultClock::default() }
    }

    /// Counts `jobs` starts, all or none.
    ///
    /// # Errors
    /// Too many: with the seconds until they are possible, or never at once when they are more than a minute allows.
    pub fn start(&self, key_id: &str, jobs: u32) -> Result<(), ApiError> {
        let (Some((limiter, per_minute)), Some(count)) = (&self.limiter, NonZeroU32::new(jobs)) else { return Ok(()) };
        if limiter.len() > MANY {
            limiter.retain_recent();
        }
        let checked = limiter.check_key_n(&key_id.to_string(), count).map_err(|_| {
            let message = format!("{jobs} jobs at once are too many: this key may start {per_minute} a minute");
            ApiError::new(ApiErrorKind::InvalidArgument, message)
        })?;
        checked.map_err(|until| {
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
        assert!(limits.start("a", 1).is_ok() && limits.start("a", 1).is_ok());
        let refused = limits.start("a", 1).unwrap_err();
        assert!(matches!(refused.kind, ApiErrorKind::ResourceExhausted { retry_after: 1..=31 }), "{refused:?}");
        assert!(limits.start("b", 1).is_ok());
        let open = Limits::new(0);
        assert!((0..1000).all(|_| open.start("a", 1000).is_ok()));
    }

    #[test]
    fn several_starts_are_all_or_none() {
        let limits = Limits::new(5);
        assert!(limits.start("a", 0).is_ok() && limits.start("a", 3).is_ok());
        let refused = limits.start("a", 3).unwrap_err();
        assert!(matches!(refused.kind, ApiErrorKind::ResourceExhausted { retry_after: 1..=13 }), "{refused:?}");
        assert!(limits.start("a", 2).is_ok(), "what was refused has taken nothing");
        assert!(limits.start("b", 5).is_ok());
        let never = limits.start("c", 6).unwrap_err();
        assert_eq!(never.kind, ApiErrorKind::InvalidArgument);
        assert!(never.message.contains("6 jobs") && never.message.contains("5 a minute"), "{never}");
    }
}

//! The heartbeat, on a thread and a connection of its own: generation must not starve it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Running, lock};
use crate::error::{Result, ServerError};
use crate::store::Pulse;

/// Time between two looks: how late a cancelled job may notice.
const LOOK: Duration = Duration::from_millis(200);
/// Time between two renewals of a lease of 30 s.
const BEAT: Duration = Duration::from_secs(5);

/// Ends the thread when it goes, and whatever still runs: without a heartbeat it would lose its lease anyway.
pub(super) struct Beats {
    stop: Arc<AtomicBool>,
    running: Running,
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        lock(&self.running).values().for_each(|context| context.cancel());
    }
}

/// What the worker tells of itself with each beat, as JSON.
pub(super) type Info = Box<dyn Fn() -> String + Send>;

/// Starts the thread.
pub(super) fn start(path: PathBuf, worker: String, info: Info, running: Running) -> Result<Beats> {
    let system = |source| ServerError::System { what: "starting the heartbeat", source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    let stop = Arc::new(AtomicBool::new(false));
    let beats = Beats { stop: stop.clone(), running: running.clone() };
    std::thread::Builder::new()
        .name("heartbeat".into())
        .spawn(move || runtime.block_on(beat(&path, &worker, &*info, &running, &stop)))
        .map_err(system)?;
    Ok(beats)
}

async fn beat(path: &Path, worker: &str, info: &(dyn Fn() -> String + Send), running: &Running, stop: &AtomicBool) {
    let mut pulse: Option<Pulse> = None;
    let mut told = HashMap::new();
    let mut seen: Option<Instant> = None;
    while !stop.load(Ordering::SeqCst) {
        if pulse.is_none() {
            pulse = Pulse::open(path, worker).await.ok();
        }
        if let Some(open) = pulse.as_mut()
            && let Err(error) = look(open, info, running, &mut told, &mut seen).await
        {
            tracing::warn!(%error, "the heartbeat did not reach the database");
            pulse = None;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Renews what is due, tells progress, and stops jobs that are in other hands.
async fn look(
    pulse: &mut Pulse,
    info: &(dyn Fn() -> String + Send),
    running: &Running,
    told: &mut HashMap<String, (u8, Instant)>,
    seen: &mut Option<Instant>,
) -> Result<()> {
    if seen.is_none_or(|at| at.elapsed() >= BEAT) {
        pulse.seen(&info()).await?;
        *seen = Some(Instant::now());
    }
    // First what runs here, then what is ours: a job that is claimed in between is not missed.
    let here: Vec<_> = lock(running).iter().map(|(id, context)| (id.clone(), context.clone())).collect();
    told.retain(|id, _| here.iter().any(|(known, _)| known == id));
    if here.is_empty() {
        return Ok(());
    }
    let mine = pulse.mine().await?;
    for (id, context) in here {
        if !mine.iter().any(|(known, fence)| *known == id && *fence == context.fence) {
            context.cancel();
            continue;
        }
        let progress = context.progress.load(Ordering::Relaxed);
        let due = told.get(&id).is_none_or(|(last, at)| *last != progress || at.elapsed() >= BEAT);
        if due {
            if !pulse.beat(&id, context.fence, progress).await? {
                context.cancel();
            }
            told.insert(id, (progress, Instant::now()));
        }
    }
    Ok(())
}

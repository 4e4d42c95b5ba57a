//! The API's hand over its worker: started, watched, buried, started again. And what happens on the clock: leases, expiry, blobs.

use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::config::ProcessSpec;
use crate::service::Service;

/// Pause before a worker is started again: doubled each time, forgotten after a minute of work.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const STEADY: Duration = Duration::from_secs(60);

/// Keeps one worker alive until `stop`.
pub(crate) async fn worker(service: Service, program: ProcessSpec, mut stop: watch::Receiver<bool>) {
    let mut pause = FIRST_PAUSE;
    while !*stop.borrow() {
        let id = ulid::Ulid::generate().to_string();
        let began = Instant::now();
        match start(&program, &id) {
            Ok(mut child) => {
                // Taken out: waiting for a child closes what is left in it, and the worker ends with its standard input.
                let input = child.stdin.take();
                tokio::select! {
                    status = child.wait() => match status {
                        Ok(status) => tracing::error!(%status, "the worker ended"),
                        Err(error) => tracing::error!(%error, "the worker is lost"),
                    },
                    () = asked(&mut stop) => {
                        wind_up(&service, &mut child, input).await;
                        bury(&service, &id).await;
                        return;
                    }
                }
            }
            Err(error) => tracing::error!(%error, program = %program.program.display(), "the worker cannot be started"),
        }
        service.metrics().worker_exits.fetch_add(1, Ordering::Relaxed);
        bury(&service, &id).await;
        if began.elapsed() > STEADY {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = stop.changed() => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits until the server is asked to stop, or nobody can ask any more.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn start(program: &ProcessSpec, id: &str) -> std::io::Result<Child> {
    let mut command = Command::new(&program.program);
    command.args(&program.args).args(["--id", id]).stdin(Stdio::piped()).kill_on_drop(true);
    // Ctrl-C is for the API; the worker is asked to end by the end of its standard input.
    #[cfg(unix)]
    command.process_group(0);
    command.spawn()
}

/// Asks a worker to end; one that does not is killed. Its jobs are taken back.
async fn wind_up(service: &Service, child: &mut Child, input: Option<ChildStdin>) {
    drop(input);
    if tokio::time::timeout(service.config().grace, child.wait()).await.is_err() {
        // It is gone already, or it goes now.
        let _ = child.kill().await;
    }
}

/// Its jobs need not wait until their leases are over.
async fn bury(service: &Service, id: &str) {
    if let Err(error) = service.store().bury(id).await {
        tracing::warn!(%error, "the worker's jobs wait for the end of their leases");
    }
}

/// One look at how well media processes are locked.
pub(crate) async fn media(service: Service, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = service.media().check() => {}
        () = asked(&mut stop) => {}
    }
}

/// Leases every second, expiry and what was deleted every ten, forgotten blobs every ten minutes.
pub(crate) async fn clock(service: Service, mut stop: watch::Receiver<bool>) {
    let mut tick = 0_u64;
    while !*stop.borrow() {
        if let Err(error) = service.store().reap().await {
            tracing::warn!(%error, "leases could not be looked at");
        }
        if tick.is_multiple_of(10) {
            match service.store().expire().await {
                Ok(hashes) => service.discard(hashes).await,
                Err(error) => tracing::warn!(%error, "what has expired could not be removed"),
            }
        }
        if tick.is_multiple_of(600)
            && let Err(error) = service.sweep_forgotten().await
        {
            tracing::warn!(%error, "results that nobody needs could not be removed");
        }
        tick += 1;
        tokio::select! {
            () = sleep(Duration::from_secs(1)) => {}
            _ = stop.changed() => {}
        }
    }
}

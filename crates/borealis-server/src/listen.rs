//! The accept loop: HTTP/1.1 and HTTP/2 on one port, with a clock on everything that a stranger can do slowly.

use std::convert::Infallible;
use std::future::Future as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Sleep, sleep, timeout};
use tower::ServiceExt;

use crate::error::{Result, ServerError};
use crate::metrics::Metrics;

/// A head must be there after so long, and a body must go on within it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a body that count as going on: one now and then does not.
const STEP: usize = 1024;
/// Requests that one HTTP/2 connection may have open.
const STREAMS: u32 = 128;
/// Connections that may wait to be accepted. Those beyond it would seem open to their clients and never be served; the system may allow fewer.
const BACKLOG: u32 = 4096;
/// What an HTTP/2 connection starts with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Binds the address.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A server that was killed a moment ago does not keep its address.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| ServerError::Listen { address: address.to_string(), source })
}

/// Serves connections until `stop` is true; then lets what is open finish for at most `grace`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    connections: usize,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
    grace: Duration,
) {
    let room = Arc::new(Semaphore::new(connections));
    let router = router.layer(axum::middleware::map_request(with_clock));
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            // Out of file descriptors, or the peer is gone already: go on after a moment.
            Err(_) => {
                sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let (router, metrics, stop) = (router.clone(), metrics.clone(), stop.clone());
        tokio::spawn(async move {
            metrics.connections.fetch_add(1, Ordering::Relaxed);
            connection(stream, router, stop).await;
            metrics.connections.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
    }
    drop(listener);
    // All permits are back when all connections are closed.
    let _ = timeout(grace, room.acquire_many(connections as u32)).await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    let Ok(Some(http2)) = timeout(PATIENCE, speaks_http2(&stream)).await else { return };
    let builder = builder(http2);
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move { Ok::<Response, Infallible>(answer(router, request.map(Body::new)).await) }
    });
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    serving.as_mut().graceful_shutdown();
    // The error of a connection says nothing that its peer does not know.
    let _ = serving.await;
}

/// Routers never fail, and always are ready.
async fn answer(router: Router, request: Request) -> Response {
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn builder(http2: bool) -> auto::Builder<TokioExecutor> {
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = if http2 { builder.http2_only() } else { builder.http1_only() };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_headers(100).max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(64 << 10)
        // Clients that are gone are noticed; the pings of those that are there are always answered.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(PATIENCE)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    builder
}

/// Looks at the first bytes without taking them. `None`: the peer is gone.
async fn speaks_http2(stream: &TcpStream) -> Option<bool> {
    let mut head = [0; PREFACE.len()];
    loop {
        let n = stream.peek(&mut head).await.ok().filter(|&n| n > 0)?;
        if head[..n] != PREFACE[..n] {
            return Some(false);
        }
        if n == PREFACE.len() {
            return Some(true);
        }
        // peek returns the same bytes at once until there are more.
        sleep(Duration::from_millis(20)).await;
    }
}

/// Puts a clock on the body of a request.
async fn with_clock(request: Request) -> Request {
    request.map(|body| Body::new(Clocked { inner: body, sleep: None, since: 0 }))
}

/// A body that fails when it does not go on.
struct Clocked {
    inner: Body,
    /// Set when somebody waits for more bytes.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Bytes since the clock was set.
    since: usize,
}

/// The sender of a body was too slow.
#[derive(Debug, thiserror::Error)]
#[error("the body did not go on for 10 seconds: send it faster")]
pub(crate) struct TooSlow;

impl http_body::Body for Clocked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(frame) = polled {
            if let Some(Ok(frame)) = &frame {
                self.since += frame.data_ref().map_or(0, Bytes::len);
            }
            if self.since >= STEP {
                self.since = 0;
                self.sleep = None;
            }
            return Poll::Ready(frame);
        }
        let clock = self.sleep.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        match clock.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(axum::Error::new(TooSlow)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

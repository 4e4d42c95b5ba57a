use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn said(policy: FetchPolicy, url: &str) -> Option<String> {
    Fetcher::new(policy).parse(url).err().map(|e| e.message)
}

#[test]
fn policies_and_schemes() {
    use FetchPolicy::{Http, Https, Off};
    for (policy, url, fine) in [
        (Off, "https://example.org/a.png", false),
        (Https, "https://example.org/a.png", true),
        (Https, "http://example.org/a.png", false),
        (Http, "http://example.org/a.png", true),
        (Http, "ftp://example.org/a.png", false),
        (Http, "file:///etc/passwd", false),
        (Http, "gopher://example.org", false),
        (Http, "https://user@example.org/", false),
        (Http, "https://user:secret@example.org/", false),
        (Http, "example.org/a.png", false),
        (Http, "https://", false),
        (Http, "", false),
    ] {
        assert_eq!(said(policy, url).is_none(), fine, "{policy:?} {url}");
    }
    assert!(said(Https, &format!("https://example.org/{}", "a".repeat(MAX_URL))).is_some());
}

#[test]
fn addresses_that_are_not_public_in_every_spelling() {
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.1",
        "127.0.0.1.",
        "0.0.0.0",
        "0",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.127.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001::1]",
        "[fc00::1]",
        "[fd12::1]",
        "[fe80::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[3fff::1]",
    ] {
        let url = format!("http://{host}:8080/x");
        assert_eq!(said(FetchPolicy::Http, &url).as_deref(), Some(PRIVATE), "{host}");
        assert_eq!(said(FetchPolicy::Local, &url), None, "{host}");
    }
    for host in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "[2606:4700::1111]", "[2001:4860:4860::8888]"] {
        assert_eq!(said(FetchPolicy::Http, &format!("http://{host}/")), None, "{host}");
    }
}

/// A server that answers every connection with `answer` and counts them.
async fn server(answer: Vec<u8>) -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::<std::sync::atomic::AtomicUsize>::default();
    let seen = count.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(&answer).await;
            });
        }
    });
    (address, count)
}

#[tokio::test]
async fn a_name_that_leads_home_is_not_followed() {
    let (address, count) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_vec()).await;
    let url = format!("http://localhost:{}/x", address.port());
    let refused = Fetcher::new(FetchPolicy::Http).get(&url, MediaKind::Image).await.unwrap_err();
    assert_eq!((refused.kind, count.load(std::sync::atomic::Ordering::SeqCst)), (ApiErrorKind::Fetch, 0));
    let (_, bytes) = Fetcher::new(FetchPolicy::Local).get(&url, MediaKind::Image).await.unwrap();
    assert_eq!((&bytes[..], count.load(std::sync::atomic::Ordering::SeqCst)), (&b"hi"[..], 1));
}

#[tokio::test]
async fn redirects_errors_and_long_answers() {
    let get = async |answer: Vec<u8>| {
        let (address, _) = server(answer).await;
        Fetcher::new(FetchPolicy::Local).get(&format!("http://{address}/"), MediaKind::Image).await
    };
    let typed = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 1\r\n\r\nx".to_vec();
    assert_eq!(get(typed).await.unwrap(), (Some("image/png".into()), Bytes::from_static(b"x")));
    let elsewhere = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n".to_vec();
    assert!(get(elsewhere).await.unwrap_err().message.contains("answered 302"));
    assert!(
        get(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec()).await.unwrap_err().message.contains("404")
    );
    let announced = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", MAX_IMAGE + 1).into_bytes();
    assert!(get(announced).await.unwrap_err().message.contains("more than 10 MiB"));
    let mut long = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    long.resize(long.len() + MAX_IMAGE + 1, b'x');
    assert!(get(long).await.unwrap_err().message.contains("more than 10 MiB"));
}

#[tokio::test]
async fn posts_tell_status_and_delay() {
    let (address, _) = server(b"HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let fetcher = Fetcher::new(FetchPolicy::Local);
    let posted =
        fetcher.post(&format!("http://{address}/hook"), vec![("webhook-id", "1".into())], b"{}".to_vec()).await;
    assert_eq!(posted.unwrap(), Posted { status: 429, retry_after: Some(7) });
}

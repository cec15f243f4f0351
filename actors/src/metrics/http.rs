//! As much of HTTP as a scrape needs: `GET /metrics`, one answer, and the connection is closed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix::Recipient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::gateway::Scrape;

/// Connections that may wait to be accepted.
pub(crate) const BACKLOG: u32 = 64;
/// Connections at a time; whoever comes beyond is turned away.
const CONNECTIONS: usize = 16;
/// How long a caller may take, to ask and to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of a request that are read.
const LIMIT: usize = 8 * 1024;
/// The pause after a failure of the system to accept a connection.
const PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves whoever calls, until it is dropped; the gateway knows everything.
pub(crate) async fn serve(listener: TcpListener, gateway: Recipient<Scrape>) {
    let open = Rc::new(Cell::new(0));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if open.get() >= CONNECTIONS {
            continue; // Dropped: closed.
        }
        let slot = Slot::new(&open);
        let gateway = gateway.clone();
        actix_rt::spawn(async move {
            if timeout(PATIENCE, answer(stream, gateway)).await.is_err() {
                tracing::debug!("a caller for metrics took too long");
            }
            drop(slot);
        });
    }
}

/// Counts a connection while it lives.
struct Slot(Rc<Cell<usize>>);

impl Slot {
    fn new(open: &Rc<Cell<usize>>) -> Slot {
        open.set(open.get() + 1);
        Slot(Rc::clone(open))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn answer(mut stream: TcpStream, gateway: Recipient<Scrape>) {
    let Some(head) = read_head(&mut stream).await else { return };
    let (status, kind, body) = match target(&head) {
        Ok("/metrics") => {
            let (told, text) = oneshot::channel();
            gateway.do_send(Scrape(told));
            match text.await {
                Ok(text) => ("200 OK", METRICS, text),
                Err(_) => ("503 Service Unavailable", TEXT, "the node stops\n".to_owned()),
            }
        }
        Ok(_) => ("404 Not Found", TEXT, "there is only /metrics\n".to_owned()),
        Err(status) => (status, TEXT, "only GET /metrics is understood\n".to_owned()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    // Whoever does not read his answer has it no more.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// The head of a request, as far as it was read; nothing if the caller goes before its end.
async fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while head.len() < LIMIT && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => head.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
    Some(head)
}

/// What is asked for, without a query; else the status that says why not.
fn target(head: &[u8]) -> Result<&str, &'static str> {
    const BAD: &str = "400 Bad Request";
    if !head.windows(4).any(|end| end == b"\r\n\r\n") {
        return Err("431 Request Header Fields Too Large");
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| BAD)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(BAD);
    };
    if !version.starts_with("HTTP/1.") || words.next().is_some() {
        return Err(BAD);
    }
    if method != "GET" {
        return Err("405 Method Not Allowed");
    }
    Ok(target.split('?').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn only_a_get_of_a_path_is_understood() {
        assert_eq!(target(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"), Ok("/metrics"));
        assert_eq!(target(b"GET /metrics?a=b HTTP/1.0\r\n\r\n"), Ok("/metrics"));
        assert_eq!(target(b"GET / HTTP/1.1\r\n\r\n"), Ok("/"));
        assert_eq!(target(b"POST /metrics HTTP/1.1\r\n\r\n"), Err("405 Method Not Allowed"));
        for wrong in [&b"\r\n\r\n"[..], b"GET /metrics\r\n\r\n", b"GET  HTTP/2\r\n\r\n", b"\xff\xfe a b\r\n\r\n"] {
            assert_eq!(target(wrong), Err("400 Bad Request"), "{wrong:?}");
        }
        assert_eq!(target(&[b'a'; 9000]), Err("431 Request Header Fields Too Large"));
    }
}

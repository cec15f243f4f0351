//! Takes connections in: with a limit, and with patience when the system has no more to give.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use drachma_protocol::message::hello::Refusal;
use drachma_protocol::wire::frame::{self, Kind};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::hello::goodbye;
use super::{Hub, connection};

/// Connections that may wait to be accepted.
pub(crate) const BACKLOG: u32 = 4_096;
/// The pause after a failure of the system; doubled up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Takes `address`, `host:port`, so that nobody else can listen on it; listening comes later.
///
/// # Errors
/// If none of the addresses that it stands for can be had.
pub(crate) fn bind(address: &str) -> io::Result<TcpSocket> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name stands for no address");
    for candidate in address.to_socket_addrs()? {
        match bind_to(candidate) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_to(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A node that is started again must not wait for its old connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Serves whoever calls, until it is dropped; connections that are open go on.
pub(crate) async fn accept(listener: TcpListener, hub: Rc<Hub>) {
    let mut pause = PAUSE;
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                pause = PAUSE;
                admit(stream, from, &hub);
            }
            Err(error) => {
                hub.counters.accept_errors.bump();
                tracing::warn!(node = %hub.identity.node, %error, "cannot accept a connection");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn admit(stream: TcpStream, from: SocketAddr, hub: &Rc<Hub>) {
    hub.counters.connections_accepted.bump();
    if hub.open.get() >= hub.limits.clients + hub.limits.other_connections {
        hub.counters.connections_refused.bump();
        let mut word = Vec::new();
        frame::encode(&mut word, Kind::Goodbye, 0, &goodbye(Refusal::Overloaded, "too many connections"));
        // A fresh socket takes so little; if not, the closing says the same.
        let _ = stream.try_write(&word);
        return;
    }
    let open = Open::new(hub.clone());
    let hub = hub.clone();
    actix_rt::spawn(async move {
        connection::serve(stream, from, hub).await;
        drop(open);
    });
}

/// Counts a connection as open while it lives.
struct Open(Rc<Hub>);

impl Open {
    fn new(hub: Rc<Hub>) -> Open {
        hub.open.set(hub.open.get() + 1);
        hub.counters.connections_open.bump();
        Open(hub)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.counters.connections_open.lower();
    }
}

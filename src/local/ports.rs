//! Free ports for clusters that are not to meet anybody.
//!
//! A port that was free a moment ago is no promise: a node's port must also stay free while the node is down, and the
//! system hands ports of its own range to outgoing connections (a client that tries again and again to reach a node
//! that is down may even be connected to itself). So ports are taken below that range, in blocks whose first port, the
//! guard, stays bound as long as the cluster lives: two clusters never share a block.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

const FIRST: u16 = 10_240;
const BLOCK: u16 = 16;

/// Ports that belong to this process until it is dropped.
#[derive(Debug)]
pub(super) struct Ports {
    _guards: Vec<TcpListener>,
    pub(super) ports: Vec<u16>,
}

/// Takes `count` ports that nobody listens on.
pub(super) fn take(count: usize, seed: u64) -> io::Result<Ports> {
    let blocks = u64::from((end() - FIRST) / BLOCK);
    let mut taken = Ports { _guards: Vec::new(), ports: Vec::new() };
    for step in 0..blocks {
        if taken.ports.len() >= count {
            break;
        }
        let block = (seed.wrapping_add(step) % blocks) as u16;
        let first = FIRST + block * BLOCK;
        let Ok(guard) = bind(first) else { continue };
        taken._guards.push(guard);
        taken.ports.extend((first + 1..first + BLOCK).filter(|port| bind(*port).is_ok()));
    }
    taken.ports.truncate(count);
    if taken.ports.len() < count {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("fewer than {count} ports are free")));
    }
    Ok(taken)
}

fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

/// Where the system's own range of ports begins.
fn end() -> u16 {
    const USUAL: u16 = 32_768;
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(USUAL);
    // A system that gives out nearly all ports leaves no better choice.
    if first < FIRST + 64 * BLOCK { USUAL } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clusters_never_share_a_port() {
        let seed = u64::from(std::process::id());
        let first = take(40, seed).unwrap();
        let second = take(9, seed).unwrap();
        assert_eq!((first.ports.len(), second.ports.len()), (40, 9));
        assert!(second.ports.iter().all(|port| !first.ports.contains(port)));
        assert!(first.ports.iter().all(|port| *port < end()));
    }
}

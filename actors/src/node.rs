//! A node: its listener, its groups, its log.
use crate::config::NodeConfig;

/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] crate::storage::StorageError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// What was tried.
        address: String,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Runs a node until it is asked to stop (SIGTERM, SIGINT). `ready` is called with the address when it listens and
/// has recovered.
///
/// # Errors
/// If it cannot start. A disk error later ends the process.
pub fn run(config: &NodeConfig, ready: impl FnOnce(std::net::SocketAddr)) -> Result<(), NodeError> {
    let _ = (config, ready);
    unimplemented!()
}

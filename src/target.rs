//! TARGET: a node, a group, a list of either, or `all`.

use drachma_protocol::ids::NodeId;

use crate::settings::Settings;

/// The nodes that a TARGET names, in order, each once.
///
/// # Errors
/// What is wrong with it, and what there is.
pub fn nodes(target: &str, settings: &Settings) -> Result<Vec<NodeId>, String> {
    let _ = (target, settings);
    unimplemented!()
}

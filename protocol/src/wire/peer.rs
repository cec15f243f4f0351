//! The bodies of frames between nodes: a message and its address.
//!
//! `Paxos`: `[group, sending role, receiving role, message]`. `Txn`: `[receiving group, sending group, sending role,
//! receiving role, message]`. Roles are replica 1, leader 2, coordinator 3, participant 4. The sending node is not in
//! the frame: Hello has named it.

use super::codec::{Decode, DecodeError, Encode, Reader, encode_array_len};
use super::frame::{self, Frame, Kind};
use crate::ids::{GroupId, NodeId};
use crate::message::{Message, PaxosMessage, TxnMessage};
use crate::role::{Address, Input, RoleKind};

fn encode_role(role: RoleKind, out: &mut Vec<u8>) {
    (role as u64 + 1).encode(out);
}

fn decode_role(reader: &mut Reader<'_>) -> Result<RoleKind, DecodeError> {
    let tag = reader.uint()?;
    let index = usize::try_from(tag).ok().and_then(|tag| tag.checked_sub(1)).ok_or(DecodeError::Tag(tag))?;
    RoleKind::ALL.get(index).copied().ok_or(DecodeError::Tag(tag))
}

struct PaxosBody<'a>(GroupId, RoleKind, RoleKind, &'a PaxosMessage);

impl Encode for PaxosBody<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_array_len(out, 4);
        self.0.encode(out);
        encode_role(self.1, out);
        encode_role(self.2, out);
        self.3.encode(out);
    }
}

struct TxnBody<'a>(Address, Address, &'a TxnMessage);

impl Encode for TxnBody<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        let TxnBody(from, to, message) = self;
        encode_array_len(out, 5);
        to.group.encode(out);
        from.group.encode(out);
        encode_role(from.role, out);
        encode_role(to.role, out);
        message.encode(out);
    }
}

/// Appends the frame of a message between nodes.
///
/// # Panics
/// If a role sends a local message, or one within a group to another group: defects of the role.
pub fn encode(out: &mut Vec<u8>, from: Address, to: Address, message: &Message) {
    match message {
        Message::Paxos(message) => {
            assert_eq!(from.group, to.group, "Multi-Paxos is spoken within a group");
            frame::encode(out, Kind::Paxos, 0, &PaxosBody(to.group, from.role, to.role, message));
        }
        Message::Txn(message) => frame::encode(out, Kind::Txn, 0, &TxnBody(from, to, message)),
        Message::Local(_) => panic!("a local message stays on its node"),
    }
}

/// Reads a frame that `sender` sent to `own`; returns which role gets it.
///
/// # Errors
/// If it is not one between nodes, or malformed.
pub fn decode(frame: Frame<'_>, sender: NodeId, own: NodeId) -> Result<(Address, Input), DecodeError> {
    let mut reader = Reader::new(frame.body);
    let (group, from_group);
    let paxos = match frame.kind {
        Kind::Paxos => true,
        Kind::Txn => false,
        _ => return Err(DecodeError::Expected("a message between nodes")),
    };
    if paxos {
        reader.array_of(4)?;
        group = GroupId::decode(&mut reader)?;
        from_group = group;
    } else {
        reader.array_of(5)?;
        group = GroupId::decode(&mut reader)?;
        from_group = GroupId::decode(&mut reader)?;
    }
    let from = Address { node: sender, group: from_group, role: decode_role(&mut reader)? };
    let to = Address { node: own, group, role: decode_role(&mut reader)? };
    let message = if paxos {
        Message::Paxos(PaxosMessage::decode(&mut reader)?)
    } else {
        Message::Txn(TxnMessage::decode(&mut reader)?)
    };
    reader.finish()?;
    Ok((to, Input::Message { from, message }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Slot;
    use crate::message::paxos::{Accept, FetchChosen};
    use crate::message::txn::Redirect;
    use crate::wire::frame::{HEADER, LIMIT_CLIENT, LIMIT_PEER};

    fn address(node: u16, group: u16, role: RoleKind) -> Address {
        Address { node: NodeId(node), group: GroupId(group), role }
    }

    #[test]
    fn a_message_keeps_its_address() {
        let from = address(1, 2, RoleKind::Leader);
        for (to, message) in [
            (
                address(3, 2, RoleKind::Replica),
                Message::Paxos(PaxosMessage::FetchChosen(FetchChosen { from: Slot(7) })),
            ),
            (
                address(3, 4, RoleKind::Participant),
                Message::Txn(TxnMessage::Redirect(Redirect { group: GroupId(2), leader: None, no_quorum: true })),
            ),
        ] {
            let mut out = Vec::new();
            encode(&mut out, from, to, &message);
            let frame = frame::decode(&out).unwrap();
            let (reached, Input::Message { from: sender, message: read }) =
                decode(frame, NodeId(1), NodeId(3)).unwrap()
            else {
                panic!("a message was sent");
            };
            assert_eq!((reached, sender), (to, from));
            assert_eq!(format!("{read:?}"), format!("{message:?}"));
        }
    }

    #[test]
    fn roles_that_do_not_exist_are_malformed() {
        for tag in [0u8, 5, 127] {
            assert_eq!(decode_role(&mut Reader::new(&[tag])), Err(DecodeError::Tag(u64::from(tag))));
        }
    }

    #[test]
    fn hazard_l9_a_clients_largest_request_fits_a_peers_frame() {
        let entry = bytes::Bytes::from(vec![0; LIMIT_CLIENT - HEADER]);
        let accept = Accept {
            ballot: crate::ids::Ballot { round: u64::MAX, replica: crate::ids::ReplicaId(u32::MAX) },
            slot: Slot(u64::MAX),
            chosen: Slot(u64::MAX),
            entry,
        };
        let mut out = Vec::new();
        let leader = address(u16::MAX, u16::MAX, RoleKind::Leader);
        let replica = address(1, u16::MAX, RoleKind::Replica);
        encode(&mut out, leader, replica, &Message::Paxos(PaxosMessage::Accept(accept)));
        // 1 KiB is more than an entry adds to the one command in it.
        assert!(out.len() + 1024 <= LIMIT_PEER, "{}", out.len());
    }
}

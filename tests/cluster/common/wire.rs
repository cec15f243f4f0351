//! A connection to one node and no other: it does not follow hints.

use std::io::{Read, Write};
use std::net::TcpStream;

use drachma_protocol::ids::{AccountId, ClusterId, Epoch, GroupId};
use drachma_protocol::ledger::model::Transfer;
use drachma_protocol::message::client::{Call, ReadCall, Request, Response};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::message::hello::{Caller, Hello, Welcome};
use drachma_protocol::time::Span;
use drachma_protocol::wire::codec::{Decode, Encode, from_slice, to_vec};
use drachma_protocol::wire::frame::{self, Kind};

use super::PATIENCE;

/// The connection.
pub(crate) struct Wire {
    stream: TcpStream,
    next: u64,
}

impl Wire {
    /// Connected, and past Hello.
    pub(crate) fn connect(address: &str, cluster: ClusterId) -> Wire {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut wire = Wire { stream, next: 1 };
        let (cluster, caller) = (Some(cluster), Caller::Client);
        let hello = Hello { lowest: 1, highest: 1, cluster, caller, node: None, directory: None };
        wire.send(Kind::Hello, &hello);
        let _: Welcome = wire.receive(Kind::Welcome);
        wire
    }

    /// Asks for an account, without waiting for the answer.
    pub(crate) fn ask_account(&mut self, group: GroupId, account: AccountId) {
        let call = ReadCall { account, deadline: Span(PATIENCE.as_micros() as u64), epoch: Epoch(1) };
        self.send(Kind::Request, &Request { group, call: Call::Read(call) });
    }

    /// Sends a transfer to another group, once, without waiting for the answer.
    pub(crate) fn send_transfer(&mut self, group: GroupId, transfer: Transfer) {
        let command = ClientCommand {
            kind: CommandKind::Transact,
            session: None,
            sequence: self.next,
            deadline: Span(PATIENCE.as_micros() as u64),
            epoch: Epoch(1),
            count: 1,
            body: to_vec(&vec![transfer]).into(),
        };
        self.send(Kind::Request, &Request { group, call: Call::Command(command) });
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Response {
        self.receive(Kind::Response)
    }

    fn send<T: Encode>(&mut self, kind: Kind, body: &T) {
        let mut out = Vec::new();
        frame::encode(&mut out, kind, self.next, body);
        self.next += 1;
        self.stream.write_all(&out).unwrap();
    }

    fn receive<T: Decode>(&mut self, kind: Kind) -> T {
        let mut bytes = vec![0; 4];
        self.stream.read_exact(&mut bytes).unwrap();
        let length = frame::length(&bytes, frame::LIMIT_CLIENT).unwrap().unwrap();
        bytes.resize(length, 0);
        self.stream.read_exact(&mut bytes[4..]).unwrap();
        let frame = frame::decode(&bytes).unwrap();
        assert_eq!(frame.kind, kind);
        from_slice(frame.body).unwrap()
    }
}

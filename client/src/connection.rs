//! One TCP connection to one node, shared by everything that this process asks of it.
//!
//! A connection is the cost of a small request, not the request: so there is one per node. Requests are encoded
//! straight into the connection's outbox; a writer task takes whatever has gathered there in one write. A reader task
//! hands each answer to whoever waits for its correlation id. Everything is bounded: a request holds a part of the
//! connection's budget until it is answered or given up, and an announced frame is measured before memory is taken.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use drachma_protocol::message::client::{Call, Request, Response};
use drachma_protocol::message::hello::{Goodbye, Hello, Refusal, Welcome};
use drachma_protocol::wire::codec::{Decode, from_slice};
use drachma_protocol::wire::frame::{self, Frame, FrameError, Kind, LIMIT_CLIENT, LIMIT_HELLO, VERSIONS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout};

/// How long the operating system may take to connect; a node that takes longer cannot be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a node may take to answer Hello; one that takes longer is slow, not unreachable.
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection on which a request has waited so long, without a byte from the other side, is given up: the machine
/// at its other end may have lost its power, which TCP would notice after minutes.
const SILENCE: Duration = Duration::from_secs(2);
/// What may be in flight on a connection, in bytes.
const BUDGET: usize = 64 * 1024 * 1024;
/// What a request takes of the budget at least; so at most 65,536 are in flight.
const LEAST_COST: usize = 1024;
/// A buffer that has grown larger is not kept.
const KEEP_BUFFER: usize = 1024 * 1024;

/// Why a connection cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Trouble {
    /// The node cannot be reached, or closed the connection.
    Unreachable(String),
    /// The node accepted the connection and says nothing.
    Silent(String),
    /// The node refuses us, or does not speak the protocol.
    Protocol(String),
}

impl Trouble {
    /// For people.
    pub(crate) fn text(&self) -> &str {
        match self {
            Trouble::Unreachable(text) | Trouble::Silent(text) | Trouble::Protocol(text) => text,
        }
    }
}

/// A connection whose Hello has been answered.
pub(crate) struct Opened {
    stream: TcpStream,
    buffer: BytesMut,
    /// The answer.
    pub(crate) welcome: Welcome,
}

/// Connects to `address` and says Hello.
pub(crate) async fn open(address: &str, hello: &Hello) -> Result<Opened, Trouble> {
    let unreachable = |text: &dyn std::fmt::Display| Trouble::Unreachable(format!("{address}: {text}"));
    let mut stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(&error)),
        Err(_) => return Err(unreachable(&"connecting took too long")),
    };
    // Without this, a small request would wait for the acknowledgement of the last one.
    stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
    match timeout(HELLO_TIMEOUT, greet(&mut stream, hello)).await {
        Ok(Ok((welcome, buffer))) => Ok(Opened { stream, buffer, welcome }),
        Ok(Err(Trouble::Protocol(text))) => Err(Trouble::Protocol(format!("{address}: {text}"))),
        Ok(Err(trouble)) => Err(unreachable(&trouble.text())),
        Err(_) => Err(Trouble::Silent(format!("{address}: no answer to Hello"))),
    }
}

async fn greet(stream: &mut TcpStream, hello: &Hello) -> Result<(Welcome, BytesMut), Trouble> {
    let mut out = Vec::new();
    frame::encode(&mut out, Kind::Hello, 0, hello);
    stream.write_all(&out).await.map_err(lost)?;
    let mut buffer = BytesMut::new();
    loop {
        if let Some(length) = whole(&buffer, LIMIT_HELLO)? {
            let frame = frame::decode(&buffer[..length]).map_err(bad)?;
            let welcome = match frame.kind {
                Kind::Welcome => body::<Welcome>(&frame)?,
                Kind::Goodbye => return Err(farewell(&body(&frame)?)),
                other => return Err(Trouble::Protocol(format!("{other:?} in answer to Hello"))),
            };
            if !VERSIONS.contains(&welcome.version) {
                return Err(Trouble::Protocol(format!("unknown version {} of the protocol", welcome.version)));
            }
            let _ = buffer.split_to(length);
            return Ok((welcome, buffer));
        }
        buffer.reserve(LIMIT_HELLO);
        if stream.read_buf(&mut buffer).await.map_err(lost)? == 0 {
            return Err(Trouble::Unreachable("closed the connection".to_owned()));
        }
    }
}

fn lost(error: std::io::Error) -> Trouble {
    Trouble::Unreachable(error.to_string())
}

fn bad(error: FrameError) -> Trouble {
    Trouble::Protocol(error.to_string())
}

fn body<T: Decode>(frame: &Frame<'_>) -> Result<T, Trouble> {
    from_slice(frame.body).map_err(|error| bad(error.into()))
}

/// A node that stops or has too much to do is away for now; the other refusals will be the same next time.
fn farewell(goodbye: &Goodbye) -> Trouble {
    let text = format!("{:?}: {}", goodbye.refusal, goodbye.text);
    match goodbye.refusal {
        Refusal::Stopping | Refusal::Overloaded => Trouble::Unreachable(text),
        _ => Trouble::Protocol(text),
    }
}

/// The length of the frame at the start of `buffer`, if it is all there.
fn whole(buffer: &[u8], limit: usize) -> Result<Option<usize>, Trouble> {
    let length = frame::length(buffer, limit).map_err(bad)?;
    Ok(length.filter(|length| *length <= buffer.len()))
}

/// What requests share with the tasks of an open connection.
pub(crate) struct Pipe {
    flight: Mutex<Flight>,
    // There is something in the outbox.
    outbox: Notify,
    // The connection is given up.
    abandoned: Notify,
    budget: Arc<Semaphore>,
}

struct Flight {
    closed: bool,
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Response>>,
    outbox: Vec<u8>,
    // When the first request was sent after which nothing was heard.
    unheard_since: Option<Instant>,
    heard: bool,
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SendError {
    /// The connection is closed.
    Closed,
    /// The other side does not read, and too much waits to be written.
    Congested,
    /// The frame is over the limit.
    TooLarge,
}

impl Pipe {
    fn new() -> Pipe {
        let flight = Flight {
            closed: false,
            next: 1,
            waiting: HashMap::new(),
            outbox: Vec::new(),
            unheard_since: None,
            heard: false,
        };
        let budget = Arc::new(Semaphore::new(BUDGET));
        Pipe { flight: Mutex::new(flight), outbox: Notify::new(), abandoned: Notify::new(), budget }
    }

    // Nothing that is done under this lock can leave it half done, so a panic elsewhere does not matter.
    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request once the connection has room for it.
    pub(crate) async fn send(self: Arc<Pipe>, request: &Request) -> Result<Answer, SendError> {
        let cost = u32::try_from(cost(request)).map_err(|_| SendError::TooLarge)?;
        let budget = Arc::clone(&self.budget);
        let permit = budget.acquire_many_owned(cost).await.map_err(|_| SendError::Closed)?;
        self.enqueue(request, permit)
    }

    fn enqueue(self: Arc<Pipe>, request: &Request, permit: OwnedSemaphorePermit) -> Result<Answer, SendError> {
        let (sender, receiver) = oneshot::channel();
        let mut flight = self.flight();
        if flight.closed {
            return Err(SendError::Closed);
        }
        // Answered or given up does not mean written.
        if flight.outbox.len() > BUDGET {
            return Err(SendError::Congested);
        }
        let (start, correlation) = (flight.outbox.len(), flight.next);
        frame::encode(&mut flight.outbox, Kind::Request, correlation, request);
        if flight.outbox.len() - start > LIMIT_CLIENT {
            flight.outbox.truncate(start);
            return Err(SendError::TooLarge);
        }
        flight.next += 1;
        flight.waiting.insert(correlation, sender);
        flight.unheard_since.get_or_insert_with(Instant::now);
        drop(flight);
        self.outbox.notify_one();
        Ok(Answer { pipe: self, correlation, receiver, over: false, _permit: permit })
    }

    /// A request has waited too long: is it only slow, or has the whole connection been silent?
    pub(crate) fn suspect(&self) {
        let flight = self.flight();
        if flight.unheard_since.is_some_and(|since| since.elapsed() >= SILENCE) {
            self.abandoned.notify_one();
        }
    }

    /// Whether an answer ever came.
    fn was_heard(&self) -> bool {
        self.flight().heard
    }

    fn close(&self) {
        self.budget.close();
        let mut flight = self.flight();
        flight.closed = true;
        // Dropping the senders tells those who wait.
        flight.waiting = HashMap::new();
        flight.outbox = Vec::new();
    }
}

/// What a request takes of the budget: about its bytes.
fn cost(request: &Request) -> usize {
    match &request.call {
        Call::Command(command) => (command.body.len() + 128).max(LEAST_COST),
        _ => LEAST_COST,
    }
}

/// The answer to one request, when it comes. Dropping it gives the request up: its answer will be ignored.
pub(crate) struct Answer {
    pipe: Arc<Pipe>,
    correlation: u64,
    receiver: oneshot::Receiver<Response>,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Answer {
    /// The connection that it was sent on.
    pub(crate) fn pipe(&self) -> &Pipe {
        &self.pipe
    }
}

impl Future for Answer {
    /// Nothing: the connection was lost.
    type Output = Option<Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Response>> {
        let result = std::task::ready!(Pin::new(&mut self.receiver).poll(context));
        self.over = true;
        Poll::Ready(result.ok())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.over {
            self.pipe.flight().waiting.remove(&self.correlation);
        }
    }
}

/// The tasks of an open connection, as one future: it ends when the connection does.
pub(crate) struct Running {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    buffer: BytesMut,
    version: u8,
    pipe: Arc<Pipe>,
}

impl Opened {
    /// Makes it ready for requests.
    pub(crate) fn run(self) -> (Arc<Pipe>, Running) {
        let pipe = Arc::new(Pipe::new());
        let (reader, writer) = self.stream.into_split();
        let (version, buffer) = (self.welcome.version, self.buffer);
        (Arc::clone(&pipe), Running { reader, writer, buffer, version, pipe })
    }
}

impl Running {
    /// Reads and writes until the connection ends and says why. `ending` is called before anybody who waits is told.
    /// The second value is whether any answer came.
    pub(crate) async fn until_the_end(self, ending: impl FnOnce(&Trouble)) -> (Trouble, bool) {
        let Running { reader, writer, buffer, version, pipe } = self;
        let mut writer = Task(tokio::spawn(write(writer, Arc::clone(&pipe))));
        let trouble = tokio::select! {
            trouble = read(reader, buffer, version, &pipe) => trouble,
            ended = &mut writer.0 => ended.unwrap_or_else(|_| Trouble::Unreachable("the writer ended".to_owned())),
            () = pipe.abandoned.notified() => Trouble::Silent("nothing was heard for too long".to_owned()),
        };
        ending(&trouble);
        pipe.close();
        (trouble, pipe.was_heard())
    }
}

/// A task that ends with its owner.
struct Task(tokio::task::JoinHandle<Trouble>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn write(mut stream: OwnedWriteHalf, pipe: Arc<Pipe>) -> Trouble {
    let mut batch = Vec::new();
    loop {
        std::mem::swap(&mut batch, &mut pipe.flight().outbox);
        if batch.is_empty() {
            pipe.outbox.notified().await;
            continue;
        }
        if let Err(error) = stream.write_all(&batch).await {
            return lost(error);
        }
        batch.clear();
        batch.shrink_to(KEEP_BUFFER);
    }
}

async fn read(mut stream: OwnedReadHalf, mut buffer: BytesMut, version: u8, pipe: &Pipe) -> Trouble {
    loop {
        if let Err(trouble) = hand_out(&mut buffer, version, pipe) {
            return trouble;
        }
        if buffer.is_empty() && buffer.capacity() > KEEP_BUFFER {
            buffer = BytesMut::new();
        }
        buffer.reserve(64 * 1024);
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return Trouble::Unreachable("closed the connection".to_owned()),
            Ok(_) => {}
            Err(error) => return lost(error),
        }
    }
}

/// Hands the answers that are whole to those who wait for them.
fn hand_out(buffer: &mut BytesMut, version: u8, pipe: &Pipe) -> Result<(), Trouble> {
    while let Some(length) = whole(buffer, LIMIT_CLIENT)? {
        let bytes = buffer.split_to(length);
        let frame = frame::decode(&bytes).map_err(bad)?;
        if frame.version != version {
            return Err(bad(FrameError::Version));
        }
        match frame.kind {
            Kind::Response => {}
            Kind::Goodbye => return Err(farewell(&body(&frame)?)),
            other => return Err(Trouble::Protocol(format!("{other:?} instead of an answer"))),
        }
        let response = body::<Response>(&frame)?;
        let mut flight = pipe.flight();
        flight.unheard_since = None;
        flight.heard = true;
        let waiting = flight.waiting.remove(&frame.correlation);
        if !flight.waiting.is_empty() {
            flight.unheard_since = Some(Instant::now());
        }
        drop(flight);
        if let Some(waiting) = waiting {
            // Nobody may wait any more; then the answer is late.
            let _ = waiting.send(response);
        }
    }
    Ok(())
}

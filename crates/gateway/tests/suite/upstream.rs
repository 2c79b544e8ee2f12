//! An upstream that shows what it received and answers raw bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

/// One request as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(held, _)| held == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// What the upstream does with a request.
#[derive(Clone)]
pub(crate) enum Behaviour {
    /// Writes these bytes and keeps the connection.
    Answer(Vec<u8>),
    /// Writes these bytes and closes.
    AnswerAndClose(Vec<u8>),
    /// Answers before reading the body, and closes.
    AnswerEarly(Vec<u8>),
    /// Writes the head, then what comes through the channel; closes when told nothing more.
    Stream(
        Vec<u8>,
        Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<u8>>>>,
    ),
    /// Never answers.
    Silent,
}

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) behaviour: Arc<Mutex<Behaviour>>,
    /// Notified whenever the other side closed a connection while it was in use.
    pub(crate) abandoned: Arc<Notify>,
    /// Notified whenever a head arrived.
    pub(crate) arrived: Arc<Notify>,
    task: AbortHandle,
}

pub(crate) const OK: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok";

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let behaviour = Arc::new(Mutex::new(Behaviour::Answer(OK.to_vec())));
        let abandoned = Arc::new(Notify::new());
        let arrived = Arc::new(Notify::new());
        let shared = Shared {
            seen: seen.clone(),
            behaviour: behaviour.clone(),
            abandoned: abandoned.clone(),
            arrived: arrived.clone(),
        };
        let task = tokio::spawn(async move {
            let mut connections = 0;
            let mut running = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = shared.clone();
                running.spawn(async move { shared.connection(stream, connections).await });
                connections += 1;
            }
        });
        Self {
            address,
            seen,
            behaviour,
            abandoned,
            arrived,
            task: task.abort_handle(),
        }
    }

    pub(crate) fn url(&self, rest: &str) -> String {
        format!("http://{}{rest}", self.address)
    }

    pub(crate) fn answers(&self, bytes: impl Into<Vec<u8>>) {
        *self.behaviour.lock() = Behaviour::Answer(bytes.into());
    }

    pub(crate) fn behaves(&self, behaviour: Behaviour) {
        *self.behaviour.lock() = behaviour;
    }

    /// From now on answers a head and then what is sent here.
    pub(crate) fn streams(&self, head: &str) -> mpsc::UnboundedSender<Vec<u8>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        self.behaves(Behaviour::Stream(head.as_bytes().to_vec(), receiver));
        sender
    }

    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen.lock();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }
}

/// One chunk of a chunked body.
pub(crate) fn chunk(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

#[derive(Clone)]
struct Shared {
    seen: Arc<Mutex<Vec<Seen>>>,
    behaviour: Arc<Mutex<Behaviour>>,
    abandoned: Arc<Notify>,
    arrived: Arc<Notify>,
}

impl Shared {
    async fn connection(&self, mut stream: TcpStream, connection: usize) {
        let mut buffer = Vec::new();
        while let Some(mut seen) = read_head(&mut stream, &mut buffer).await {
            self.arrived.notify_one();
            seen.connection = connection;
            let behaviour = self.behaviour.lock().clone();
            if let Behaviour::AnswerEarly(bytes) = &behaviour {
                self.seen.lock().push(seen);
                stream.write_all(bytes).await.unwrap();
                // Lets the answer arrive before the close resets what was not read.
                tokio::time::sleep(Duration::from_millis(100)).await;
                return;
            }
            if !read_body(&mut stream, &mut buffer, &mut seen).await {
                self.seen.lock().push(seen);
                self.abandoned.notify_one();
                return;
            }
            self.seen.lock().push(seen);
            match behaviour {
                Behaviour::Answer(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Behaviour::AnswerAndClose(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                    return;
                }
                Behaviour::Stream(head, receiver) => {
                    self.stream(&mut stream, &head, &receiver).await;
                    return;
                }
                Behaviour::AnswerEarly(_) => unreachable!(),
                Behaviour::Silent => {
                    // Ends when the other side does.
                    while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
                    self.abandoned.notify_one();
                    return;
                }
            }
        }
    }

    async fn stream(
        &self,
        stream: &mut TcpStream,
        head: &[u8],
        receiver: &tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<u8>>>,
    ) {
        stream.write_all(head).await.unwrap();
        let mut receiver = receiver.lock().await;
        let mut probe = [0; 64];
        loop {
            tokio::select! {
                bytes = receiver.recv() => match bytes {
                    Some(bytes) => if stream.write_all(&bytes).await.is_err() {
                        self.abandoned.notify_one();
                        return;
                    },
                    None => return,
                },
                read = stream.read(&mut probe) => {
                    if matches!(read, Ok(0) | Err(_)) {
                        self.abandoned.notify_one();
                        return;
                    }
                }
            }
        }
    }
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    matches!(stream.read_buf(buffer).await, Ok(1..))
}

async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if !fill(stream, buffer).await {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Some(Seen {
        line,
        headers,
        ..Seen::default()
    })
}

async fn read_body(stream: &mut TcpStream, buffer: &mut Vec<u8>, seen: &mut Seen) -> bool {
    if let Some(length) = seen
        .header("content-length")
        .and_then(|text| text.parse().ok())
    {
        while buffer.len() < length {
            if !fill(stream, buffer).await {
                seen.body = std::mem::take(buffer);
                return false;
            }
        }
        seen.body = buffer.drain(..length).collect();
        return true;
    }
    if seen.header("transfer-encoding") != Some("chunked") {
        return true;
    }
    loop {
        let Some(end) = buffer.windows(2).position(|window| window == b"\r\n") else {
            if !fill(stream, buffer).await {
                return false;
            }
            continue;
        };
        let size = usize::from_str_radix(&String::from_utf8_lossy(&buffer[..end]), 16).unwrap();
        while buffer.len() < end + 2 + size + 2 {
            if !fill(stream, buffer).await {
                return false;
            }
        }
        seen.body
            .extend_from_slice(&buffer[end + 2..end + 2 + size]);
        buffer.drain(..end + 2 + size + 2);
        if size == 0 {
            return true;
        }
    }
}

//! A caller that speaks raw HTTP/1.1 and sees exactly how an answer ended.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How a connection ended after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The message is complete by its own framing.
    Complete,
    /// The connection closed or broke before the message was complete.
    Cut,
}

/// An answer, read to the end of the connection or of the message.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
    /// Everything after the head, undecoded.
    pub(crate) raw: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(held, _)| held == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(held, _)| held == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

/// One connection to the Gateway.
pub(crate) struct Caller {
    stream: TcpStream,
    buffer: Vec<u8>,
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Caller {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends what may be refused before it is all taken.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        matches!(read.expect("an answer in time"), Ok(1..))
    }

    /// Reads until these bytes have come; what came, up to and with them.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        loop {
            let at = self
                .buffer
                .windows(end.len())
                .position(|window| window == end.as_bytes());
            if let Some(at) = at {
                let taken: Vec<u8> = self.buffer.drain(..at + end.len()).collect();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            assert!(
                self.fill().await,
                "closed after {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    /// Reads to the end of the connection; what came, and whether it ended with a reset.
    pub(crate) async fn read_to_close(&mut self) -> (String, bool) {
        let read = self.stream.read_to_end(&mut self.buffer);
        let read = tokio::time::timeout(PATIENCE, read)
            .await
            .expect("a close in time");
        (
            String::from_utf8_lossy(&self.buffer).into_owned(),
            read.is_err(),
        )
    }

    /// Reads one answer to a request that was no HEAD.
    pub(crate) async fn reply(&mut self) -> Reply {
        self.reply_to("GET").await
    }

    /// Reads one answer.
    pub(crate) async fn reply_to(&mut self, method: &str) -> Reply {
        loop {
            let head = self.read_until("\r\n\r\n").await;
            let (status, headers) = parse_head(&head);
            if status == 100 {
                continue;
            }
            let mut reply = Reply {
                status,
                headers,
                body: Vec::new(),
                end: End::Cut,
                raw: String::new(),
            };
            if method == "HEAD" || status == 204 || status == 304 {
                reply.end = End::Complete;
            } else if reply.header("transfer-encoding") == Some("chunked") {
                self.read_chunks(&mut reply).await;
            } else if let Some(length) = reply.header("content-length") {
                let length: usize = length.parse().unwrap();
                while self.buffer.len() < length && self.fill().await {}
                if self.buffer.len() >= length {
                    reply.end = End::Complete;
                }
                let taken = length.min(self.buffer.len());
                reply.body = self.buffer.drain(..taken).collect();
            } else {
                let (text, reset) = self.read_to_close().await;
                reply.body = text.into_bytes();
                reply.end = if reset { End::Cut } else { End::Complete };
            }
            return reply;
        }
    }

    async fn read_chunks(&mut self, reply: &mut Reply) {
        loop {
            let mut at = 0;
            reply.body.clear();
            while let Some(end) = find(&self.buffer[at..], b"\r\n") {
                let size = String::from_utf8_lossy(&self.buffer[at..at + end]).into_owned();
                let size = usize::from_str_radix(&size, 16).unwrap();
                let data = at + end + 2;
                if size == 0 {
                    // The trailer section ends with an empty line.
                    let rest = &self.buffer[at..];
                    let trailers = find(rest, b"\r\n\r\n");
                    if let Some(close) = trailers {
                        reply.raw = String::from_utf8_lossy(&self.buffer).into_owned();
                        self.buffer.drain(..at + close + 4);
                        reply.end = End::Complete;
                        return;
                    }
                    break;
                }
                if self.buffer.len() < data + size + 2 {
                    break;
                }
                reply
                    .body
                    .extend_from_slice(&self.buffer[data..data + size]);
                at = data + size + 2;
            }
            if !self.fill().await {
                reply.raw = String::from_utf8_lossy(&self.buffer).into_owned();
                return;
            }
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn parse_head(head: &str) -> (u16, Vec<(String, String)>) {
    let mut lines = head.trim_end().split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    (status, headers)
}

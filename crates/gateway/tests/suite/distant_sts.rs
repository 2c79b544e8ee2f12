//! A token service in another process, byte by byte.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use caracal_core::Secret;
use caracal_roles::wire::{encode_grant, encode_refusal, encode_standing};
use caracal_roles::{Credential, Directive, ExchangeGrant};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::sts::refusal;

/// One question as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
    pub(crate) connection: usize,
}

impl Question {
    pub(crate) fn nonce(&self) -> String {
        self.headers["x-caracal-gateway-request"].clone()
    }

    pub(crate) fn field(&self, name: &str) -> String {
        let mut fields = form_urlencoded::parse(self.body.as_bytes());
        let found = fields.find(|(field, _)| field == name);
        found.unwrap_or_else(|| panic!("no {name}")).1.into_owned()
    }
}

/// What is done with a question.
#[derive(Clone)]
pub(crate) enum Play {
    /// A grant.
    Grant,
    /// Leave to go on.
    Standing,
    /// A refusal with this status.
    Refuse(u16),
    /// A grant to the request of another nonce.
    Misdirect,
    /// These bytes.
    Raw(Vec<u8>),
    /// A grant, then the connection is closed without a word.
    GrantAndClose,
    /// The connection is closed without an answer.
    Close,
    /// Nothing, for ever.
    Silence,
}

/// Plays one play after another, then grants.
pub(crate) struct DistantSts {
    pub(crate) address: SocketAddr,
    pub(crate) plays: Mutex<VecDeque<Play>>,
    pub(crate) heard: Mutex<Vec<Question>>,
    pub(crate) connections: AtomicUsize,
    pub(crate) closed: Notify,
}

impl DistantSts {
    pub(crate) async fn start() -> Arc<Self> {
        Self::start_on("127.0.0.1:0").await
    }

    pub(crate) async fn start_on(address: &str) -> Arc<Self> {
        let listener = TcpListener::bind(address).await.unwrap();
        let sts = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            plays: Mutex::default(),
            heard: Mutex::default(),
            connections: AtomicUsize::new(0),
            closed: Notify::new(),
        });
        let serving = Arc::clone(&sts);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = serving.connections.fetch_add(1, Ordering::SeqCst);
                let serving = Arc::clone(&serving);
                tokio::spawn(async move {
                    serving.serve(stream, number).await;
                    serving.closed.notify_one();
                });
            }
        });
        sts
    }

    pub(crate) fn plays(&self, plays: impl IntoIterator<Item = Play>) {
        self.plays.lock().extend(plays);
    }

    pub(crate) fn heard(&self) -> Vec<Question> {
        self.heard.lock().clone()
    }

    async fn serve(&self, mut stream: TcpStream, number: usize) {
        let mut read = Vec::new();
        while let Some(mut question) = question(&mut stream, &mut read).await {
            question.connection = number;
            if question.line.starts_with("GET ") {
                let health = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(health).await.unwrap();
                continue;
            }
            self.heard.lock().push(question.clone());
            let play = self.plays.lock().pop_front().unwrap_or(Play::Grant);
            let closes = matches!(play, Play::GrantAndClose | Play::Close);
            match answer(&play, &question.nonce()) {
                Some(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                }
                None if closes => {}
                None => std::future::pending().await,
            }
            if closes {
                return;
            }
        }
    }
}

async fn question(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Question> {
    let end = loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(read[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: HashMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    while read.len() < end + 4 + length {
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(read[end + 4..end + 4 + length].to_vec()).unwrap();
    read.drain(..end + 4 + length);
    Some(Question {
        line,
        headers,
        body,
        connection: 0,
    })
}

fn answer(play: &Play, nonce: &str) -> Option<Vec<u8>> {
    let (status, body) = match play {
        Play::Grant | Play::GrantAndClose => (200, encode_grant(&grant(), nonce)),
        Play::Misdirect => (200, encode_grant(&grant(), &"0".repeat(64))),
        Play::Standing => (200, encode_standing(nonce)),
        Play::Refuse(status) => (
            *status,
            encode_refusal(&refusal(*status, "access_denied"), nonce),
        ),
        Play::Raw(bytes) => return Some(bytes.clone()),
        Play::Close | Play::Silence => return None,
    };
    Some(reply(status, body.unwrap().expose()))
}

/// A whole JSON reply.
pub(crate) fn reply(status: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn grant() -> ExchangeGrant {
    ExchangeGrant {
        mandate: None,
        directive: Directive {
            upstream_url: "http://ledger.example".to_owned(),
            credential: Credential::KeyHeader {
                header: "X-Key".to_owned(),
                scheme: None,
                value: Secret::new("k-123".to_owned()),
            },
            allowed_hosts: Vec::new(),
            forward_identity: false,
            provider_id: None,
            connection_id: None,
        },
        operation: None,
    }
}

//! Against servers of the tests' own.

mod connection;
mod findings;
mod once;
mod streams;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use caracal_core::Secret;

use super::{Redis, RedisAddress, RedisOptions};

/// Starting a server may take a while on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

fn options(url: &str) -> RedisOptions {
    RedisOptions::new(RedisAddress::parse(&Secret::new(url.to_owned())).unwrap())
}

pub(super) async fn connect(url: &str) -> Redis {
    let redis = Redis::open(&options(url)).unwrap();
    redis.connected(PATIENCE).await.unwrap();
    redis
}

/// Says something to a server as a plain client; its answer's first line.
fn say(port: u16, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Tries until the server answers again.
async fn recovered(redis: &Redis) {
    let recovery = async {
        while redis.ping().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, recovery).await.unwrap();
}

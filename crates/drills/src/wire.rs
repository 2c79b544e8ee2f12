//! A TCP connection that can go half-open: bytes pass until it is cut, then they vanish, and neither
//! side is told.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A listener whose connections lead to one address; ends when dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    address: SocketAddr,
    cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Starts on a free port of the loopback interface.
    pub(crate) async fn start(to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (cut, is_cut) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, to, is_cut.clone()));
            }
        });
        Ok(Self { address, cut, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing arrives, and connections are taken and not served.
    pub(crate) fn cut(&self) {
        let _ = self.cut.send(true);
    }

    /// New connections work again; those of before stay dead.
    pub(crate) fn mend(&self) {
        let _ = self.cut.send(false);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries one connection until it ends. One that was ever cut holds its sockets open and silent until
/// the wire is dropped.
async fn carry(near: TcpStream, to: SocketAddr, is_cut: watch::Receiver<bool>) {
    let mut silenced = is_cut.clone();
    let whole = async {
        if *is_cut.borrow() {
            return std::future::pending().await;
        }
        let Ok(far) = TcpStream::connect(to).await else {
            return;
        };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::join!(
            copy(near_in, far_out, is_cut.clone()),
            copy(far_in, near_out, is_cut.clone())
        );
    };
    let dropped = async { while silenced.changed().await.is_ok() {} };
    tokio::select! {
        () = whole => {}
        () = dropped => {}
    }
}

async fn until_cut(is_cut: &mut watch::Receiver<bool>) {
    // An error means that the wire is gone, and its connections with it.
    let _ = is_cut.wait_for(|cut| *cut).await.map(|_| ());
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut is_cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            () = until_cut(&mut is_cut) => std::future::pending().await,
            read = from.read(&mut buffer) => read,
        };
        match read {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                if to.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Upstream;
    use caracal::client::{Client, ClientError};
    use std::time::Duration;

    #[tokio::test]
    async fn a_cut_wire_takes_connections_and_says_nothing_until_mended() {
        let upstream = Upstream::start().await.unwrap();
        let wire = Wire::start(upstream.address()).await.unwrap();
        let url = format!("http://{}/x", wire.address());
        let patient = Client::new(Duration::from_secs(5));
        assert_eq!(patient.get(&url).await.unwrap().status, 200);
        wire.cut();
        let hasty = Client::new(Duration::from_millis(200));
        for client in [&hasty, &hasty] {
            let silence = client.get(&url).await.unwrap_err();
            assert!(matches!(silence, ClientError::Timeout(_)), "{silence}");
        }
        wire.mend();
        assert_eq!(hasty.get(&url).await.unwrap().status, 200);
        assert_eq!(upstream.requests(), 2);
    }
}

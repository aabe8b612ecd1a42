//! Servers that are no directories, or not only that.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

/// What is done with each connection.
#[derive(Clone)]
pub(super) enum Manner {
    /// Takes everything and says nothing.
    Hang,
    /// Answers the first bytes with these.
    Say(Vec<u8>),
    /// Carries everything to a directory; the answer to StartTLS is this in place of the directory's, and what follows goes on in plain text.
    StripTls { target: SocketAddr, answer: Vec<u8> },
}

/// A server of one manner, which remembers what it was sent. Dropped, every connection ends.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<u8>>>,
    _task: JoinSet<()>,
}

/// An extended response to message 1 with this result code.
pub(super) fn extended(code: u8) -> Vec<u8> {
    vec![0x30, 0x0c, 0x02, 0x01, 0x01, 0x78, 0x07, 0x0a, 0x01, code, 0x04, 0x00, 0x04, 0x00]
}

impl Server {
    pub(super) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, heard) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<u8>>>::default());
        let (counted, noted) = (connections.clone(), heard.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                open.spawn(serve(client, manner.clone(), noted.clone()));
            }
        });
        Self { address, connections, heard, _task: task }
    }

    pub(super) fn ldap(&self) -> String {
        format!("ldap://{}", self.address)
    }

    pub(super) fn ldaps(&self) -> String {
        format!("ldaps://{}", self.address)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether it was ever sent this.
    pub(super) fn has_heard(&self, text: &str) -> bool {
        self.heard.lock().unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes())
    }

    pub(super) fn bytes_heard(&self) -> usize {
        self.heard.lock().unwrap().len()
    }
}

async fn serve(client: TcpStream, manner: Manner, heard: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = vec![0; 64 * 1024];
    let (mut client, told) = client.into_split();
    let told = Arc::new(tokio::sync::Mutex::new(told));
    let mut carried = JoinSet::new();
    let mut target = match &manner {
        Manner::StripTls { target, .. } => {
            let (said, target) = TcpStream::connect(target).await.unwrap().into_split();
            carried.spawn(carry(said, told.clone()));
            Some(target)
        }
        _ => None,
    };
    while let Ok(length @ 1..) = client.read(&mut bytes).await {
        heard.lock().unwrap().extend_from_slice(&bytes[..length]);
        match &manner {
            Manner::Hang => {}
            Manner::Say(answer) => {
                let _ = told.lock().await.write_all(answer).await;
            }
            Manner::StripTls { answer, .. } => {
                let is_start = bytes[..length].windows(22).any(|part| part == b"1.3.6.1.4.1.1466.20037");
                if is_start {
                    let _ = told.lock().await.write_all(answer).await;
                } else {
                    let _ = target.as_mut().unwrap().write_all(&bytes[..length]).await;
                }
            }
        }
    }
}

/// What a directory says, in however many pieces.
async fn carry(mut said: OwnedReadHalf, told: Arc<tokio::sync::Mutex<OwnedWriteHalf>>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = said.read(&mut bytes).await {
        let _ = told.lock().await.write_all(&bytes[..length]).await;
    }
}

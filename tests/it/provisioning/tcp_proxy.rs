//! Between a server and another that is reached by TCP, whatever they speak: counts calls, and cuts the connection at the n-th.
//! What a client sends between two answers is one call.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::proxy::{Cuts, Fault};

#[derive(Debug, Default)]
struct State {
    armed: Option<(usize, Fault)>,
    count: usize,
    hit: bool,
}

/// Dropped, every connection ends.
pub(crate) struct TcpProxy {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _task: JoinSet<()>,
}

impl TcpProxy {
    /// In front of `target`.
    pub(crate) async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let known = state.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let state = known.clone();
                connections.spawn(async move {
                    if let Ok(server) = TcpStream::connect(target).await {
                        let _ = carry(state, client, server).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, state, _task: task }
    }
}

impl Cuts for TcpProxy {
    fn arm(&self, n: usize, fault: Fault) {
        *self.state.lock().unwrap() = State { armed: Some((n, fault)), ..State::default() };
    }

    fn disarm(&self) -> Option<String> {
        let state = std::mem::take(&mut *self.state.lock().unwrap());
        state.hit.then(|| format!("call {}", state.count))
    }
}

async fn carry(state: Arc<Mutex<State>>, mut client: TcpStream, mut server: TcpStream) -> std::io::Result<()> {
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let (mut in_call, mut cut_at_answer) = (false, false);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                if !in_call {
                    in_call = true;
                    match fault(&state) {
                        None => {}
                        Some(Fault::CutBefore | Fault::Hold) => return Ok(()),
                        Some(Fault::CutAfter) => cut_at_answer = true,
                    }
                }
                server.write_all(&asked[..length]).await?;
            }
            read = server.read(&mut answered) => {
                let length = read?;
                if length == 0 || cut_at_answer {
                    return Ok(());
                }
                in_call = false;
                client.write_all(&answered[..length]).await?;
            }
        }
    }
}

fn fault(state: &Mutex<State>) -> Option<Fault> {
    let mut state = state.lock().unwrap();
    let (n, fault) = state.armed?;
    if state.hit {
        return None;
    }
    state.count += 1;
    state.hit = state.count == n;
    state.hit.then_some(fault)
}

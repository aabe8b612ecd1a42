//! Between a server and a PostgreSQL: counts statements, and cuts or holds the connection at the n-th.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::support::folder;

/// What happens at the n-th statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never arrives.
    CutBefore,
    /// It is done, and nobody hears of it.
    CutAfter,
    /// It waits, until the proxy is disarmed: then the connection is cut.
    Hold,
}

/// What can be cut at its n-th call.
pub(crate) trait Cuts: Send + Sync {
    /// From now on calls are counted, and the n-th meets `fault`.
    fn arm(&self, n: usize, fault: Fault);

    /// What was hit, if it was; from now on all passes.
    fn disarm(&self) -> Option<String>;
}

impl Cuts for Proxy {
    fn arm(&self, n: usize, fault: Fault) {
        Proxy::arm(self, n, fault);
    }

    fn disarm(&self) -> Option<String> {
        Proxy::disarm(self)
    }
}

#[derive(Debug, Default)]
struct State {
    armed: Option<(usize, Fault)>,
    /// Only statements with one of these in them count; all, where there are none.
    words: &'static [&'static str],
    /// Only statements of a connection on which this one came before.
    after: Option<&'static str>,
    count: usize,
    /// The statements that were counted.
    log: Vec<String>,
    hit: Option<String>,
}

/// A Unix socket in a folder of its own. Dropped, every connection ends.
pub(crate) struct Proxy {
    folder: PathBuf,
    state: Arc<Mutex<State>>,
    disarmed: watch::Sender<u64>,
    _task: JoinSet<()>,
}

#[derive(Clone)]
struct Line {
    state: Arc<Mutex<State>>,
    disarmed: watch::Receiver<u64>,
}

impl Proxy {
    /// In front of the PostgreSQL whose socket is in `target`.
    pub(crate) fn before(target: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let place = folder().join(format!("px{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&place).unwrap();
        let listener = UnixListener::bind(place.join(".s.PGSQL.5432")).unwrap();
        let (disarmed, heard) = watch::channel(0);
        let line = Line { state: Arc::default(), disarmed: heard };
        let state = line.state.clone();
        let target = PathBuf::from(target).join(".s.PGSQL.5432");
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let (line, target) = (line.clone(), target.clone());
                connections.spawn(async move {
                    if let Ok(server) = UnixStream::connect(target).await {
                        let _ = line.carry(client, server).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { folder: place, state, disarmed, _task: task }
    }

    pub(crate) fn url(&self, database: &str) -> String {
        self.url_as(database, "postgres")
    }

    pub(crate) fn url_as(&self, database: &str, user: &str) -> String {
        format!("postgres:///{database}?host={}&user={user}", self.folder.display().to_string().replace('/', "%2F"))
    }

    /// From now on statements are counted, and the n-th meets `fault`.
    pub(crate) fn arm(&self, n: usize, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        *state = State { armed: Some((n, fault)), ..State::default() };
    }

    /// The same for statements that have one of `words` in them.
    pub(crate) fn arm_for(&self, n: usize, fault: Fault, words: &'static [&'static str]) {
        let mut state = self.state.lock().unwrap();
        *state = State { armed: Some((n, fault)), words, ..State::default() };
    }

    /// The same for statements that come after `mark`, on its connection.
    pub(crate) fn arm_after(&self, mark: &'static str, n: usize, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        *state = State { armed: Some((n, fault)), after: Some(mark), ..State::default() };
    }

    /// What was hit, if it was; from now on all passes.
    pub(crate) fn disarm(&self) -> Option<String> {
        let hit = {
            let mut state = self.state.lock().unwrap();
            state.armed = None;
            state.hit.take()
        };
        self.disarmed.send_modify(|count| *count += 1);
        hit
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.state.lock().unwrap().hit.is_some()
    }

    /// The statements since it was armed.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }
}

impl Line {
    async fn carry(self, client: UnixStream, server: UnixStream) -> std::io::Result<()> {
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let (cut_after, cut) = (Arc::new(Notify::new()), Arc::new(Mutex::new(false)));
        let wanted = cut.clone();
        let (told, done) = (cut_after.clone(), cut_after);
        let back = async move {
            // On a Unix socket, encryption is refused with one byte, without a length.
            let mut first = Some(from_server.read_u8().await?);
            if first == Some(b'N') {
                to_client.write_all(b"N").await?;
                first = None; // what sqlx asks for first; programs of PostgreSQL do not, on a Unix socket
            }
            loop {
                let (kind, message) = match first.take() {
                    Some(kind) => read_rest(kind, &mut from_server).await?,
                    None => read_typed(&mut from_server).await?,
                };
                if *wanted.lock().unwrap() {
                    if kind == b'Z' {
                        told.notify_one();
                        return Ok::<_, std::io::Error>(());
                    }
                    continue;
                }
                to_client.write_all(&message).await?;
            }
        };
        let forth = async move {
            let mut asks_for_encryption = true;
            while asks_for_encryption {
                let startup = read_startup(&mut from_client).await?;
                asks_for_encryption = startup[4..8] == SSL_REQUEST;
                to_server.write_all(&startup).await?;
            }
            let mut bound = String::new();
            let mut prepared = std::collections::HashMap::new();
            let mut is_marked = false;
            loop {
                let (kind, message) = read_typed(&mut from_client).await?;
                let statement = match kind {
                    b'Q' => Some(text(&message, 5)),
                    b'P' => {
                        let name = text(&message, 5);
                        prepared.insert(name.clone(), text(&message, 6 + name.len()));
                        None
                    }
                    b'B' => {
                        let portal = text(&message, 5);
                        bound = prepared.get(&text(&message, 6 + portal.len())).cloned().unwrap_or_default();
                        None
                    }
                    b'E' => Some(bound.clone()),
                    _ => None,
                };
                match statement.and_then(|statement| self.fault_at(statement, &mut is_marked)) {
                    None => to_server.write_all(&message).await?,
                    Some(Fault::CutBefore) => return Ok::<_, std::io::Error>(()),
                    Some(Fault::CutAfter) => {
                        *cut.lock().unwrap() = true;
                        to_server.write_all(&message).await?;
                        // Of an extended query the synchronisation is still to come.
                        let mut last = kind;
                        while kind == b'E' && last != b'S' {
                            let (next, rest) = read_typed(&mut from_client).await?;
                            to_server.write_all(&rest).await?;
                            last = next;
                        }
                        done.notified().await;
                        return Ok(());
                    }
                    Some(Fault::Hold) => {
                        let mut disarmed = self.disarmed.clone();
                        disarmed.mark_unchanged();
                        let _ = disarmed.changed().await;
                        return Ok(());
                    }
                }
            }
        };
        tokio::select! {
            ended = forth => ended,
            ended = back => ended,
        }
    }

    /// `is_marked`: whether what comes after the mark is of this connection.
    fn fault_at(&self, statement: String, is_marked: &mut bool) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let (n, fault) = state.armed?;
        if let Some(mark) = state.after
            && !std::mem::replace(is_marked, *is_marked || statement.contains(mark))
        {
            return None;
        }
        if !state.words.is_empty() && !state.words.iter().any(|word| statement.contains(word)) {
            return None;
        }
        state.count += 1;
        state.log.push(statement.clone());
        if state.count != n {
            return None;
        }
        state.hit = Some(statement);
        Some(fault)
    }
}

/// A message without a kind: the one that begins the session, or asks for encryption before.
async fn read_startup(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut message = vec![0; length as usize];
    message[..4].copy_from_slice(&length.to_be_bytes());
    from.read_exact(&mut message[4..]).await?;
    Ok(message)
}

/// The protocol number that asks for encryption.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

async fn read_typed(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    read_rest(kind, from).await
}

async fn read_rest(kind: u8, from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let length = from.read_u32().await?;
    let mut message = vec![0; length as usize + 1];
    message[0] = kind;
    message[1..5].copy_from_slice(&length.to_be_bytes());
    from.read_exact(&mut message[5..]).await?;
    Ok((kind, message))
}

/// The text at `from`, up to its end mark.
fn text(message: &[u8], from: usize) -> String {
    let rest = &message[from..];
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    String::from_utf8_lossy(&rest[..end]).into_owned()
}

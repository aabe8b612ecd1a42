//! Messages on their way: read whole and within bounds, looked at, and only then given to the library, over a pair of sockets. The
//! library never sees the network.

use std::{
    collections::HashMap,
    io,
    os::unix::net::UnixStream as StdUnixStream,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

use super::{
    answer::{Answer, Request, answer, request},
    ber::{Broken, SEQUENCE, more_of_length},
    trouble::Trouble,
};

/// The largest message: a group of some 50,000 people.
const LARGEST_MESSAGE: usize = 8 << 20;

/// Why the line ended; nothing while it is in use.
pub(super) type Ended = Arc<OnceLock<Trouble>>;

/// Reads one message; `None` where the line ends between two.
pub(super) async fn read_message(
    from: &mut (impl AsyncRead + Unpin),
    largest: usize,
) -> Result<Option<Vec<u8>>, Trouble> {
    let mut frame = vec![0; 2];
    if from.read(&mut frame[..1]).await.map_err(lost)? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut frame[1..]).await.map_err(lost)?;
    if frame[0] != SEQUENCE {
        return Err(Trouble::Garbage("a message"));
    }
    let more = more_of_length(frame[1]).map_err(garbage)?;
    let length = if more == 0 {
        usize::from(frame[1])
    } else {
        frame.resize(2 + more, 0);
        from.read_exact(&mut frame[2..]).await.map_err(lost)?;
        frame[2..].iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
    };
    if length > largest {
        return Err(Trouble::TooLarge(largest));
    }
    // What was announced need not come: room is made as it does.
    let head = frame.len();
    from.take(length as u64).read_to_end(&mut frame).await.map_err(lost)?;
    if frame.len() == head + length { Ok(Some(frame)) } else { Err(Trouble::Closed) }
}

/// Carries messages between the library, at the answered socket, and `server`, until either ends or says what it must not. At most
/// `most` bytes are taken from the server.
pub(super) fn carry<S>(server: S, most: usize) -> io::Result<(StdUnixStream, Ended, tokio::task::JoinHandle<()>)>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (library, ours) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let ours = UnixStream::from_std(ours)?;
    let ended = Ended::default();
    let noted = ended.clone();
    let task = tokio::spawn(async move {
        let pending = Pending::default();
        let (mut from_server, mut to_server) = tokio::io::split(server);
        let (mut from_library, mut to_library) = ours.into_split();
        let trouble = tokio::select! {
            trouble = down(&mut from_server, &mut to_library, &pending, most) => trouble,
            trouble = up(&mut from_library, &mut to_server, &pending) => trouble,
        };
        // Before the library sees the end: who it tells of that looks for the reason.
        let _ = noted.set(trouble);
        drop((from_server, to_server, from_library, to_library));
    });
    Ok((library, ended, task))
}

/// Requests that have no last answer yet.
#[derive(Debug, Default)]
struct Pending(Mutex<HashMap<u32, Request>>);

impl Pending {
    fn with<T>(&self, change: impl FnOnce(&mut HashMap<u32, Request>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// From the server to the library.
async fn down(
    server: &mut (impl AsyncRead + Unpin),
    library: &mut (impl AsyncWrite + Unpin),
    pending: &Pending,
    most: usize,
) -> Trouble {
    let (mut server, mut taken) = (BufReader::new(server), 0_usize);
    loop {
        let frame = match read_message(&mut server, LARGEST_MESSAGE).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Trouble::Closed,
            Err(trouble) => return trouble,
        };
        taken = taken.saturating_add(frame.len());
        if taken > most {
            return Trouble::TooLarge(most);
        }
        match answer(&frame, |id| pending.with(|pending| pending.get(&id).copied())) {
            Err(broken) => return garbage(broken),
            Ok((_, Answer::Disconnection)) => return Trouble::Closed,
            Ok((_, Answer::LeftOut)) => continue,
            Ok((id, Answer::Last(_))) => drop(pending.with(|pending| pending.remove(&id))),
            Ok((_, Answer::Part)) => {}
        }
        if library.write_all(&frame).await.is_err() {
            return Trouble::Closed;
        }
    }
}

/// From the library to the server.
async fn up(
    library: &mut (impl AsyncRead + Unpin),
    server: &mut (impl AsyncWrite + Unpin),
    pending: &Pending,
) -> Trouble {
    loop {
        let Ok(Some(frame)) = read_message(library, LARGEST_MESSAGE).await else { return Trouble::Closed };
        let Ok((id, kind)) = request(&frame) else { return Trouble::Garbage("a request") };
        if kind != Request::Unanswered {
            pending.with(|pending| pending.insert(id, kind));
        }
        if server.write_all(&frame).await.is_err() || server.flush().await.is_err() {
            return Trouble::Closed;
        }
    }
}

/// Asks for TLS (RFC 4511, section 4.14). Nothing else was sent before, and nothing is read beyond the answer: what somebody on the way
/// puts behind it in plain text is not taken for the server's.
pub(super) async fn start_tls(line: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), Trouble> {
    const START_TLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
    const LARGEST: usize = 64 << 10;
    line.write_all(START_TLS).await.map_err(lost)?;
    line.flush().await.map_err(lost)?;
    let frame = read_message(line, LARGEST).await?.ok_or(Trouble::Closed)?;
    match answer(&frame, |id| (id == 1).then_some(Request::Extended)).map_err(garbage)?.1 {
        Answer::Last(0) => Ok(()),
        Answer::Last(code) => Err(Trouble::StartTls(code)),
        Answer::Disconnection => Err(Trouble::Closed),
        Answer::Part | Answer::LeftOut => Err(Trouble::Garbage("an answer to StartTLS")),
    }
}

fn garbage(broken: Broken) -> Trouble {
    Trouble::Garbage(broken.0)
}

fn lost(_error: io::Error) -> Trouble {
    Trouble::Closed
}

//! Terminals on a machine's serial console: all of them see what the guest writes, and each may type.
//!
//! ```text
//!  machine ──tell──▶ Line ──broadcast, bounded──▶ Screen   (one for each terminal)
//!     ▲───────────── one queue, bounded ◀──────── Keyboard
//! ```
//! A [`Line`] is the console for one run of a machine, and closes with it. Nobody who reads slowly holds up the machine or
//! another terminal: what a screen does not read in time is lost to it, and it is told how much. Deliberately not here: who
//! may open a terminal, and what bytes mean. They are the guest's own and hostile to whatever interprets them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};

use crate::DriverError;

/// Terminals on one machine at most.
pub const TERMINALS_MAX: usize = 8;
/// Pieces of output that wait for the slowest screen at most; older ones are lost to it.
pub const OUTPUT_CHUNKS_MAX: usize = 128;
/// Bytes of one piece of output at most.
pub const OUTPUT_CHUNK_BYTES_MAX: usize = 16 * 1024;
/// Pieces of input that wait for the guest at most, from all keyboards together; who types more waits.
pub const INPUT_CHUNKS_MAX: usize = 16;
/// Bytes of one piece of input at most.
pub const INPUT_CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Why a terminal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// There is nothing to be connected to.
    #[error("the machine does not run")]
    NotRunning,
    /// As many are open on this machine as may be.
    #[error("{TERMINALS_MAX} terminals are open on this machine, as many as may be")]
    Full,
    /// The driver could not look at the machine, or could not read its console.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

/// An open terminal; it ends when its screen is dropped.
#[derive(Debug)]
pub struct Terminal {
    /// What the guest writes.
    pub screen: Screen,
    /// What is typed.
    pub keyboard: Keyboard,
}

/// What a screen shows next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Output, at most [`OUTPUT_CHUNK_BYTES_MAX`] bytes but for the first, which may be as long as was asked for.
    Bytes(Arc<[u8]>),
    /// So many bytes of output came faster than they were read, and are gone.
    Lost {
        /// How many.
        bytes: u64,
    },
    /// There will be no more: the machine stopped, or the driver lets it go.
    Ended,
}

/// A terminal's output.
#[derive(Debug)]
pub struct Screen {
    /// The output before the terminal was opened, until it is shown.
    first: Option<Arc<[u8]>>,
    news: broadcast::Receiver<Chunk>,
    /// Bytes of the line's output that were shown or told of as lost.
    told: u64,
    /// What follows a loss.
    after_loss: Option<Arc<[u8]>>,
    _line: Arc<Line>,
    _room: OwnedSemaphorePermit,
}

impl Screen {
    /// Waits for what comes next. Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Shown {
        if let Some(bytes) = self.first.take().or_else(|| self.after_loss.take()) {
            return Shown::Bytes(bytes);
        }
        let chunk = loop {
            match self.news.recv().await {
                Ok(chunk) => break chunk,
                // The next piece says how much it was.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Shown::Ended,
            }
        };
        let lost = chunk.from.saturating_sub(self.told);
        self.told = chunk.from.saturating_add(chunk.bytes.len() as u64);
        if lost == 0 {
            return Shown::Bytes(chunk.bytes);
        }
        self.after_loss = Some(chunk.bytes);
        Shown::Lost { bytes: lost }
    }
}

/// A terminal's input.
#[derive(Debug, Clone)]
pub struct Keyboard {
    typed: mpsc::Sender<Vec<u8>>,
}

/// The machine does not run any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the machine does not run any more")]
pub struct Gone;

impl Keyboard {
    /// Waits until there is room for a piece of input, and hands over the first [`INPUT_CHUNK_BYTES_MAX`] of `bytes`, which
    /// keeps the rest. Nothing is handed over when the wait is given up. A guest that takes no input makes it wait.
    pub async fn press(&self, bytes: &mut Vec<u8>) -> Result<(), Gone> {
        let room = self.typed.reserve().await.map_err(|_| Gone)?;
        let rest = bytes.split_off(bytes.len().min(INPUT_CHUNK_BYTES_MAX));
        room.send(std::mem::replace(bytes, rest));
        Ok(())
    }
}

/// A piece of output.
#[derive(Debug, Clone)]
struct Chunk {
    /// Bytes of the line's output before it.
    from: u64,
    bytes: Arc<[u8]>,
}

/// What goes to the screens; `None` once it is closed.
#[derive(Debug)]
struct News {
    sender: broadcast::Sender<Chunk>,
    /// Bytes of output until now.
    written: u64,
}

/// The console of one run of a machine, as its terminals share it.
#[derive(Debug)]
pub(crate) struct Line {
    news: Mutex<Option<News>>,
    typed: mpsc::Sender<Vec<u8>>,
    room: Arc<Semaphore>,
}

/// A machine's end of its line; dropping it closes the line. It does not keep the line.
#[derive(Debug)]
pub(crate) struct Guest {
    line: Weak<Line>,
    /// What is typed; ends when neither the line nor a terminal is left.
    pub typed: mpsc::Receiver<Vec<u8>>,
}

impl Line {
    /// A line and the machine's end of it.
    pub fn open() -> (Arc<Self>, Guest) {
        let (typed, receiver) = mpsc::channel(INPUT_CHUNKS_MAX);
        let news = News { sender: broadcast::channel(OUTPUT_CHUNKS_MAX).0, written: 0 };
        let room = Arc::new(Semaphore::new(TERMINALS_MAX));
        let line = Arc::new(Self { news: Mutex::new(Some(news)), typed, room });
        let guest = Guest { line: Arc::downgrade(&line), typed: receiver };
        (line, guest)
    }

    /// One more terminal. `last` reads the output until now, which the terminal shows first: nothing is written meanwhile, so
    /// there is neither a gap nor a repetition.
    pub fn attach(self: Arc<Self>, last: impl FnOnce() -> io::Result<Vec<u8>>) -> Result<Terminal, AttachError> {
        let room = self.room.clone().try_acquire_owned().map_err(|_| AttachError::Full)?;
        let (first, news, told) = {
            let open = self.news.lock().unwrap_or_else(PoisonError::into_inner);
            let open = open.as_ref().ok_or(AttachError::Closed)?;
            (last().map_err(AttachError::Read)?, open.sender.subscribe(), open.written)
        };
        let first = (!first.is_empty()).then(|| first.into());
        let keyboard = Keyboard { typed: self.typed.clone() };
        Ok(Terminal { screen: Screen { first, news, told, after_loss: None, _line: self, _room: room }, keyboard })
    }

    /// Ends every terminal; there will be no other.
    pub fn close(&self) {
        *self.news.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Why a line takes no terminal.
#[derive(Debug)]
pub(crate) enum AttachError {
    /// It has as many as it may.
    Full,
    /// It is closed.
    Closed,
    /// The output until now can't be read.
    Read(io::Error),
}

impl Guest {
    /// What the guest wrote, at most [`OUTPUT_CHUNK_BYTES_MAX`] bytes: kept by `keep`, then shown by every screen. Never waits
    /// for one.
    pub fn tell(&self, bytes: &[u8], keep: impl FnOnce(&[u8])) {
        let line = self.line.upgrade();
        let mut open = line.as_ref().map(|line| line.news.lock().unwrap_or_else(PoisonError::into_inner));
        keep(bytes);
        if let Some(news) = open.as_mut().and_then(|open| open.as_mut()) {
            let from = news.written;
            news.written = from.saturating_add(bytes.len() as u64);
            if news.sender.receiver_count() > 0 {
                // Whoever has gone since hears nothing.
                let _ = news.sender.send(Chunk { from, bytes: bytes.into() });
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(line) = self.line.upgrade() {
            line.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Shown {
        Shown::Bytes(text.as_bytes().into())
    }

    #[tokio::test]
    async fn all_see_and_all_type() {
        let (line, mut guest) = Line::open();
        let mut one = line.clone().attach(|| Ok(Vec::new())).unwrap();
        guest.tell(b"login: ", |_| {});
        let mut two = line.clone().attach(|| Ok(b"login: ".to_vec())).unwrap();
        guest.tell(b"!", |_| {});
        for screen in [&mut one.screen, &mut two.screen] {
            assert_eq!((screen.next().await, screen.next().await), (shown("login: "), shown("!")));
        }
        one.keyboard.press(&mut b"a".to_vec()).await.unwrap();
        two.keyboard.press(&mut b"b".to_vec()).await.unwrap();
        assert_eq!((guest.typed.recv().await.unwrap(), guest.typed.recv().await.unwrap()), (b"a".into(), b"b".into()));
        drop(guest);
        assert_eq!(two.screen.next().await, Shown::Ended);
        assert_eq!(two.keyboard.press(&mut b"b".to_vec()).await, Err(Gone));
        assert!(matches!(line.attach(|| Ok(Vec::new())), Err(AttachError::Closed)));
    }

    #[tokio::test]
    async fn who_reads_slowly_is_told_what_is_lost() {
        let (line, guest) = Line::open();
        let mut terminal = line.attach(|| Ok(b"before".to_vec())).unwrap();
        for number in 0..OUTPUT_CHUNKS_MAX + 3 {
            guest.tell(format!("{number:04}").as_bytes(), |_| {});
        }
        assert_eq!(terminal.screen.next().await, shown("before"));
        assert_eq!(terminal.screen.next().await, Shown::Lost { bytes: 3 * 4 });
        assert_eq!(terminal.screen.next().await, shown("0003"));
        assert_eq!(terminal.screen.next().await, shown("0004"));
    }

    #[tokio::test]
    async fn places_and_input_are_bounded() {
        let (line, guest) = Line::open();
        let mut terminals: Vec<_> =
            (0..TERMINALS_MAX).map(|_| line.clone().attach(|| Ok(Vec::new())).unwrap()).collect();
        assert!(matches!(line.clone().attach(|| Ok(Vec::new())), Err(AttachError::Full)));
        terminals.pop();
        let terminal = line.attach(|| Ok(Vec::new())).unwrap();
        let mut long = vec![b'x'; INPUT_CHUNK_BYTES_MAX + 1];
        terminal.keyboard.press(&mut long).await.unwrap();
        assert_eq!(long, b"x", "the rest is kept");
        for _ in 1..INPUT_CHUNKS_MAX {
            terminal.keyboard.press(&mut b"y".to_vec()).await.unwrap();
        }
        {
            let press = terminal.keyboard.press(&mut long);
            tokio::pin!(press);
            assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(press.as_mut().poll(cx).is_pending())).await);
        }
        assert_eq!(long, b"x", "a wait that is given up hands over nothing");
        assert_eq!(guest.typed.len(), INPUT_CHUNKS_MAX);
    }
}

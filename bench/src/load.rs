//! A load generator for HTTP/1.1 over keep-alive connections: one request under way on each, no work between an answer
//! and the next request. One thread and one system call each way, so that little of the machine is taken from the
//! server that is measured; the same generator loads both sides of a row.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// Bytes of one answer at most.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Seconds without any answer after which the server is given up.
const SILENCE_MAX_S: u64 = 10;

/// What is asked of whom.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// Connections, each with one request under way.
    pub connections: usize,
    /// How long answers are counted.
    pub duration: Duration,
    /// The status that every answer must have.
    pub status: u16,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Answers a second.
    pub rate: f64,
    /// Answers.
    pub answers: u64,
    /// Microseconds from a request to its whole answer: the median and the 99th percentile.
    pub times_us: (u64, u64),
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    asked: Instant,
}

/// Puts the load on; `request` appends the whole request with that number, from 0.
pub fn run(load: Load, mut request: impl FnMut(u64, &mut Vec<u8>)) -> Result<Outcome> {
    let mut poll = Poll::new().context("no poll")?;
    let mut events = Events::with_capacity(load.connections);
    let mut out = Vec::with_capacity(4096);
    let mut next = 0;
    let mut connections = connect(&poll, load)?;
    let begun = Instant::now();
    for connection in &mut connections {
        out.clear();
        request(next, &mut out);
        next += 1;
        connection.ask(&out)?;
    }
    let mut buffer = vec![0; READ_BYTES];
    let mut times = Vec::with_capacity(1 << 20);
    let mut open = connections.len();
    let mut elapsed = Duration::ZERO;
    while open > 0 {
        poll.poll(&mut events, Some(Duration::from_secs(SILENCE_MAX_S)))?;
        ensure!(!events.is_empty(), "no answer from {} within {SILENCE_MAX_S} s", load.address);
        for event in &events {
            let connection = &mut connections[event.token().0];
            if !connection.read(&mut buffer, load.status)? {
                continue;
            }
            let now = Instant::now();
            if now - begun > load.duration {
                open -= 1;
                continue;
            }
            elapsed = now - begun;
            times.push(u64::try_from((now - connection.asked).as_micros()).unwrap_or(u64::MAX));
            out.clear();
            request(next, &mut out);
            next += 1;
            connection.asked = now;
            connection.ask(&out)?;
        }
    }
    ensure!(!times.is_empty(), "no answer from {} in {:?}", load.address, load.duration);
    times.sort_unstable();
    let answers = times.len();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = answers as f64 / elapsed.as_secs_f64();
    Ok(Outcome { rate, answers: answers as u64, times_us: (times[answers / 2], times[answers * 99 / 100]) })
}

fn connect(poll: &Poll, load: Load) -> Result<Vec<Connection>> {
    (0..load.connections)
        .map(|i| {
            let stream = std::net::TcpStream::connect(load.address)
                .with_context(|| format!("no connection to {}", load.address))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(i), Interest::READABLE)?;
            Ok(Connection { stream, answer: Vec::with_capacity(READ_BYTES), asked: Instant::now() })
        })
        .collect()
}

impl Connection {
    /// Requests are far smaller than a socket's buffer, which is empty: they are taken whole.
    fn ask(&mut self, request: &[u8]) -> Result<()> {
        let written = self.stream.write(request).context("a request could not be sent")?;
        ensure!(written == request.len(), "a request was taken in parts");
        Ok(())
    }

    /// Takes what has arrived; whether the answer is whole. Then it is checked and forgotten.
    fn read(&mut self, buffer: &mut [u8], status: u16) -> Result<bool> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection after {:?}", String::from_utf8_lossy(&self.answer)),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error).context("an answer could not be read"),
            };
            self.answer.extend_from_slice(&buffer[..count]);
            ensure!(self.answer.len() <= ANSWER_BYTES_MAX, "an answer has more than {ANSWER_BYTES_MAX} bytes");
            if let Some(length) = whole(&self.answer)? {
                ensure!(length == self.answer.len(), "two answers to one request");
                let told = self.answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
                ensure!(told == Some(status), "not {status}: {}", String::from_utf8_lossy(&self.answer));
                self.answer.clear();
                return Ok(true);
            }
            // A read that did not fill the buffer took all there was; the next arrival is a new event.
            if count < buffer.len() {
                return Ok(false);
            }
        }
    }
}

/// The length of the answer that `bytes` begin with, once it is all there.
fn whole(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let length = header(&bytes[..head], "content-length").and_then(|value| value.parse::<usize>().ok());
    let Some(length) = length else { bail!("an answer without content-length") };
    let end = head + 4 + length;
    Ok((bytes.len() >= end).then_some(end))
}

/// The value of a header in a head.
fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let value = line.get(name.len()..)?;
        let is_named = line[..name.len()].eq_ignore_ascii_case(name.as_bytes()) && value.first() == Some(&b':');
        if is_named { std::str::from_utf8(&value[1..]).ok().map(str::trim) } else { None }
    })
}

/// Asks once, over a connection of its own, and hands back status and body.
pub fn ask(address: SocketAddr, request: &[u8]) -> Result<(u16, Vec<u8>)> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(SILENCE_MAX_S)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    let end = loop {
        if let Some(end) = whole(&answer)? {
            break end;
        }
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0 && answer.len() <= ANSWER_BYTES_MAX, "a broken answer");
        answer.extend_from_slice(&buffer[..count]);
    };
    let status = std::str::from_utf8(answer.get(9..12).unwrap_or_default())?.parse()?;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(end, |at| at + 4);
    Ok((status, answer[head..end].to_vec()))
}

/// A request without a body.
pub fn get(path: &str, key: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n").into_bytes()
}

/// Appends a POST with a JSON body, and an idempotency key when there is one.
pub fn post(out: &mut Vec<u8>, path: &str, key: &str, idempotency_key: Option<&str>, body: &str) {
    // Writing into memory can't fail.
    let _ = write!(
        out,
        "POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    if let Some(key) = idempotency_key {
        let _ = write!(out, "Idempotency-Key: {key}\r\n");
    }
    let _ = write!(out, "\r\n{body}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\n{}";
        for cut in 0..answer.len() {
            assert_eq!(whole(&answer[..cut]).unwrap(), None);
        }
        assert_eq!(whole(answer).unwrap(), Some(answer.len()));
        assert!(whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}

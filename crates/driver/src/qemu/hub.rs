//! The private networks of environments: a switch each, in this process. A machine sends from its own address only, and
//! its frames reach the machines of its environment only. While the server is down the switch is too; machines go on.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nephos_model::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

/// Bytes of one frame at most: 64 KiB and the virtual card's own header room.
const FRAME_BYTES_MAX: usize = 69_632;
/// Bytes of one frame at least: two hardware addresses and a type.
const FRAME_BYTES_MIN: usize = 14;
/// Frames that wait for one machine at most; more are lost, as on any network.
const QUEUE_FRAMES_MAX: usize = 256;
/// Milliseconds between tries to reach a machine's card.
const RETRY_MS: u64 = 500;

type Mac = [u8; 6];
type Port = mpsc::Sender<Arc<[u8]>>;

/// The switches of a host, by environment.
#[derive(Debug, Default)]
pub struct Switches(Mutex<HashMap<String, HashMap<Mac, Port>>>);

impl Switches {
    fn plug(&self, environment: &str, mac: Mac) -> mpsc::Receiver<Arc<[u8]>> {
        let (sender, receiver) = mpsc::channel(QUEUE_FRAMES_MAX);
        let mut switches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        switches.entry(environment.to_owned()).or_default().insert(mac, sender);
        receiver
    }

    fn unplug(&self, environment: &str, mac: Mac) {
        let mut switches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ports) = switches.get_mut(environment) {
            // A machine that was started again may hold the place by now.
            if ports.get(&mac).is_some_and(Port::is_closed) {
                ports.remove(&mac);
            }
            if ports.is_empty() {
                switches.remove(environment);
            }
        }
    }

    /// Passes a frame on: to the machine it is for, or to all others when it is for many.
    fn forward(&self, environment: &str, from: Mac, frame: &[u8]) {
        let (Some(to), Some(source)) = (frame.first_chunk::<6>(), frame.get(6..12)) else { return };
        if frame.len() < FRAME_BYTES_MIN || source != from {
            return;
        }
        let switches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ports) = switches.get(environment) else { return };
        let frame: Arc<[u8]> = frame.into();
        if to[0] & 1 == 0 {
            if let Some(port) = ports.get(to) {
                let _ = port.try_send(frame);
            }
            return;
        }
        for (_, port) in ports.iter().filter(|(mac, _)| **mac != from) {
            let _ = port.try_send(Arc::clone(&frame));
        }
    }
}

/// A machine's place at its environment's switch.
#[derive(Debug, Clone)]
pub struct Seat {
    /// The environment.
    pub environment: String,
    /// The machine's hardware address there.
    pub mac: Mac,
    /// The socket of its card.
    pub socket: PathBuf,
}

/// Serves one machine's card, until it is dropped: connects, and connects again when the connection ends.
pub async fn serve(seat: Seat, switches: Arc<Switches>, clock: Arc<dyn Clock>) {
    loop {
        if let Ok(stream) = UnixStream::connect(&seat.socket).await {
            let plugged = Plugged {
                receiver: Some(switches.plug(&seat.environment, seat.mac)),
                seat: &seat,
                switches: &switches,
            };
            plugged.exchange(stream).await;
        }
        clock.sleep(Duration::from_millis(RETRY_MS)).await;
    }
}

struct Plugged<'a> {
    receiver: Option<mpsc::Receiver<Arc<[u8]>>>,
    seat: &'a Seat,
    switches: &'a Switches,
}

impl Plugged<'_> {
    async fn exchange(mut self, stream: UnixStream) {
        let (mut reader, writer) = stream.into_split();
        let Some(mut receiver) = self.receiver.take() else { return };
        let inwards = async {
            let mut frame = vec![0; FRAME_BYTES_MAX];
            // Each frame is preceded by its length, 32 bits, most significant byte first.
            while let Ok(length) = reader.read_u32().await {
                let Some(frame) = usize::try_from(length).ok().and_then(|length| frame.get_mut(..length)) else {
                    return;
                };
                if reader.read_exact(frame).await.is_err() {
                    return;
                }
                self.switches.forward(&self.seat.environment, self.seat.mac, frame);
            }
        };
        tokio::select! {
            () = inwards => {}
            () = outwards(writer, &mut receiver) => {}
        }
    }
}

impl Drop for Plugged<'_> {
    fn drop(&mut self) {
        self.receiver = None;
        self.switches.unplug(&self.seat.environment, self.seat.mac);
    }
}

async fn outwards(mut writer: OwnedWriteHalf, receiver: &mut mpsc::Receiver<Arc<[u8]>>) {
    let mut out = Vec::new();
    while let Some(frame) = receiver.recv().await {
        out.clear();
        out.extend(u32::try_from(frame.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(&frame);
        if writer.write_all(&out).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(to: Mac, from: Mac) -> Vec<u8> {
        [&to[..], &from[..], &[8, 0, 42]].concat()
    }

    #[test]
    fn frames_stay_in_their_environment_and_tell_their_sender() {
        let switches = Switches::default();
        let (a, b, c) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]);
        let mut at_a = switches.plug("one", a);
        let mut at_b = switches.plug("one", b);
        let mut at_c = switches.plug("two", c);
        switches.forward("one", a, &frame(b, a));
        assert_eq!(at_b.try_recv().unwrap()[..], frame(b, a));
        switches.forward("one", a, &frame([0xff; 6], a));
        assert_eq!(at_b.try_recv().unwrap()[..], frame([0xff; 6], a));
        // A foreign sender, a foreign environment, something too short.
        switches.forward("one", a, &frame(b, c));
        switches.forward("one", a, &frame(c, a));
        switches.forward("one", a, &b);
        assert!(at_a.try_recv().is_err() && at_b.try_recv().is_err() && at_c.try_recv().is_err());
        drop(at_b);
        switches.unplug("one", b);
        switches.forward("one", a, &frame(b, a));
        assert!(at_a.try_recv().is_err());
    }
}

//! A relay in front of the registry, which counts what passes in each direction: requests and answers whole, headers too.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use crate::Outcome;

/// Bytes that passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To the registry.
    pub up_bytes: u64,
    /// From the registry.
    pub down_bytes: u64,
}

/// Listens on the loopback interface until it is dropped.
pub struct Relay {
    address: SocketAddr,
    counts: Arc<[AtomicU64; 2]>,
    stopped: Arc<AtomicBool>,
}

impl Relay {
    /// Relays to a port of this machine.
    pub fn start(port: u16) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let relay = Self { address: listener.local_addr()?, counts: Arc::default(), stopped: Arc::default() };
        let (counts, stopped) = (relay.counts.clone(), relay.stopped.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                // A client whose registry is gone sees its connection end.
                let _ = TcpStream::connect(("127.0.0.1", port)).and_then(|server| join(client, server, &counts));
            }
        });
        Ok(relay)
    }

    /// As references name it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// What has passed since this was last asked.
    pub fn take(&self) -> Traffic {
        let [up_bytes, down_bytes] = [0, 1].map(|direction: usize| self.counts[direction].swap(0, Ordering::SeqCst));
        Traffic { up_bytes, down_bytes }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn join(client: TcpStream, server: TcpStream, counts: &Arc<[AtomicU64; 2]>) -> std::io::Result<()> {
    // Small requests are not to wait for more.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ways = [(client.try_clone()?, server.try_clone()?), (server, client)];
    for (direction, (from, to)) in ways.into_iter().enumerate() {
        let counts = counts.clone();
        thread::spawn(move || pump(from, to, &counts[direction]));
    }
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        count.fetch_add(length as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay::start(listener.local_addr().unwrap().port()).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(b"an answer").unwrap();
            text
        });
        let mut client = TcpStream::connect(relay.host()).unwrap();
        client.write_all(b"ask").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((server.join().unwrap().as_str(), answer.as_str()), ("ask", "an answer"));
        assert_eq!(relay.take(), Traffic { up_bytes: 3, down_bytes: 9 });
        assert_eq!(relay.take(), Traffic::default());
    }
}

//! A TCP proxy that knows enough of the Kafka protocol to interfere with one kind of request.
//!
//! Requests begin with their length (4 bytes), API key (2), version (2) and correlation id (4):
//! <https://kafka.apache.org/protocol#protocol_messages>. Clients come here for everything, because
//! the broker behind advertises the proxy's address.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// `EndTxn` in the list of API keys.
pub(crate) const END_TXN: i16 = 26;

/// `Produce` in the list of API keys.
pub(crate) const PRODUCE: i16 = 0;

/// `OffsetCommit` in the list of API keys.
pub(crate) const OFFSET_COMMIT: i16 = 8;

/// `AddOffsetsToTxn` in the list of API keys.
pub(crate) const ADD_OFFSETS_TO_TXN: i16 = 25;

/// `TxnOffsetCommit` in the list of API keys.
pub(crate) const TXN_OFFSET_COMMIT: i16 = 28;

/// What happens to a request of the kind that is interfered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never arrives, and the connection ends.
    Lost,
    /// It arrives, and the connection ends before the answer.
    Unanswered,
    /// It arrives late.
    Late(Duration),
}

/// API keys below this are counted; there are fewer than a hundred.
const KINDS: usize = 128;

/// A proxy in front of a broker, for as long as the process lives.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    faults: Arc<AtomicUsize>,
    requests: Arc<[AtomicUsize; KINDS]>,
}

impl Proxy {
    /// Listens on `port` and forwards to `broker`. `decide` is told the kind of each request and
    /// its bytes.
    pub(crate) fn start(
        port: u16,
        broker: u16,
        decide: impl Fn(i16, &[u8]) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port was free");
        let requests = Arc::new(std::array::from_fn(|_| AtomicUsize::new(0)));
        let proxy = Self { faults: Arc::default(), requests };
        let (counts, decide) = (proxy.clone(), Arc::new(decide));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (counts, decide) = (counts.clone(), Arc::clone(&decide));
                let next = move |request: &[u8]| {
                    let [high, low, ..] = *request else { return None };
                    let kind = i16::from_be_bytes([high, low]);
                    let fault = decide(kind, request);
                    counts.count(kind, fault.is_some());
                    fault
                };
                thread::spawn(move || serve(&client, broker, next));
            }
        });
        proxy
    }

    fn count(&self, kind: i16, fault: bool) {
        self.faults.fetch_add(usize::from(fault), Ordering::Relaxed);
        if let Some(requests) = usize::try_from(kind).ok().and_then(|kind| self.requests.get(kind))
        {
            requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests of one kind that have come.
    pub(crate) fn requests(&self, kind: i16) -> usize {
        usize::try_from(kind)
            .ok()
            .and_then(|kind| self.requests.get(kind))
            .map_or(0, |requests| requests.load(Ordering::Relaxed))
    }

    /// Requests that were interfered with.
    pub(crate) fn faults(&self) -> usize {
        self.faults.load(Ordering::Relaxed)
    }
}

fn serve(client: &TcpStream, broker: u16, next: impl Fn(&[u8]) -> Option<Fault>) {
    // A broker that is down refuses: the client sees its connection end.
    if let Ok(server) = TcpStream::connect(("127.0.0.1", broker)) {
        for end in [client, &server] {
            let _ = end.set_nodelay(true);
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = io::copy(&mut &server, &mut &*client);
                close(client);
            });
            // An end of either side ends both.
            let _ = forward(client, &server, next);
            close(&server);
        });
    }
    close(client);
}

fn forward(
    mut client: &TcpStream,
    mut server: &TcpStream,
    next: impl Fn(&[u8]) -> Option<Fault>,
) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        client.read_exact(&mut request)?;
        let fault = next(&request);
        match fault {
            Some(Fault::Lost) => return Ok(()),
            Some(Fault::Unanswered) => client.shutdown(Shutdown::Write)?,
            Some(Fault::Late(time)) => thread::sleep(time),
            None => {}
        }
        server.write_all(&[&length[..], &request].concat())?;
        if fault == Some(Fault::Unanswered) {
            thread::sleep(Duration::from_millis(50));
            return Ok(());
        }
    }
}

fn close(end: &TcpStream) {
    // Already closed is as good.
    let _ = end.shutdown(Shutdown::Both);
}

//! A TCP proxy between a program and a server, with a switch: pass, cut, hold one direction or both, swallow everything,
//! or strand the connections that there are.
//!
//! The switch is a barrier: once a method returns, no byte is read and passed on under the old rule (at most the
//! chunk that was being written then). Held bytes belong to their connection: they are passed on when the switch goes
//! back to pass, and are lost when the connection ends first, as if they had never left the machine.
//! It does not delay, throttle or damage bytes: no test needs that.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use crate::until;

/// A running proxy; its connections end with it.
pub struct Proxy {
    address: SocketAddr,
    shared: Shared,
    accepting: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    switch: watch::Sender<Switch>,
    held: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Switch {
    mode: Mode,
    /// How many cuts there have been: a connection from before one ends, however soon bytes may pass again.
    cuts: usize,
    /// How often connections have been stranded: those from before pass nothing any more.
    strandings: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Cut,
    HoldToServer,
    HoldToClient,
    Hold,
    Swallow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// What becomes of a chunk of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passed,
    Kept,
    Lost,
}

impl Proxy {
    /// A proxy in front of the server that `url` names (and gives a port), on a port of its own.
    pub async fn in_front_of(url: &Url) -> Result<Self> {
        let server = *url.socket_addrs(|| None)?.first().context("the URL names no host")?;
        Self::to(server).await
    }

    /// The same, for an address.
    pub async fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Shared {
            switch: watch::Sender::new(Switch { mode: Mode::Pass, cuts: 0, strandings: 0 }),
            held: Arc::default(),
            accepted: Arc::default(),
        };
        let accepting = tokio::spawn(accept(listener, server, shared.clone()));
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `url`, by way of the proxy.
    pub fn rewrite(&self, url: &Url) -> Result<Url> {
        let mut url = url.clone();
        url.set_host(Some(&self.address.ip().to_string()))?;
        ensure!(url.set_port(Some(self.address.port())).is_ok(), "a URL that cannot have a port");
        Ok(url)
    }

    /// Everything passes; what was held goes first.
    pub fn pass(&self) {
        self.switch(Mode::Pass);
    }

    /// Every connection is reset, and every new one as soon as it is made: the server is gone.
    pub fn cut(&self) {
        self.switch(Mode::Cut);
    }

    /// What the client sends is read and kept; what the server sends passes.
    pub fn hold_to_server(&self) {
        self.switch(Mode::HoldToServer);
    }

    /// What the server sends is read and kept; what the client sends passes.
    pub fn hold_to_client(&self) {
        self.switch(Mode::HoldToClient);
    }

    /// What either side sends, its end too, is kept: a network that is down, over which the systems send again until it
    /// is back, whatever has become of the programs.
    pub fn hold(&self) {
        self.switch(Mode::Hold);
    }

    /// Established connections silently drop all traffic, and neither side is notified.
    pub fn swallow(&self) {
        self.switch(Mode::Swallow);
    }

    /// The connections that there are swallow everything for the rest of their lives, and no new one does: what is left
    /// on either side when something between them has forgotten a connection.
    pub fn strand(&self) {
        self.shared.switch.send_modify(|switch| switch.strandings += 1);
    }

    fn switch(&self, mode: Mode) {
        self.shared.switch.send_modify(|switch| {
            switch.mode = mode;
            switch.cuts += usize::from(mode == Mode::Cut);
        });
    }

    /// How many bytes are being held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.shared.held.load(Ordering::SeqCst)
    }

    /// How many connections there have been.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Waits until at least `bytes` bytes are held: the sender has said what the test wants unsaid.
    pub async fn until_held(&self, bytes: usize) -> Result<()> {
        until(&format!("the proxy holds {bytes} bytes"), async || {
            ensure!(self.held() >= bytes, "it holds {}", self.held());
            Ok(())
        })
        .await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Shared) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        connections.spawn(connect(client, server, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, from its first byte to its end.
async fn connect(mut client: TcpStream, server: SocketAddr, shared: Shared) -> io::Result<()> {
    let mut switch = shared.switch.subscribe();
    let at_first = *switch.borrow_and_update();
    if at_first.mode == Mode::Cut {
        return client.set_zero_linger();
    }
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let was_cut = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let there = Pump::new(Direction::ToServer, &shared, at_first).run(&mut from_client, &mut to_server);
        let back = Pump::new(Direction::ToClient, &shared, at_first).run(&mut from_server, &mut to_client);
        tokio::select! {
            biased;
            _ = switch.wait_for(|switch| switch.cuts > at_first.cuts) => true,
            _ = async { tokio::try_join!(there, back) } => false,
        }
    };
    if was_cut {
        // Closing now resets, instead of ending politely.
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    Ok(())
}

/// One direction of one connection.
struct Pump {
    direction: Direction,
    switch: watch::Receiver<Switch>,
    at_first: Switch,
    kept: Vec<u8>,
    held: Arc<AtomicUsize>,
}

impl Pump {
    fn new(direction: Direction, shared: &Shared, at_first: Switch) -> Self {
        let (switch, held) = (shared.switch.subscribe(), Arc::clone(&shared.held));
        Self { direction, switch, at_first, kept: Vec::new(), held }
    }

    /// Until the sender has ended. An error ends the whole connection, both ways.
    async fn run(mut self, from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if self.fate() == Fate::Passed && !self.kept.is_empty() {
                let kept = std::mem::take(&mut self.kept);
                self.held.fetch_sub(kept.len(), Ordering::SeqCst);
                to.write_all(&kept).await?;
            }
            let read = tokio::select! {
                biased;
                changed = self.switch.changed() => {
                    changed.map_err(io::Error::other)?;
                    continue;
                }
                read = from.read(&mut chunk) => read,
            };
            if self.is_stranded() && !matches!(read, Ok(1..)) {
                // One side has given up. The other side does not notice that either.
                return Ok(());
            }
            let bytes = chunk.get(..read?).unwrap_or_default();
            match self.fate() {
                Fate::Passed if bytes.is_empty() => return to.shutdown().await,
                _ if bytes.is_empty() && self.is_mode(Mode::Hold) => self.until_not_held().await?,
                _ if bytes.is_empty() => return Err(io::ErrorKind::ConnectionAborted.into()),
                Fate::Passed if self.kept.is_empty() => to.write_all(bytes).await?,
                // Behind what is kept, if the switch went back to pass while this was being read.
                Fate::Passed | Fate::Kept => self.keep(bytes),
                Fate::Lost => {}
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        self.held.fetch_add(bytes.len(), Ordering::SeqCst);
    }

    /// The sender's end waits behind what it sent.
    async fn until_not_held(&mut self) -> io::Result<()> {
        self.switch.wait_for(|switch| switch.mode != Mode::Hold).await.map(drop).map_err(io::Error::other)
    }

    fn is_mode(&self, mode: Mode) -> bool {
        self.switch.borrow().mode == mode
    }

    fn is_stranded(&self) -> bool {
        self.switch.borrow().strandings > self.at_first.strandings
    }

    fn fate(&self) -> Fate {
        let mode = self.switch.borrow().mode;
        match (mode, self.direction) {
            _ if self.is_stranded() => Fate::Lost,
            (Mode::Hold, _) | (Mode::HoldToServer, Direction::ToServer) | (Mode::HoldToClient, Direction::ToClient) => {
                Fate::Kept
            }
            (Mode::Swallow | Mode::Cut, _) => Fate::Lost,
            (Mode::Pass | Mode::HoldToServer | Mode::HoldToClient, _) => Fate::Passed,
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.held.fetch_sub(self.kept.len(), Ordering::SeqCst);
    }
}

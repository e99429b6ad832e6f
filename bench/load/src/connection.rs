//! The sockets of clients: small, and quick where many frames come.

use std::{
    cell::{Cell, RefCell},
    io,
    net::Shutdown,
    rc::Rc,
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{
    Common,
    client::Client,
    view::USER,
    wire::{self, CLOSE, DEFLATED_TEXT, PING, PONG, TEXT},
    world::{World, add},
};

/// How often each client says that it is there; servers close silent ones after a minute.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// The bytes of one read: the more at once, the fewer calls.
const READ: usize = 512 * 1024;
/// The receive buffer of a client that will stop reading: the kernel would go on reading for it, by the megabyte. It is
/// set before the connection begins, as a buffer that shrinks later leaves TCP with a window of a few kilobytes.
const MODEST_READ: u32 = 128 * 1024;

thread_local! { static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]); }

// The key of RFC 6455's example and the answer to it, which needs no SHA-1 here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) struct Connection {
    socket: OwnedWriteHalf,
    unsent: RefCell<Vec<u8>>,
    /// Whether its end is this side's wish.
    pub(crate) ending: Cell<bool>,
    closed: Cell<bool>,
    paused: Cell<bool>,
    resumed: Notify,
}

impl Connection {
    /// Connects as a user, and upgrades. Of a modest client the kernel reads little ahead.
    pub(crate) async fn open(
        common: &Common,
        user: u32,
        modest: bool,
    ) -> io::Result<(Rc<Self>, OwnedReadHalf, Vec<u8>)> {
        let socket = if common.addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if modest {
            socket.set_recv_buffer_size(MODEST_READ)?;
        }
        let mut stream = socket.connect(common.addr).await?;
        stream.set_nodelay(true)?;
        let Common { addr, path, .. } = common;
        let offer = if common.compress { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        let request = format!(
            "GET {path}?user_id={USER}{user}&vsn=2.0.0 HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::with_capacity(512);
        let end = loop {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]);
        if !head.starts_with("HTTP/1.1 101") || !head.contains(ACCEPT) {
            return Err(io::Error::other(format!("refused: {}", head.lines().next().unwrap_or_default())));
        }
        let rest = bytes.split_off(end);
        let (reader, socket) = stream.into_split();
        let connection = Self {
            socket,
            unsent: RefCell::default(),
            ending: Cell::default(),
            closed: Cell::default(),
            paused: Cell::default(),
            resumed: Notify::new(),
        };
        Ok((Rc::new(connection), reader, rest))
    }

    pub(crate) fn send(self: &Rc<Self>, text: &str) {
        let mut frame = Vec::with_capacity(text.len() + 14);
        wire::write_masked(&mut frame, TEXT, text.as_bytes());
        self.send_frames(&frame);
    }

    /// Writes what the kernel takes at once, and the rest when it can.
    pub(crate) fn send_frames(self: &Rc<Self>, frames: &[u8]) {
        let mut unsent = self.unsent.borrow_mut();
        let sent = if unsent.is_empty() { self.socket.try_write(frames).unwrap_or(0) } else { 0 };
        if sent == frames.len() {
            return;
        }
        if unsent.is_empty() {
            let this = self.clone();
            tokio::task::spawn_local(async move { this.flush().await });
        }
        unsent.extend_from_slice(&frames[sent..]);
    }

    async fn flush(&self) {
        // On an error, nothing is to be sent any more; the reader sees the end.
        while !self.unsent.borrow().is_empty() && self.socket.writable().await.is_ok() {
            let mut unsent = self.unsent.borrow_mut();
            match self.socket.try_write(&unsent) {
                Ok(sent) => drop(unsent.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// The end of a tab that vanishes: no close frame.
    pub(crate) fn vanish(&self) {
        self.ending.set(true);
        // It fails where the server was faster.
        let _ = SockRef::from(self.socket.as_ref()).shutdown(Shutdown::Both);
    }

    pub(crate) fn close(self: &Rc<Self>) {
        self.ending.set(true);
        let mut frame = Vec::new();
        wire::write_masked(&mut frame, CLOSE, &1000_u16.to_be_bytes());
        self.send_frames(&frame);
    }

    /// Reads nothing any more, as a client on a bad line.
    pub(crate) fn pause(&self) {
        self.paused.set(true);
    }

    pub(crate) fn resume(&self) {
        self.paused.set(false);
        self.resumed.notify_one();
    }
}

/// Hands a client what its server sends, until the end.
pub(crate) async fn read(
    world: Rc<World>,
    connection: Rc<Connection>,
    reader: OwnedReadHalf,
    mut rest: Vec<u8>,
    client: Rc<Client>,
) {
    if !rest.is_empty() {
        let taken = take(&world, &connection, &client, &rest);
        rest.drain(..taken);
    }
    loop {
        while connection.paused.get() {
            connection.resumed.notified().await;
        }
        if reader.readable().await.is_err() {
            break;
        }
        if connection.paused.get() {
            continue;
        }
        let read = BUFFER.with_borrow_mut(|buffer| {
            let read = reader.try_read(buffer)?;
            let bytes = &buffer[..read];
            add(&world.bytes, read as u64);
            if rest.is_empty() {
                let taken = take(&world, &connection, &client, bytes);
                rest.extend_from_slice(&bytes[taken..]);
            } else {
                rest.extend_from_slice(bytes);
                let taken = take(&world, &connection, &client, &rest);
                rest.drain(..taken);
                if rest.is_empty() {
                    // A large state has passed: 9,000 clients can't keep room for another.
                    rest = Vec::new();
                }
            }
            Ok::<_, io::Error>(read)
        });
        match read {
            Ok(0) => break,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
            _ => {}
        }
    }
    connection.closed.set(true);
    if !connection.ending.get() {
        world.error("the server closed a connection");
    }
}

/// Handles the whole frames among the bytes; how many bytes they are.
fn take(world: &World, connection: &Rc<Connection>, client: &Client, bytes: &[u8]) -> usize {
    let now = world.now();
    let mut out = Vec::new();
    let mut taken = 0;
    loop {
        taken += client.take_shouts(world, now, &bytes[taken..]);
        match wire::read(&bytes[taken..]) {
            Ok(None) => break,
            Ok(Some((opcode, payload, length))) => {
                taken += length;
                match opcode {
                    TEXT => {
                        add(&world.frames, 1);
                        match std::str::from_utf8(payload) {
                            Ok(text) => client.handle(world, now, text, &mut out),
                            Err(_) => world.error("a text frame that is no UTF-8"),
                        }
                    }
                    DEFLATED_TEXT => {
                        let mut inflated = world.inflated.borrow_mut();
                        let Some((frame, text)) = inflated.text(payload) else {
                            world.error("a compressed text that is no text");
                            continue;
                        };
                        if client.take_shouts(world, now, frame) == 0 {
                            add(&world.frames, 1);
                            client.handle(world, now, text, &mut out);
                        }
                    }
                    PING => wire::write_masked(&mut out, PONG, payload),
                    CLOSE | PONG => {}
                    _ => world.error(format!("opcode {opcode}")),
                }
            }
            Err(error) => {
                world.error(error);
                return bytes.len();
            }
        }
    }
    if !out.is_empty() {
        connection.send_frames(&out);
    }
    taken
}

/// Sends the heartbeats of all connections, spread over their time.
pub(crate) fn heartbeats(world: &Rc<World>) -> JoinHandle<()> {
    let world = world.clone();
    tokio::task::spawn_local(async move {
        loop {
            let connections = {
                let mut connections = world.connections.borrow_mut();
                connections.retain(|connection| connection.strong_count() > 0);
                connections.clone()
            };
            let gap = HEARTBEAT / connections.len().max(25) as u32;
            // By the clock: where the clients are busy each sleep is longer than it should be, and a silent connection
            // is closed.
            let mut due = Instant::now();
            for connection in connections {
                due += gap;
                sleep_until(due).await;
                if let Some(connection) = connection.upgrade()
                    && !connection.ending.get()
                    && !connection.closed.get()
                {
                    connection.send(r#"[null,"h","phoenix","heartbeat",{}]"#);
                }
            }
            sleep_until(due + gap).await;
        }
    })
}

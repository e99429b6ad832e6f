//! The client's half of `permessage-deflate`, for tests.

use std::sync::Arc;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use parking_lot::Mutex;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split,
};

use crate::frames::{frame, read_frame, unmasked};

/// Marks the first frame of a compressed message.
pub(crate) const RSV1: u8 = 0x40;
/// The end of a message, which its sender leaves out.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// An inflater that is kept between messages, as browsers do whatever was agreed on, or reset.
pub(crate) struct Inflater {
    state: Decompress,
    is_kept: bool,
    /// The messages that were compressed, as they arrived.
    seen: Option<Seen>,
}

pub(crate) type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

impl Inflater {
    pub(crate) fn new(is_kept: bool) -> Self {
        Self { state: Decompress::new(false), is_kept, seen: None }
    }

    /// Keeps the messages that it inflates.
    #[allow(dead_code, reason = "only some tests look at them")]
    pub(crate) fn noting(mut self, seen: &Seen) -> Self {
        self.seen = Some(seen.clone());
        self
    }

    pub(crate) fn inflate(&mut self, message: &[u8]) -> Vec<u8> {
        if let Some(seen) = &self.seen {
            seen.lock().push(message.to_vec());
        }
        let input = [message, &TAIL].concat();
        let (mut out, mut used) = (Vec::new(), 0);
        loop {
            out.reserve(input.len() + 1024);
            let before = self.state.total_in();
            let status = self.state.decompress_vec(&input[used..], &mut out, FlushDecompress::Sync);
            assert_ne!(
                status.expect("it can be inflated"),
                flate2::Status::StreamEnd,
                "no block is the last"
            );
            used += (self.state.total_in() - before) as usize;
            if used == input.len() && out.len() < out.capacity() {
                break;
            }
        }
        if !self.is_kept {
            self.state.reset(false);
        }
        out
    }
}

/// The payload of a compressed message.
pub(crate) fn deflate(message: impl AsRef<[u8]>) -> Vec<u8> {
    let message = message.as_ref();
    let mut out = Vec::with_capacity(message.len() + message.len() / 8 + 64);
    let mut compress = Compress::new(Compression::default(), false);
    compress.compress_vec(message, &mut out, FlushCompress::Sync).expect("it can be compressed");
    assert_eq!(compress.total_in(), message.len() as u64);
    out.truncate(out.len() - TAIL.len());
    out
}

/// Random letters, which compression makes only a quarter smaller.
pub(crate) fn noise(len: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut noise = vec![0; len];
    getrandom::fill(&mut noise).unwrap();
    noise.iter().map(|byte| char::from(LETTERS[usize::from(byte % 64)])).collect()
}

/// Wraps a stream to the server for a client that knows nothing of compression: all messages between are compressed.
pub(crate) fn translate<S: AsyncRead + AsyncWrite + Send + 'static>(
    server: S,
    inflater: Inflater,
) -> DuplexStream {
    let (client, ours) = duplex(64 * 1024);
    let ((from_server, to_server), (from_client, to_client)) = (split(server), split(ours));
    tokio::spawn(up(from_client, to_server));
    tokio::spawn(down(from_server, to_client, inflater));
    client
}

async fn up(mut client: ReadHalf<DuplexStream>, mut server: WriteHalf<impl AsyncWrite>) -> Option<()> {
    let mut head = read_head(&mut client).await?;
    head.truncate(head.len() - 2);
    head.push_str("sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n");
    server.write_all(head.as_bytes()).await.ok()?;
    loop {
        let sent = match read_frame(&mut client, true).await {
            Some((first, payload)) if first & 0x0f <= 2 => {
                // A text or binary message; tungstenite sends no fragments.
                frame(first | RSV1, deflate(payload))
            }
            Some((first, payload)) => frame(first, payload),
            None => {
                let _ = server.shutdown().await;
                return None;
            }
        };
        server.write_all(&sent).await.ok()?;
    }
}

async fn down(
    mut server: ReadHalf<impl AsyncRead>,
    mut client: WriteHalf<DuplexStream>,
    mut inflater: Inflater,
) -> Option<()> {
    let head = read_head(&mut server).await?;
    let lines = head.split_inclusive("\r\n").filter(|line| !line.starts_with("sec-websocket-extensions"));
    client.write_all(lines.collect::<String>().as_bytes()).await.ok()?;
    while let Some((first, mut payload)) = read_frame(&mut server, false).await {
        if first & RSV1 != 0 {
            payload = inflater.inflate(&payload);
        }
        client.write_all(&unmasked(first & !RSV1, &payload)).await.ok()?;
    }
    client.shutdown().await.ok()
}

/// The head of a request or a response, with the empty line after it.
async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?.into());
    }
    Some(head)
}

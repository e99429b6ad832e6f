//! An attacker on the engine who records all messages and can replay them.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;

use crate::server::Kind;

/// A message as the engine carried it.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) subject: String,
    pub(crate) bytes: Vec<u8>,
}

/// Listens until it is dropped.
pub(crate) struct Spy {
    kind: Kind,
    port: u16,
    listening: TcpStream,
    recorded: Arc<Mutex<Vec<Recorded>>>,
}

impl Spy {
    pub(crate) fn start(kind: Kind, port: u16) -> Self {
        let mut listening = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut reader = BufReader::new(listening.try_clone().unwrap());
        let recorded = Arc::<Mutex<Vec<Recorded>>>::default();
        match kind {
            Kind::Nats => {
                listening.write_all(b"CONNECT {\"verbose\":false}\r\nSUB > 1\r\nPING\r\n").unwrap();
                while line(&mut reader).is_some_and(|line| line != "PONG") {}
            }
            Kind::Redis => {
                listening.write_all(b"PSUBSCRIBE *\r\n").unwrap();
                // An array of three: the kind, the pattern, and the number of patterns.
                while line(&mut reader).is_some_and(|line| line != ":1") {}
            }
        }
        let (mut pong, record) = (listening.try_clone().unwrap(), recorded.clone());
        thread::spawn(move || {
            while let Some(message) = match kind {
                Kind::Nats => nats_message(&mut reader, &mut pong),
                Kind::Redis => redis_message(&mut reader),
            } {
                record.lock().push(message);
            }
        });
        Self { kind, port, listening, recorded }
    }

    /// The messages so far.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        self.recorded.lock().clone()
    }

    /// Replays these messages, and returns once the engine has them.
    pub(crate) fn replay<'r>(&self, messages: impl IntoIterator<Item = &'r Recorded>) {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = std::io::BufWriter::new(stream);
        if self.kind == Kind::Nats {
            writer.write_all(b"CONNECT {\"verbose\":false}\r\n").unwrap();
        }
        let mut count = 0;
        for Recorded { subject, bytes } in messages {
            count += 1;
            match self.kind {
                Kind::Nats => write!(writer, "PUB {subject} {}\r\n", bytes.len()).unwrap(),
                Kind::Redis => {
                    write!(writer, "*3\r\n$7\r\nPUBLISH\r\n${}\r\n{subject}\r\n", subject.len()).unwrap();
                    write!(writer, "${}\r\n", bytes.len()).unwrap();
                }
            }
            writer.write_all(bytes).unwrap();
            writer.write_all(b"\r\n").unwrap();
        }
        match self.kind {
            Kind::Nats => {
                writer.write_all(b"PING\r\n").unwrap();
                writer.flush().unwrap();
                while line(&mut reader).unwrap() != "PONG" {}
            }
            Kind::Redis => {
                writer.flush().unwrap();
                for _ in 0..count {
                    assert!(line(&mut reader).unwrap().starts_with(':'));
                }
            }
        }
    }
}

impl Drop for Spy {
    fn drop(&mut self) {
        let _ = self.listening.shutdown(std::net::Shutdown::Both);
    }
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let read = reader.read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}

fn bytes(reader: &mut impl Read, len: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len.parse::<usize>().ok()? + 2];
    reader.read_exact(&mut bytes).ok()?;
    bytes.truncate(bytes.len() - 2);
    Some(bytes)
}

fn nats_message(reader: &mut impl BufRead, pong: &mut TcpStream) -> Option<Recorded> {
    loop {
        let line = line(reader)?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["MSG", subject, .., len] => {
                return Some(Recorded { subject: subject.to_owned(), bytes: bytes(reader, len)? });
            }
            ["PING"] => pong.write_all(b"PONG\r\n").ok()?,
            _ => {}
        }
    }
}

/// `*4`, then the kind, the pattern, the channel and the message, each after its length.
fn redis_message(reader: &mut impl BufRead) -> Option<Recorded> {
    line(reader)?;
    let mut parts = Vec::new();
    for _ in 0..4 {
        let len = line(reader)?;
        parts.push(bytes(reader, len.strip_prefix('$')?)?);
    }
    let bytes = parts.pop()?;
    Some(Recorded { subject: String::from_utf8(parts.pop()?).ok()?, bytes })
}

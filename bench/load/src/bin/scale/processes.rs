//! The processes of a scenario.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{Failure, node, process, wait_for};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(30);

/// A node, which ends with this value.
pub(crate) struct Node {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Node {
    /// Starts a node, which is ready once its first [answer](Self::answer) comes.
    pub(crate) fn start(args: &[String]) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("node").args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Ok(Self { child, stdin, stdout })
    }

    /// Tells it something, without waiting for the answer.
    pub(crate) fn tell(&mut self, command: &node::Command) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        Ok(self.stdin.write_all(&line)?)
    }

    pub(crate) fn answer(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(serde_json::from_str(&line).map_err(|error| format!("a node said {line:?}: {error}"))?)
    }

    pub(crate) fn ask(&mut self, command: &node::Command) -> Result<Value, Failure> {
        self.tell(command)?;
        self.answer()
    }

    /// Seconds of CPU time.
    pub(crate) fn cpu(&self) -> f64 {
        process::cpu(self.child.id())
    }

    pub(crate) fn memory_mb(&self) -> u64 {
        process::memory(self.child.id()) / 1024
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A NATS server, which ends with this value.
pub(crate) struct Nats {
    child: Child,
    pub(crate) url: String,
    monitor: String,
}

/// The messages and bytes that NATS has counted.
#[derive(Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl Nats {
    pub(crate) fn start(program: &Path) -> Result<Self, Failure> {
        let free = || -> Result<u16, Failure> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()) };
        let (port, monitor) = (free()?, free()?);
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-m", &monitor.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let nats =
            Self { child, url: format!("nats://127.0.0.1:{port}"), monitor: format!("127.0.0.1:{monitor}") };
        let address = format!("127.0.0.1:{port}");
        wait_for("nats-server listens", START, || Ok(TcpStream::connect(&address).is_ok()))?;
        Ok(nats)
    }

    pub(crate) fn cpu(&self) -> f64 {
        process::cpu(self.child.id())
    }

    pub(crate) fn traffic(&self) -> Result<Traffic, Failure> {
        let mut stream = TcpStream::connect(&self.monitor)?;
        stream.write_all(b"GET /varz HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("nats-server says nothing about itself")?;
        let counts: Value = serde_json::from_str(body)?;
        let count = |name: &str| counts[name].as_u64().unwrap_or_default();
        Ok(Traffic {
            messages_in: count("in_msgs"),
            messages_out: count("out_msgs"),
            bytes_in: count("in_bytes"),
            bytes_out: count("out_bytes"),
        })
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

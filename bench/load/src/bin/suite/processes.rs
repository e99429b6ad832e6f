//! The processes of a run, each on its own core if there are two.

use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";
/// The second is the load's, too.
const TWO_CORES: &str = "0,1";
/// How long a server may take to listen.
const START: Duration = Duration::from_secs(30);

/// How many worker threads a server has.
#[derive(Clone, Copy)]
pub(crate) enum Workers {
    One,
    Two,
}

/// A process that ends with this value.
pub(crate) struct Running {
    child: Child,
    pub(crate) addr: String,
}

impl Running {
    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Starts a server that says `listening on`. It has a worker for each of its cores.
    pub(crate) fn server(program: &Path, workers: Workers, args: &[&str]) -> Result<Self, Box<dyn Error>> {
        let cores = match workers {
            Workers::One => SERVER_CORE,
            Workers::Two => TWO_CORES,
        };
        let mut command = pinned(program, cores);
        command.args(args).args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let stdout = child.stdout.take().expect("it is piped");
        let mut running = Self { child, addr: String::new() };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let addr = line.trim().strip_prefix("listening on ").ok_or("a server didn't start")?;
        addr.clone_into(&mut running.addr);
        Ok(running)
    }

    /// Starts a NATS server on a free port.
    pub(crate) fn nats(program: &Path) -> Result<Self, Box<dyn Error>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", &port]).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let running = Self { child, addr: format!("127.0.0.1:{port}") };
        let end = Instant::now() + START;
        while std::net::TcpStream::connect(&running.addr).is_err() {
            if Instant::now() > end {
                return Err("nats-server didn't start".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already: one scenario kills its server.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A recording of processes by `perf`, until it is told to finish.
pub(crate) struct Recording(Child);

impl Recording {
    /// Processes are named by their numbers, with commas between. By the clock of the CPU: virtual machines have no
    /// better. Stacks by the tables for exceptions, since glibc has no frame pointers; they are that deep where a
    /// read has its buffer on them.
    pub(crate) fn start(file: &Path, pids: &str) -> Result<Self, Box<dyn Error>> {
        let _ = fs::remove_file(file);
        let mut command = Command::new("perf");
        command.args(["record", "--event", "cpu-clock", "--freq", "3000", "--mmap-pages", "16M"]);
        command.args(["--call-graph", "dwarf,24576", "--pid", pids]);
        command.arg("--output").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("perf: {error}"))?;
        // It writes what the processes have mapped when it watches them.
        while fs::metadata(file).map_or(0, |file| file.len()) == 0 {
            if child.try_wait()?.is_some() {
                return Err("perf can't record; /proc/sys/kernel/perf_event_paranoid must allow it".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Self(child))
    }

    pub(crate) fn finish(mut self) -> Result<(), Box<dyn Error>> {
        // A signal needs unsafe code, which is forbidden here, so a program sends it.
        Command::new("kill").args(["-s", "INT", &self.0.id().to_string()]).status()?;
        self.0.wait()?;
        Ok(())
    }
}

/// Runs a program that prints its result, on a core of its own: the last line of its output.
pub(crate) fn output(program: &Path, is_server: bool, args: &[&str]) -> Result<String, Box<dyn Error>> {
    let core = if is_server { SERVER_CORE } else { LOAD_CORE };
    let output = pinned(program, core).args(args).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().last().ok_or_else(|| format!("{} said nothing", program.display()))?.to_owned())
}

fn pinned(program: &Path, cores: &str) -> Command {
    if thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", cores]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

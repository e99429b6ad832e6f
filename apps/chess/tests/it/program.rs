use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::timeout,
};

/// Far longer than anything here takes: a test that gets there has failed.
const DEADLINE: Duration = Duration::from_mins(1);

fn chess(port: &str, database: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_chess"))
        .env("PORT", port)
        .env("DATABASE_URL", database)
        .env_remove("SECRET")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn fails_with(program: Child) -> String {
    let output = timeout(DEADLINE, program.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[cfg(unix)]
#[tokio::test]
async fn it_says_where_it_is_and_stops_when_told() {
    let mut program = chess("0", "sqlite::memory:");
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let port = line.strip_prefix("chess is on http://localhost:").unwrap().to_owned();

    // A connection without a request, as browsers open them ahead of need.
    let idle = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    let pid = program.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let status = timeout(DEADLINE, program.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    drop(idle);
}

#[tokio::test]
async fn what_keeps_it_from_starting_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = fails_with(chess(&port, "sqlite::memory:")).await;
    assert!(said.contains(&port) && said.contains("PORT="), "{said}");

    let said = fails_with(chess("0", "/no/such/folder/chess.db")).await;
    assert!(said.contains("/no/such/folder/chess.db") && said.contains("DATABASE_URL"), "{said}");
}

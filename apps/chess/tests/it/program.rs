use std::process::Stdio;

use serde_json::{Value, json};
use sqlx::Connection;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    client::{Client, DEADLINE, eventually},
    db::TempFile,
    postgres::on_both,
};

fn chess(port: &str, database: &str) -> Child {
    run(&mut Command::new(env!("CARGO_BIN_EXE_chess")), port, database)
}

fn run(command: &mut Command, port: &str, database: &str) -> Child {
    command
        .env("PORT", port)
        .env("DATABASE_URL", database)
        .env("MAX_NAMES", "0")
        .env_remove("SECRET")
        .env_remove("ORIGIN")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Asks a program that runs on a port for something; the status and the whole answer.
async fn ask(port: &str, method: &str, path: &str, cookie: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\nCookie: {cookie}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    (answer["HTTP/1.1 ".len()..][..3].parse().unwrap(), answer)
}

/// The port that a program says it listens on.
async fn port_of(program: &mut Child) -> String {
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
    line.strip_prefix("chess is on http://localhost:").unwrap().to_owned()
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
    let port = port_of(&mut program).await;

    // A connection without a request, as browsers open them ahead of need.
    let idle = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    let pid = program.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let status = timeout(DEADLINE, program.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    drop(idle);
}

/// A page elsewhere whose name has been made to point at this machine (DNS rebinding).
#[tokio::test]
async fn only_names_of_this_machine_get_a_socket() {
    let mut program = chess("0", "sqlite::memory:");
    let port = port_of(&mut program).await;
    let (status, answer) = ask(&port, "POST", "/session", "", &json!({ "name": "Anna" }).to_string()).await;
    assert_eq!(status, 201, "{answer}");
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let cookie = cookie.split(';').next().unwrap();

    for (host, status) in [("localhost", "101"), ("127.0.0.1", "101"), ("rebound.example", "403")] {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
        let request = format!(
            "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: http://{host}:{port}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nCookie: {cookie}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut line = [0; "HTTP/1.1 101".len()];
        timeout(DEADLINE, stream.read_exact(&mut line)).await.unwrap().unwrap();
        assert_eq!(std::str::from_utf8(&line[9..]).unwrap(), status, "{host}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn without_file_descriptors_it_waits_says_so_and_goes_on() {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 48; exec \"$0\"", env!("CARGO_BIN_EXE_chess")]);
    let mut program = run(&mut limited, "0", "sqlite::memory:");
    let mut log = BufReader::new(program.stderr.take().unwrap()).lines();
    let port = port_of(&mut program).await;

    let mut idle = Vec::new();
    for _ in 0..60 {
        idle.push(TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap());
    }
    let said = timeout(DEADLINE, log.next_line()).await.unwrap().unwrap().unwrap();
    assert!(said.contains("can't accept connections") && said.contains("ulimit -n"), "{said}");

    drop(idle);
    assert_eq!(ask(&port, "GET", "/me", "", "").await.0, 200);
}

#[tokio::test]
async fn an_error_at_the_start_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = fails_with(chess(&port, "sqlite::memory:")).await;
    assert!(said.contains(&port) && said.contains("PORT="), "{said}");

    let below_a_path = Command::new(env!("CARGO_BIN_EXE_chess"))
        .args(["--port", "0", "--origin", "https://example.com/chess"])
        .env("DATABASE_URL", "postgres://ann:hunter2@localhost/chess")
        .output();
    let said = String::from_utf8(timeout(DEADLINE, below_a_path).await.unwrap().unwrap().stderr).unwrap();
    assert!(said.contains("not below a path"), "{said}");
    let help = Command::new(env!("CARGO_BIN_EXE_chess"))
        .arg("--help")
        .env("DATABASE_URL", "postgres://ann:hunter2@localhost/chess")
        .output();
    let said = String::from_utf8(timeout(DEADLINE, help).await.unwrap().unwrap().stdout).unwrap();
    assert!(said.contains("--origin") && !said.contains("hunter2"), "{said}");

    let said = fails_with(chess("0", "/no/such/folder/chess.db")).await;
    assert!(said.contains("/no/such/folder/chess.db") && said.contains("DATABASE_URL"), "{said}");
}

/// The database can't grow beyond a size, as on a full disk. Whoever was told to have a name has it afterwards.
#[cfg(unix)]
#[tokio::test]
async fn a_new_session_is_stored_when_the_disk_is_full_too() {
    let file = TempFile::new("full");
    let mut program = chess("0", &file.url());
    let _ = port_of(&mut program).await;
    program.kill().await.unwrap();

    // The log of the database, beside its file, takes some twenty names. A write beyond the limit is an error of the
    // commit, where the signal that comes with it is ignored.
    let limited = format!("trap '' XFSZ; ulimit -f 200; exec {}", env!("CARGO_BIN_EXE_chess"));
    let mut command = Command::new("bash");
    command.args(["-c", &limited]).env("PORT", "0").env("DATABASE_URL", file.url()).env("MAX_NAMES", "0");
    let mut program =
        command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let port = port_of(&mut program).await;
    let mut let_in = Vec::new();
    let mut refused = 0;
    for n in 0..60 {
        let name = format!("Player {n}");
        let (status, answer) = ask(&port, "POST", "/session", "", &json!({ "name": name }).to_string()).await;
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        match (status, cookie) {
            (201, Some(cookie)) => let_in.push((name, cookie.split(';').next().unwrap().to_owned())),
            (500, None) => refused += 1,
            other => panic!("{other:?} {answer}"),
        }
    }
    assert!(!let_in.is_empty() && refused > 0, "{} were let in, {refused} refused", let_in.len());
    program.kill().await.unwrap();

    // There is room again, and new people come.
    let mut program = chess("0", &file.url());
    let port = port_of(&mut program).await;
    for n in 0..60 {
        ask(&port, "POST", "/session", "", &json!({ "name": format!("Later {n}") }).to_string()).await;
    }
    for (name, cookie) in let_in {
        let (_, answer) = ask(&port, "GET", "/me", &cookie, "").await;
        let me: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(me["user"]["name"], name, "a cookie stays its owner's");
    }
}

/// Two people at a program, the game that they have begun, and their cookies.
async fn begin_game(port: &str) -> (String, String, String) {
    let mut people = Vec::new();
    for name in ["Anna", "Ben"] {
        let (_, answer) = ask(port, "POST", "/session", "", &json!({ "name": name }).to_string()).await;
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let user: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let id = user["user"]["id"].as_str().unwrap().to_owned();
        let mut tab = Client::connect(&format!("127.0.0.1:{port}"), &cookie).await;
        tab.enter("lobby").await;
        tab.join(&format!("user:{id}"), json!({})).await.unwrap();
        people.push((id, cookie, tab));
    }
    let (ben, mut ben_tab, ben_cookie) = people.pop().map(|(id, cookie, tab)| (id, tab, cookie)).unwrap();
    let (anna, anna_cookie, mut tab) = people.pop().unwrap();
    let terms = json!({ "to": ben, "color": "white", "initial_ms": 600_000, "increment_ms": 0 });
    let invite = tab.push(&format!("user:{anna}"), "invite", terms).await.unwrap();
    let accept = json!({ "id": invite["id"] });
    let game = ben_tab.push(&format!("user:{ben}"), "accept", accept).await.unwrap();
    (format!("game:{}", game["game"].as_str().unwrap()), anna_cookie, ben_cookie)
}

async fn join_game(port: &str, cookie: &str, game: &str) -> (Client, Value) {
    let mut tab = Client::connect(&format!("127.0.0.1:{port}"), cookie).await;
    let joined = tab.enter(game).await;
    (tab, joined["game"].clone())
}

#[tokio::test]
async fn a_move_that_was_answered_survives_kill_9() {
    on_both("kill", async |url| {
        let mut program = chess("0", &url);
        let port = port_of(&mut program).await;
        let (game, anna, ben) = begin_game(&port).await;
        let (mut white, _) = join_game(&port, &anna, &game).await;
        let (mut black, _) = join_game(&port, &ben, &game).await;
        for (ply, text) in ["e4", "e5", "Nf3", "Nc6", "Bb5"].into_iter().enumerate() {
            let player = if ply % 2 == 0 { &mut white } else { &mut black };
            player.push(&game, "move", json!({ "ply": ply, "move": text })).await.unwrap();
        }
        program.kill().await.unwrap();

        let mut program = chess("0", &url);
        let port = port_of(&mut program).await;
        let (mut black, state) = join_game(&port, &ben, &game).await;
        let played: Vec<&str> =
            state["moves"].as_array().unwrap().iter().map(|played| played["san"].as_str().unwrap()).collect();
        assert_eq!(played, ["e4", "e5", "Nf3", "Nc6", "Bb5"]);
        assert_eq!(state["turn"], "black");
        black.push(&game, "move", json!({ "ply": 5, "move": "a6" })).await.unwrap();
    })
    .await;
}

/// The client hears no answer, and sends its move again.
#[tokio::test]
async fn a_move_whose_answer_was_lost_is_played_once() {
    on_both("no-answer", async |url| {
        let mut program = chess("0", &url);
        let port = port_of(&mut program).await;
        let (game, anna, _) = begin_game(&port).await;
        let (mut white, _) = join_game(&port, &anna, &game).await;
        white.send(&game, "move", json!({ "ply": 0, "move": "e2e4" })).await;
        stored_moves(&url, 1).await;
        program.kill().await.unwrap();

        let mut program = chess("0", &url);
        let port = port_of(&mut program).await;
        let (mut white, state) = join_game(&port, &anna, &game).await;
        // The move, and the pause after it.
        assert_eq!((&state["ply"], &state["version"]), (&json!(1), &json!(3)));
        assert!(state["paused_ms"].as_u64().unwrap() > 0, "{state}");
        let again = white.push(&game, "move", json!({ "ply": 0, "move": "e2e4" })).await.unwrap();
        assert_eq!(again, json!({ "version": 3, "ply": 0, "uci": "e2e4" }));
        let state = white.push(&game, "sync", json!({})).await.unwrap();
        assert_eq!(state["game"]["moves"].as_array().unwrap().len(), 1);
    })
    .await;
}

/// Waits until so many moves are in a database.
async fn stored_moves(url: &str, wanted: i64) {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(url).await.unwrap();
    eventually(async || {
        let count = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM moves").fetch_one(&mut connection);
        count.await.unwrap() == wanted
    })
    .await;
}

//! A `PostgreSQL` server of these tests' own, and what is tested on both databases.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use chess::Db;
use sqlx::{Connection, PgConnection};

use crate::{client::DEADLINE, db::TempFile};

/// Runs a test on an `SQLite` file, and on `PostgreSQL`.
pub(crate) async fn on_both<F: AsyncFn(String)>(name: &str, test: F) {
    let file = TempFile::new(name);
    test(file.url()).await;
    test(database().await).await;
}

/// The address of a new database.
pub(crate) async fn database() -> String {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(Server::start)).await.unwrap();
    let mut admin = server.connect().await;
    let name = format!("chess_{}", rand_name());
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    format!("{}/{name}", server.address)
}

fn rand_name() -> String {
    chess::UserId::random().to_string()
}

/// A server, whose data are gone with this process.
struct Server {
    address: String,
    /// Ends when its standard input does, which is when this process does.
    _process: Child,
}

impl Server {
    fn start() -> Self {
        let bin = bin().expect("PostgreSQL is installed (Debian's package postgresql)");
        let folder = std::env::temp_dir().join(format!("chess-test-postgres-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // Neither runs as root.
        let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        if is_root {
            let owned = Command::new("chown").arg("postgres").arg(&folder).status().unwrap();
            assert!(owned.success());
        }
        let as_user = if is_root { "runuser -u postgres -- " } else { "" };
        let (data, bin) = (folder.join("data"), bin.display().to_string());
        let script = format!(
            "cd / && {as_user}{bin}/initdb --no-sync --auth=trust --username=postgres --pgdata={data} >/dev/null || exit 1\n\
             {as_user}{bin}/postgres -D {data} -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
             -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200 >{folder}/log 2>&1 &\n\
             cat >/dev/null; kill $!; wait; rm -rf {folder}",
            data = data.display(),
            folder = folder.display(),
        );
        let process = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        Self { address: format!("postgres://postgres@127.0.0.1:{port}"), _process: process }
    }

    async fn connect(&self) -> PgConnection {
        let began = tokio::time::Instant::now();
        loop {
            match PgConnection::connect(&format!("{}/postgres", self.address)).await {
                Ok(connection) => return connection,
                // It is starting yet.
                Err(_) if began.elapsed() < DEADLINE => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// The folder of the newest version, from Debian or elsewhere.
fn bin() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    versions.sort();
    versions
        .pop()
        .or_else(|| Some(Path::new("/usr/bin").to_owned()).filter(|bin| bin.join("initdb").is_file()))
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let address = database().await;
    let mut other = PgConnection::connect(&address).await.unwrap();
    sqlx::query("CREATE TABLE songs (title TEXT)").execute(&mut other).await.unwrap();
    let error = Db::open(&address, 2).await.unwrap_err();
    assert!(matches!(error, chess::OpenError::Foreign(_)), "{error}");
    let tables: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'public'")
            .fetch_one(&mut other)
            .await
            .unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_says_so_without_the_password() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = Db::open(&format!("postgres://ann:hunter2@127.0.0.1:{free}/chess"), 2).await.unwrap_err();
    let said = format!("{error} {error:?}");
    assert!(said.contains(&format!("127.0.0.1:{free}/chess")) && said.contains("DATABASE_URL"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

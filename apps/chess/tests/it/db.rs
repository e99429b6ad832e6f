use chess::{CreateError, Db, Hall, Name, OpenError, UserId};
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

use crate::{postgres::on_both, statements::Statements};

async fn memory() -> Db {
    Db::open("sqlite::memory:", 1).await.unwrap()
}

/// A database file that goes with the test.
pub(crate) struct TempFile(std::path::PathBuf);

impl TempFile {
    pub(crate) fn new(test: &str) -> Self {
        Self(std::env::temp_dir().join(format!("chess-test-{test}-{}.db", std::process::id())))
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm"] {
            drop(std::fs::remove_file(format!("{}{end}", self.0.display())));
        }
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[tokio::test]
async fn a_name_is_given_once() {
    on_both("names", async |url| {
        let db = Db::open(&url, 4).await.unwrap();
        let anna = db.create_user(&name("Anna")).await.unwrap();
        assert_eq!(anna.name, "Anna");
        assert_eq!(db.user(anna.id).await.unwrap(), Some(anna));
        for same in ["Anna", "ANNA", " anna ", "Ａnna", "Αnnа"] {
            assert!(matches!(db.create_user(&name(same)).await, Err(CreateError::Taken)), "{same}");
        }
        db.create_user(&name("Anne")).await.unwrap();
        // In Greek capitals, of which the small letters look otherwise.
        assert!(matches!(db.create_user(&name("ΑΝΝΑ")).await, Err(CreateError::Taken)));
        db.close().await;
    })
    .await;
}

/// In memory, and where several connections write at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_ask_at_once_one_gets_the_name() {
    one_gets_the_name(memory().await).await;
    on_both("race", async |url| {
        let db = Db::open(&url, 4).await.unwrap();
        one_gets_the_name(db.clone()).await;
        db.close().await;
    })
    .await;
}

async fn one_gets_the_name(db: Db) {
    let asked: Vec<_> = ["Zoë", "ZOË", "zoë", "Zoe\u{308}"]
        .into_iter()
        .map(|text| {
            let db = db.clone();
            tokio::spawn(async move { db.create_user(&name(text)).await })
        })
        .collect();
    let mut given = 0;
    for answer in asked {
        match answer.await.unwrap() {
            Ok(_) => given += 1,
            Err(CreateError::Taken) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(given, 1);
}

#[tokio::test]
async fn many_ids_are_one_query() {
    let db = memory().await;
    let mut ids = Vec::new();
    for i in 0..200 {
        ids.push(db.create_user(&name(&format!("Player {i}"))).await.unwrap().id);
    }
    ids.extend([0, -1, i64::MAX].map(UserId));
    ids.extend((100_000..150_000).map(UserId));

    let reported = Statements::reported();
    let users = db.infos(&ids).await.unwrap();
    assert_eq!(users.len(), 200);
    assert_eq!(users[&ids[7]].user.name, "Player 7");
    assert_eq!(reported.that_returned(200), 1, "one statement brought them all");

    assert!(db.infos(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn names_are_data() {
    let db = memory().await;
    for hostile in ["'); DROP TABLE users;--", "<script>alert(1)", "%s%n", "\"]}"] {
        let user = db.create_user(&name(hostile)).await.unwrap();
        assert_eq!(db.user(user.id).await.unwrap().unwrap().name, hostile);
    }
}

#[tokio::test]
async fn a_file_keeps_users_and_the_secret() {
    let file = TempFile::new("keeps");
    let url = file.url();
    let first = Db::open(&url, 4).await.unwrap();
    let anna = first.create_user(&name("Anna")).await.unwrap();
    let secret = first.secret(&Hall::random_secret()).await.unwrap();
    first.close().await;

    let again = Db::open(&url, 4).await.unwrap();
    assert_eq!(again.user(anna.id).await.unwrap(), Some(anna));
    assert_eq!(again.secret(&Hall::random_secret()).await.unwrap(), secret);
    again.close().await;
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_says_what_to_do() {
    let error = Db::open("sqlite:/no/such/folder/chess.db", 4).await.unwrap_err();
    assert!(matches!(error, OpenError::Open { .. }));
    let said = error.to_string();
    assert!(said.contains("/no/such/folder/chess.db") && said.contains("DATABASE_URL"), "{said}");

    for address in ["", "  ", "sqlite:", "sqlite://", "sqlite:?mode=rwc", "sqlite://?cache=shared"] {
        let error = Db::open(address, 4).await.unwrap_err();
        assert!(error.to_string().contains("DATABASE_URL names no file"), "{address:?}: {error}");
    }

    // Some other file, which must stay as it is.
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let before = std::fs::read(text).unwrap();
    let error = Db::open(text, 4).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("something else than a database") && said.contains("DATABASE_URL"), "{said}");
    assert_eq!(std::fs::read(text).unwrap(), before);
}

#[tokio::test]
async fn an_address_with_a_password_is_never_shown() {
    for address in
        ["mysql:ann:hunter2@localhost/chess", "sqlite:chess.db?key=hunter2", "sqlite:chess.db?mode=hunter2"]
    {
        let error = Db::open(address, 4).await.unwrap_err();
        assert!(matches!(error, OpenError::Address(_)), "{error}");
        assert!(error.to_string().contains("DATABASE_URL"), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_file_that_can_only_be_read_says_so() {
    let file = TempFile::new("read-only");
    Db::open(&file.url(), 4).await.unwrap().close().await;
    // As root, who may write any file, the mode of the file would change nothing.
    let error = Db::open(&format!("{}?mode=ro", file.url()), 4).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("It can only be read") && said.contains("DATABASE_URL"), "{said}");
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let file = TempFile::new("foreign");
    let options = SqliteConnectOptions::new().filename(&file.0).create_if_missing(true);
    let mut other = options.connect().await.unwrap();
    sqlx::query("CREATE TABLE songs (title TEXT)").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let before = std::fs::read(&file.0).unwrap();

    let error = Db::open(&file.url(), 4).await.unwrap_err();
    assert!(matches!(error, OpenError::Foreign(_)), "{error}");
    assert!(error.to_string().contains("DATABASE_URL"), "{error}");
    assert_eq!(std::fs::read(&file.0).unwrap(), before);
}

#[tokio::test]
async fn a_database_that_another_program_holds_says_so() {
    let file = TempFile::new("held");
    Db::open(&file.url(), 4).await.unwrap().close().await;
    let mut other = SqliteConnectOptions::new().filename(&file.0).connect().await.unwrap();
    let held = other.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    let error = Db::open(&file.url(), 4).await.unwrap_err();
    assert!(error.to_string().contains("Another program holds it"), "{error}");
    held.rollback().await.unwrap();
    Db::open(&file.url(), 4).await.unwrap().close().await;
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let file = TempFile::new("private");
    let mode = |end: &str| {
        let path = format!("{}{end}", file.0.display());
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    let db = Db::open(&file.url(), 1).await.unwrap();
    db.create_user(&name("Anna")).await.unwrap();
    assert_eq!((mode(""), mode("-wal"), mode("-shm")), (0o600, 0o600, 0o600));
    db.close().await;
    // One that was made otherwise, before.
    std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o644)).unwrap();
    Db::open(&file.url(), 1).await.unwrap().close().await;
    assert_eq!(mode(""), 0o600);
}

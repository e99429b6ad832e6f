use chess::{Accounts, CreateError, Name, OpenError, Session};

use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

use crate::statements::Statements;

async fn accounts() -> Accounts {
    Accounts::open("sqlite::memory:").await.unwrap()
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
    let accounts = accounts().await;
    let anna = accounts.create(&name("Anna")).await.unwrap();
    assert_eq!(anna.name, "Anna");
    assert_eq!(accounts.user(anna.id).await.unwrap(), Some(anna));
    for same in ["Anna", "ANNA", " anna ", "Ａnna"] {
        assert!(matches!(accounts.create(&name(same)).await, Err(CreateError::Taken)), "{same}");
    }
    accounts.create(&name("Anne")).await.unwrap();
}

/// In memory, and in a file, which several connections write to at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_ask_at_once_one_gets_the_name() {
    one_gets_the_name(accounts().await).await;
    let file = TempFile::new("race");
    let accounts = Accounts::open(&file.url()).await.unwrap();
    one_gets_the_name(accounts.clone()).await;
    accounts.close().await;
}

async fn one_gets_the_name(accounts: Accounts) {
    let asked: Vec<_> = ["Zoë", "ZOË", "zoë", "Zoe\u{308}"]
        .into_iter()
        .map(|text| {
            let accounts = accounts.clone();
            tokio::spawn(async move { accounts.create(&name(text)).await })
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
    let accounts = accounts().await;
    let mut ids = Vec::new();
    for i in 0..200 {
        ids.push(accounts.create(&name(&format!("Player {i}"))).await.unwrap().id);
    }
    ids.extend([0, -1, i64::MAX]);
    ids.extend(100_000..150_000);

    let reported = Statements::reported();
    let users = accounts.users_by_ids(&ids).await.unwrap();
    assert_eq!(users.len(), 200);
    assert_eq!(users[&ids[7]].name, "Player 7");
    assert_eq!(reported.that_returned(200), 1, "one statement brought them all");

    assert!(accounts.users_by_ids(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn names_are_data() {
    let accounts = accounts().await;
    for hostile in ["'); DROP TABLE users;--", "<script>alert(1)", "%s%n", "\"]}"] {
        let user = accounts.create(&name(hostile)).await.unwrap();
        assert_eq!(accounts.user(user.id).await.unwrap().unwrap().name, hostile);
    }
}

#[tokio::test]
async fn a_file_keeps_users_and_the_secret() {
    let file = TempFile::new("keeps");
    let url = file.url();
    let first = Accounts::open(&url).await.unwrap();
    let anna = first.create(&name("Anna")).await.unwrap();
    let secret = first.secret(&Session::random_secret()).await.unwrap();
    first.close().await;

    let again = Accounts::open(&url).await.unwrap();
    assert_eq!(again.user(anna.id).await.unwrap(), Some(anna));
    assert_eq!(again.secret(&Session::random_secret()).await.unwrap(), secret);
    again.close().await;
}

#[tokio::test]
async fn what_cannot_be_opened_says_what_to_do() {
    let error = Accounts::open("sqlite:/no/such/folder/chess.db").await.unwrap_err();
    assert!(matches!(error, OpenError::Open { .. }));
    let said = error.to_string();
    assert!(said.contains("/no/such/folder/chess.db") && said.contains("DATABASE_URL"), "{said}");

    for address in ["", "  ", "sqlite:", "sqlite://", "sqlite:?mode=rwc", "sqlite://?cache=shared"] {
        let error = Accounts::open(address).await.unwrap_err();
        assert!(error.to_string().contains("DATABASE_URL names no file"), "{address:?}: {error}");
    }

    // Some other file, which must stay as it is.
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let before = std::fs::read(text).unwrap();
    let error = Accounts::open(text).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("something else than a database") && said.contains("DATABASE_URL"), "{said}");
    assert_eq!(std::fs::read(text).unwrap(), before);
}

#[tokio::test]
async fn an_address_with_a_password_is_never_shown() {
    for address in [
        "postgres://ann:hunter2@localhost/chess",
        "mysql:ann:hunter2@localhost/chess",
        "sqlite:chess.db?key=hunter2",
        "sqlite:chess.db?mode=hunter2",
    ] {
        let error = Accounts::open(address).await.unwrap_err();
        assert!(matches!(error, OpenError::Address(_)), "{error}");
        assert!(error.to_string().contains("DATABASE_URL"), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_file_that_can_only_be_read_says_so() {
    let file = TempFile::new("read-only");
    Accounts::open(&file.url()).await.unwrap().close().await;
    // As root, who may write any file, the mode of the file would change nothing.
    let error = Accounts::open(&format!("{}?mode=ro", file.url())).await.unwrap_err();
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

    let error = Accounts::open(&file.url()).await.unwrap_err();
    assert!(matches!(error, OpenError::Foreign(_)), "{error}");
    assert!(error.to_string().contains("DATABASE_URL"), "{error}");
    assert_eq!(std::fs::read(&file.0).unwrap(), before);
}

#[tokio::test]
async fn a_database_that_another_program_holds_says_so() {
    let file = TempFile::new("held");
    Accounts::open(&file.url()).await.unwrap().close().await;
    let mut other = SqliteConnectOptions::new().filename(&file.0).connect().await.unwrap();
    let held = other.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    let error = Accounts::open(&file.url()).await.unwrap_err();
    assert!(error.to_string().contains("Another program holds it"), "{error}");
    held.rollback().await.unwrap();
    Accounts::open(&file.url()).await.unwrap().close().await;
}

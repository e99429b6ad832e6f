//! What a program says about its presences.

use std::{
    any::{TypeId, type_name},
    collections::HashMap,
    error::Error,
    fmt,
    marker::PhantomData,
    sync::Arc,
};

use adsum_pubsub::OptionsError;
use adsum_tracker::{Key, Row};
use serde::{Serialize, de::DeserializeOwned};

/// The types of a program's presences, and what is to be added to them.
///
/// ```
/// use adsum::{Entries, FetchResult, Key, PresenceHandler};
/// use serde::{Deserialize, Serialize};
/// # struct Accounts;
/// # impl Accounts {
/// #     async fn names(&self, ids: &[&str]) -> Result<Vec<(String, String)>, std::io::Error> {
/// #         Ok(ids.iter().map(|id| ((*id).to_owned(), format!("user {id}"))).collect())
/// #     }
/// # }
///
/// #[derive(Serialize, Deserialize)]
/// struct Meta {
///     online_at: u64,
/// }
///
/// #[derive(Serialize)]
/// struct Card {
///     name: String,
/// }
///
/// struct Roster {
///     accounts: Accounts,
/// }
///
/// impl PresenceHandler for Roster {
///     type Meta = Meta;
///     type Info = Card;
///
///     async fn fetch(&self, _topic: &str, entries: &Entries<Meta>) -> FetchResult<Self> {
///         let ids: Vec<&str> = entries.keys().map(Key::as_str).collect();
///         let names = self.accounts.names(&ids).await?; // one query, however many keys
///         Ok(names.into_iter().map(|(id, name)| (Key::from(id), Card { name })).collect())
///     }
/// }
/// ```
pub trait PresenceHandler: Send + Sync + Sized + 'static {
    /// What is tracked: a small struct or map that serializes to a JSON object.
    ///
    /// It can't have the members `phx_ref`, `phx_ref_prev` and `phx_reason`, which adsum adds to each.
    type Meta: Serialize + DeserializeOwned + Send;

    /// What is added beside `metas` under each key: a struct or map that serializes to a JSON object, or `()`. Types that
    /// never do, such as `String`, are refused at the [start](crate::Builder::start).
    type Info: Serialize + Send + Sync + 'static;

    /// Whether [`fetch`](Self::fetch) has something to say. Where it doesn't, changes go out without asking.
    const FETCHES: bool = true;

    /// Looks up what is to be added to these keys, with one query for all of them.
    ///
    /// It is asked for the keys that join, and for those of a list that it hasn't been asked for within
    /// `fetch_ttl`; never for those that leave. A key that is missing in the answer has nothing added.
    ///
    /// An error, a panic and an answer that takes longer than `fetch_timeout` are logged and counted
    /// (`adsum_fetch_failures_total`); the presences then go out with what was last known of them.
    fn fetch(
        &self,
        topic: &str,
        entries: &Entries<Self::Meta>,
    ) -> impl Future<Output = FetchResult<Self>> + Send {
        let _ = (topic, entries);
        async { Ok(HashMap::new()) }
    }
}

/// Refuses types of which every value serializes to something else than an object. Of others it shows once a value is
/// there.
pub(crate) fn check_info<I: 'static>() -> Result<(), OptionsError> {
    macro_rules! is_one_of {
        ($($of:ty),*) => { [$(TypeId::of::<$of>()),*].contains(&TypeId::of::<I>()) };
    }
    let name = type_name::<I>();
    let is_plain = is_one_of![
        String,
        &'static str,
        Box<str>,
        Arc<str>,
        Key,
        char,
        bool,
        u8,
        u16,
        u32,
        u64,
        u128,
        usize,
        i8,
        i16,
        i32,
        i64,
        i128,
        isize,
        f32,
        f64
    ];
    let is_list = name.starts_with("alloc::vec::Vec<")
        || name.starts_with('[')
        || (name.starts_with('(') && TypeId::of::<I>() != TypeId::of::<()>());
    if is_plain || is_list {
        let allowed = "a struct or a map, whose members stand beside `metas`";
        return Err(OptionsError::new("PresenceHandler::Info", name, allowed));
    }
    Ok(())
}

/// What a handler's [`fetch`](PresenceHandler::fetch) returns.
pub type FetchResult<H> = Result<HashMap<Key, <H as PresenceHandler>::Info>, FetchError>;

/// Why `fetch` failed: any error. It goes to the log.
pub type FetchError = Box<dyn Error + Send + Sync>;

/// A handler that adds nothing; its metas are of type `M`.
pub struct NoFetch<M = serde_json::Map<String, serde_json::Value>>(PhantomData<fn() -> M>);

impl<M> Default for NoFetch<M> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<M> fmt::Debug for NoFetch<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoFetch")
    }
}

impl<M: Serialize + DeserializeOwned + Send + 'static> PresenceHandler for NoFetch<M> {
    type Meta = M;
    type Info = ();
    const FETCHES: bool = false;
}

/// The presences that `fetch` is asked about, by key.
pub struct Entries<M> {
    pub(crate) groups: HashMap<Key, Vec<Arc<Row>>>,
    pub(crate) meta: PhantomData<fn() -> M>,
}

impl<M: DeserializeOwned> Entries<M> {
    /// The keys, each once.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.groups.keys()
    }

    /// The metas under a key, read anew with each call; none for a key that isn't among these.
    pub fn metas(&self, key: &str) -> Vec<M> {
        let rows = self.groups.get(key).map_or(&[][..], Vec::as_slice);
        rows.iter().filter_map(|row| crate::encode::decode_meta(&row.meta)).collect()
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

impl<M> fmt::Debug for Entries<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.groups.keys()).finish()
    }
}

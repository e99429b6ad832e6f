//! A program's types of presences, and the `fetch` of their infos.

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

/// The types of a program's presences, and the infos that are added to them.
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
/// struct Profile {
///     name: String,
/// }
///
/// struct Roster {
///     accounts: Accounts,
/// }
///
/// impl PresenceHandler for Roster {
///     type Meta = Meta;
///     type Info = Profile;
///
///     async fn fetch(&self, _topic: &str, entries: &Entries<Meta>) -> FetchResult<Self> {
///         let ids: Vec<&str> = entries.keys().map(Key::as_str).collect();
///         let names = self.accounts.names(&ids).await?; // one query, however many keys
///         Ok(names.into_iter().map(|(id, name)| (Key::from(id), Profile { name })).collect())
///     }
/// }
/// ```
pub trait PresenceHandler: Send + Sync + Sized + 'static {
    /// The type of metas: a small struct or map that serializes to a JSON object.
    ///
    /// It can't have the members `phx_ref`, `phx_ref_prev` and `phx_reason`, which adsum adds.
    type Meta: Serialize + DeserializeOwned + Send;

    /// The type of infos, which are added beside `metas` under each key: a struct or map that serializes to a JSON
    /// object, or `()`. Types that never do, such as `String`, are refused at the [start](crate::Builder::start).
    type Info: Serialize + Send + Sync + 'static;

    /// Whether [`fetch`](Self::fetch) is called. If not, changes are sent without infos.
    const FETCHES: bool = true;

    /// Looks up the infos of these keys, with one query for all of them.
    ///
    /// It is called for keys that join, and for keys of a list, if their infos are older than `fetch_ttl`; never for
    /// keys that leave. A key that is missing in the answer has no info.
    ///
    /// An error, a panic and an answer that takes longer than `fetch_timeout` are logged and counted
    /// (`adsum_fetches_total`, by its label `result`); the presences are then sent with their last known infos.
    fn fetch(
        &self,
        topic: &str,
        entries: &Entries<Self::Meta>,
    ) -> impl Future<Output = FetchResult<Self>> + Send {
        let _ = (topic, entries);
        async { Ok(HashMap::new()) }
    }
}

/// Refuses types whose values never serialize to an object. For other types this can be checked only with a value.
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
    // Lists and tuples have no one type to compare with. The compiler promises no form of a name: should it change, they
    // are told of with the first value, as any other type whose values turn out not to be objects.
    let is_list = name.starts_with("alloc::vec::Vec<")
        || name.starts_with('[')
        || (name.starts_with('(') && TypeId::of::<I>() != TypeId::of::<()>());
    if is_plain || is_list {
        let allowed = "a struct or a map, whose members are added beside `metas`";
        return Err(OptionsError::new("PresenceHandler::Info", name, allowed));
    }
    Ok(())
}

/// The result of a handler's [`fetch`](PresenceHandler::fetch).
pub type FetchResult<H> = Result<HashMap<Key, <H as PresenceHandler>::Info>, FetchError>;

/// Why `fetch` failed: any error. It is logged.
pub type FetchError = Box<dyn Error + Send + Sync>;

/// A handler without infos; its metas are of type `M`.
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
    /// Returns the keys, each once.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.groups.keys()
    }

    /// Decodes the metas under a key, at each call. Empty for a key that isn't among these.
    pub fn metas(&self, key: &str) -> Vec<M> {
        let rows = self.groups.get(key).map_or(&[][..], Vec::as_slice);
        rows.iter().filter_map(|row| crate::encode::decode_meta(&row.meta)).collect()
    }

    /// Returns the number of keys.
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

//! Types for clients in TypeScript, from a program's own Rust types.
//!
//! A program says once which types its channels take and send. [`Contract::write`] makes two files of that:
//! `channels.ts` with the types, and `phoenix-typed.ts`, which puts them around `Channel` and `Presence` of phoenix.js.
//! So a page that pushes what a channel doesn't read, or reads what it isn't sent, doesn't compile.
//!
//! ```
//! use adsum::typescript::{Contract, ts_rs, TS};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, TS)]
//! struct Meta {
//!     online_at: u64,
//! }
//!
//! #[derive(Serialize, TS)]
//! struct Profile {
//!     name: String,
//! }
//!
//! #[derive(Deserialize, TS)]
//! struct Say {
//!     text: String,
//! }
//!
//! let contract = Contract::new()
//!     .channel("room:*", |room| room.presence::<Meta, Profile>().event::<Say, ()>("say").push::<Say>("said"));
//! assert!(contract.types().contains("export type Say = { text: string, };"));
//! assert!(contract.types().contains("export type Meta = { online_at: number, };"));
//! assert!(contract.types().contains("info: Profile"));
//! ```
//!
//! In a page:
//!
//! ```ts
//! import { Socket } from "phoenix"
//! import type { Channels } from "./channels"
//! import { typed } from "./phoenix-typed"
//!
//! const channel = typed<Channels>(new Socket("/socket"))
//! const room = channel("room:*", "room:lobby", {})
//! room.on("said", ({ text }) => console.log(text))
//! room.push("say", { text: "hello" })
//! ```
//!
//! A test writes the files, or fails if they aren't as they were: see [`Contract::check`].

use std::{
    any::{TypeId, type_name},
    collections::{BTreeMap, HashSet},
    fmt::{self, Write as _},
    fs, io,
    path::Path,
};

pub use ts_rs::{self, TS};
use ts_rs::{Config, TypeVisitor};

/// The file around phoenix.js, the same for all programs.
pub const PHOENIX_TYPED: &str = include_str!("typescript/phoenix-typed.ts");

/// The types of a program's channels, by the patterns of their topics.
#[derive(Clone, Debug, Default)]
pub struct Contract {
    channels: BTreeMap<String, ChannelTypes>,
}

impl Contract {
    /// No channels yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a channel. `pattern` is that of [`SocketBuilder::channel`](crate::SocketBuilder::channel).
    ///
    /// `channels.ts` is one module, so a name in it stands for one type. If two Rust types have the same name and
    /// different shapes, such as `lobby::Meta` and `game::Meta`, rename one of them for TypeScript:
    /// `#[ts(rename = "LobbyMeta")]`.
    ///
    /// # Panics
    /// Two types of the contract have the same name and different shapes.
    #[must_use]
    pub fn channel(mut self, pattern: &str, describe: impl FnOnce(ChannelTypes) -> ChannelTypes) -> Self {
        let channel = describe(ChannelTypes::default());
        for (_, other) in self.channels.iter().filter(|(of, _)| *of != pattern) {
            other.declared.check(&channel.declared);
        }
        self.channels.insert(pattern.to_owned(), channel);
        self
    }

    /// The types, as `channels.ts` has them.
    pub fn types(&self) -> String {
        let mut text =
            "// Made by adsum::typescript from the program's types. Not to be changed by hand.\n\n"
                .to_owned();
        self.write_types(&mut text).expect("a string takes all");
        text
    }

    fn write_types(&self, text: &mut String) -> fmt::Result {
        let declarations: BTreeMap<&String, &Declaration> =
            self.channels.values().flat_map(|channel| &channel.declared.by_name).collect();
        for declaration in declarations.values() {
            writeln!(text, "export {}\n", declaration.text)?;
        }
        writeln!(text, "export interface Channels {{")?;
        for (pattern, channel) in &self.channels {
            writeln!(text, "  {pattern:?}: {{")?;
            for (name, of_type) in [
                ("params", &channel.params),
                ("joined", &channel.joined),
                ("meta", &channel.meta),
                ("info", &channel.info),
            ] {
                writeln!(text, "    {name}: {}", of_type.as_deref().unwrap_or("unknown"))?;
            }
            writeln!(text, "    events: {{")?;
            for (event, (payload, reply)) in &channel.events {
                writeln!(text, "      {event:?}: {{ payload: {payload}; reply: {reply} }}")?;
            }
            writeln!(text, "    }}\n    pushes: {{")?;
            for (event, payload) in &channel.pushes {
                writeln!(text, "      {event:?}: {payload}")?;
            }
            writeln!(text, "    }}\n  }}")?;
        }
        writeln!(text, "}}")
    }

    /// Writes `channels.ts` and `phoenix-typed.ts` into a folder.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn write(&self, folder: impl AsRef<Path>) -> io::Result<()> {
        let folder = folder.as_ref();
        fs::write(folder.join("channels.ts"), self.types())?;
        fs::write(folder.join("phoenix-typed.ts"), PHOENIX_TYPED)
    }

    /// Fails if the files in the folder aren't what [`write`](Self::write) would write. For a test of the program; with
    /// the variable `ADSUM_TYPES=write` in its environment, it writes them.
    ///
    /// # Errors
    /// A file is missing or another one, or can't be read or written.
    pub fn check(&self, folder: impl AsRef<Path>) -> io::Result<()> {
        let folder = folder.as_ref();
        if std::env::var_os("ADSUM_TYPES").is_some_and(|value| value == "write") {
            return self.write(folder);
        }
        for (file, right) in [("channels.ts", &*self.types()), ("phoenix-typed.ts", PHOENIX_TYPED)] {
            if fs::read_to_string(folder.join(file))? != right {
                let text =
                    format!("{file} isn't up to date; run this test with ADSUM_TYPES=write, and look at it");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(())
    }
}

/// The types of one channel, from [`Contract::channel`].
#[derive(Clone, Debug, Default)]
pub struct ChannelTypes {
    params: Option<String>,
    joined: Option<String>,
    meta: Option<String>,
    info: Option<String>,
    events: BTreeMap<String, (String, String)>,
    pushes: BTreeMap<String, String>,
    declared: Declared,
}

/// Declarations of types.
#[derive(Clone, Debug, Default)]
struct Declared {
    by_name: BTreeMap<String, Declaration>,
    /// The types that were visited, those of TypeScript's own included.
    visited: HashSet<TypeId>,
}

#[derive(Clone, Debug)]
struct Declaration {
    /// The type's name in Rust.
    rust_name: &'static str,
    /// The declaration in TypeScript.
    text: String,
}

impl ChannelTypes {
    /// The parameters of a join, as [`Channel::Params`](crate::Channel::Params). By default anything.
    #[must_use]
    pub fn params<T: TS + 'static>(mut self) -> Self {
        self.params = Some(self.declared.name::<T>());
        self
    }

    /// The response of a join, as [`Joined::reply`](crate::Joined::reply) sends it.
    #[must_use]
    pub fn joined<T: TS + 'static>(mut self) -> Self {
        self.joined = Some(self.declared.name::<T>());
        self
    }

    /// An event that clients push, and the response of its `ok`. `()` if there is none, or no client reads it.
    #[must_use]
    pub fn event<Payload: TS + 'static, Reply: TS + 'static>(mut self, event: &str) -> Self {
        let (payload, reply) = (self.declared.name::<Payload>(), self.declared.name::<Reply>());
        let reply = if reply == "null" { "unknown".to_owned() } else { reply };
        self.events.insert(event.to_owned(), (payload, reply));
        self
    }

    /// An event that clients are sent.
    #[must_use]
    pub fn push<T: TS + 'static>(mut self, event: &str) -> Self {
        let payload = self.declared.name::<T>();
        self.pushes.insert(event.to_owned(), payload);
        self
    }

    /// The metas and the infos of a presence that is tracked in the channel's topics, as
    /// [`PresenceHandler`](crate::PresenceHandler) has them. An `Info` of `()` adds nothing.
    #[must_use]
    pub fn presence<Meta: TS + 'static, Info: TS + 'static>(mut self) -> Self {
        self.meta = Some(self.declared.name::<Meta>());
        self.info = Some(self.declared.name::<Info>()).filter(|info| info != "null");
        self
    }
}

impl Declared {
    /// The name of a type, which is declared from now on, with all that it needs.
    fn name<T: TS + 'static>(&mut self) -> String {
        self.declare::<T>();
        T::name(&config())
    }

    fn declare<T: TS + 'static + ?Sized>(&mut self) {
        if !self.visited.insert(TypeId::of::<T>()) {
            return;
        }
        // A type of TypeScript's own has no file that it would be in.
        if T::output_path().is_some() {
            let (name, text) = (T::ident(&config()), T::decl(&config()));
            let declaration = Declaration { rust_name: type_name::<T>(), text };
            self.check_name(&name, &declaration);
            self.by_name.insert(name, declaration);
        }
        T::visit_dependencies(self);
        T::visit_generics(self);
    }

    /// Checks that no type of the others has the name of another type.
    ///
    /// # Panics
    /// One has.
    fn check(&self, others: &Self) {
        for (name, other) in &others.by_name {
            self.check_name(name, other);
        }
    }

    /// Types of one name and one shape are one type in TypeScript. So are the uses of a generic type.
    fn check_name(&self, name: &str, new: &Declaration) {
        let Some(known) = self.by_name.get(name) else { return };
        assert!(
            known.text == new.text,
            "`{}` and `{}` would both be `{name}` in TypeScript; rename one of them with `#[ts(rename = \"..\")]`",
            known.rust_name,
            new.rust_name,
        );
    }
}

impl TypeVisitor for Declared {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        self.declare::<T>();
    }
}

/// Large integers are numbers, since that is what `JSON.parse` makes of them.
fn config() -> Config {
    Config::new().with_large_int("number")
}

//! One node with all presences.

use serde_json::{Value, json};

use crate::{Failure, Spread, node::Command, processes::Node};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    spread: Spread,
    /// How often each call is made
    #[arg(long, default_value_t = 20_000)]
    calls: u32,
    /// Changes a second
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    /// For how many seconds
    #[arg(long, default_value_t = 5)]
    secs: u32,
}

impl Options {
    pub(crate) fn run(self) -> Result<Value, Failure> {
        let mut node = Node::start(&[self.spread.args(), vec!["--probed".to_owned()]].concat())?;
        node.answer()?;
        let filled = node.ask(&Command::Fill)?;
        let called = node.ask(&Command::Call(self.calls))?;
        let changed = node.ask(&Command::Change { rate: self.rate, secs: self.secs })?;
        let counted = node.ask(&Command::Count)?;
        Ok(json!({
            "scenario": "one",
            "correct": counted["presences"] == self.spread.presences,
            "presences": self.spread.presences,
            "fill": filled,
            "calls": called,
            "rate": self.rate,
            "changes": changed,
            "rss_mb": node.memory_mb(),
        }))
    }
}

//! How channels run: a task per join, its mailbox, and the link between the task and its socket.

mod handling;
mod link;
mod mailbox;
mod task;

pub(crate) use self::{
    link::{Further, Link, Place, reason_json},
    mailbox::{EndCause, Letter, MailboxError},
    task::{ChannelTasks, Route, Start},
};

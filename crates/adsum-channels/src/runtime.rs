//! Runs channels: a task per join, its mailbox, and the link between the task and its socket.

mod channel_link;
mod handling;
mod mailbox;
mod task;

pub(crate) use self::{
    channel_link::{ChannelLink, ExtraSubscription, JoinAddress, reason_json},
    mailbox::{EndCause, MailboxError, MailboxMessage},
    task::{ChannelTasks, Route, Start},
};

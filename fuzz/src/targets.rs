//! One file for each target.

pub(crate) mod clusters;
pub(crate) mod filters;
pub(crate) mod metas;
pub(crate) mod patterns;
pub(crate) mod replication;
pub(crate) mod tokens;

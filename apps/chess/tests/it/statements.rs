//! Listens to the statements that the database library reports, as a log would.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// How many rows each statement of this process returned, of all tests: they run on threads of the library.
#[derive(Clone, Default)]
pub(crate) struct Statements(Arc<Mutex<Vec<u64>>>);

impl Statements {
    /// Listens from now on. Once a process.
    pub(crate) fn reported() -> Self {
        let statements = Self::default();
        tracing::subscriber::set_global_default(statements.clone()).unwrap();
        statements
    }

    pub(crate) fn that_returned(&self, rows: u64) -> usize {
        let returned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        returned.iter().filter(|r| **r == rows).count()
    }
}

impl Subscriber for Statements {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn event(&self, event: &Event<'_>) {
        let mut rows = Rows(0);
        event.record(&mut rows);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(rows.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Rows(u64);

impl Visit for Rows {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "rows_returned" {
            self.0 = value;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

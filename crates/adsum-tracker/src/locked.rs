//! A locked shard, and values of the program that are dropped once it is unlocked.
//!
//! A program's `Drop` may list the topic, so it must find the shard unlocked. A value that is released under the lock
//! is set aside, and the guard of the lock drops it after the unlock.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    fmt,
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
};

use parking_lot::MutexGuard;

use crate::{layer::Layer, shard::Shard};

thread_local! {
    /// The number of shards that this thread has locked.
    static LOCKED: Cell<usize> = const { Cell::new(0) };
    /// Empty whenever no shard is locked. Without a destructor, so that it is there while a thread ends: a program may keep
    /// an owner in a thread-local of its own.
    static SET_ASIDE: ManuallyDrop<RefCell<Vec<Box<dyn Any>>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// A shard, while it is locked.
pub struct Locked<'s, X: Layer> {
    // Fields drop in this order: the shard is unlocked first.
    shard: MutexGuard<'s, Shard<X>>,
    after: AfterUnlock,
}

impl<'s, X: Layer> Locked<'s, X> {
    pub(crate) fn new(shard: MutexGuard<'s, Shard<X>>) -> Self {
        LOCKED.with(|locked| locked.set(locked.get() + 1));
        Self { shard, after: AfterUnlock(PhantomData) }
    }

    /// Unlocks the shard, and lets a waiting thread lock it before this one can again.
    pub(crate) fn unlock_fair(self) {
        let Self { shard, after } = self;
        MutexGuard::unlock_fair(shard);
        drop(after);
    }
}

impl<X: Layer> Deref for Locked<'_, X> {
    type Target = Shard<X>;

    fn deref(&self) -> &Shard<X> {
        &self.shard
    }
}

impl<X: Layer> DerefMut for Locked<'_, X> {
    fn deref_mut(&mut self) -> &mut Shard<X> {
        &mut self.shard
    }
}

impl<X: Layer> fmt::Debug for Locked<'_, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shard.fmt(f)
    }
}

/// Not `Send`, like the guard of the lock.
struct AfterUnlock(PhantomData<*const ()>);

impl Drop for AfterUnlock {
    fn drop(&mut self) {
        let locked = LOCKED.with(|locked| {
            locked.set(locked.get() - 1);
            locked.get()
        });
        if locked == 0 {
            // Taken out first: a value's `Drop` may lock a shard itself.
            drop(SET_ASIDE.with(|set_aside| set_aside.take()));
            #[cfg(feature = "simulation")]
            interleaved();
        }
    }
}

/// Drops a value of the program: at once, or once this thread has unlocked all shards.
pub fn drop_unlocked<T: 'static>(value: T) {
    if LOCKED.try_with(Cell::get).is_ok_and(|locked| locked > 0) {
        SET_ASIDE.with(|set_aside| set_aside.borrow_mut().push(Box::new(value)));
    }
}

#[cfg(feature = "simulation")]
thread_local! {
    static BETWEEN_HOLDS: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

/// Calls a function on this thread whenever it has unlocked a shard, as another thread could run then. For simulations.
#[cfg(feature = "simulation")]
pub fn between_holds(act: Option<Box<dyn FnMut()>>) {
    let before = BETWEEN_HOLDS.replace(act);
    // Its captures may lock shards when they are dropped.
    drop(before);
}

#[cfg(feature = "simulation")]
fn interleaved() {
    // Taken out first: the function locks shards itself. It may be gone while a thread ends.
    if let Some(mut act) = BETWEEN_HOLDS.try_with(RefCell::take).ok().flatten() {
        act();
        BETWEEN_HOLDS.set(Some(act));
    }
}

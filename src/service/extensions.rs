//! Typed values that go along with a call, from interceptor to interceptor to handler.
//!
//! Invariants: one value of each type; a clone is a view of its own: what is put into one is not
//! seen in the other. An empty one owns nothing.
//! Why a list under an `Arc`: a call has a handful of values, is cloned for its handler and for
//! each hook, and is mostly read.
//!
//! Those of the call that this thread serves just now can be asked for: calls made inside its
//! handler take from them what is to be passed on, a trace say.

use std::any::{Any, TypeId};
use std::cell::Cell;
use std::sync::Arc;

/// Values by their type. At most one of each, so their number is bounded by the program.
#[derive(Clone, Default)]
pub struct Extensions(Option<Arc<Vec<(TypeId, Value)>>>);

type Value = Arc<dyn Any + Send + Sync>;

impl Extensions {
    /// Nothing in it.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Puts a value in the place of the one of its type.
    ///
    /// The value is dropped when the last clone that has it is: at the latest when the call has
    /// ended and nobody kept its context. A semaphore's permit, say, may be put here.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        let (id, value): (_, Value) = (TypeId::of::<T>(), Arc::new(value));
        let values = Arc::make_mut(self.0.get_or_insert_default());
        match values.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known = value,
            None => values.push((id, value)),
        }
    }

    /// Takes the value of this type out.
    pub fn remove<T: Send + Sync + 'static>(&mut self) -> Option<Arc<T>> {
        let at = self.position::<T>()?;
        let (_, value) = Arc::make_mut(self.0.as_mut()?).swap_remove(at);
        value.downcast().ok()
    }

    /// The value of this type.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        let at = self.position::<T>()?;
        self.0.as_deref()?[at].1.downcast_ref()
    }

    fn position<T: 'static>(&self) -> Option<usize> {
        let id = TypeId::of::<T>();
        self.0.as_deref()?.iter().position(|(known, _)| *known == id)
    }
}

thread_local! {
    static SERVED: Cell<Extensions> = const { Cell::new(Extensions::new()) };
}

/// Runs `f` with `extensions` as those of the call that is served; those before are back
/// afterwards, also when `f` panics.
pub(crate) fn with_served<T>(extensions: &Extensions, f: impl FnOnce() -> T) -> T {
    struct Restore(Extensions);
    impl Drop for Restore {
        fn drop(&mut self) {
            SERVED.set(std::mem::take(&mut self.0));
        }
    }
    let _restore = Restore(SERVED.replace(extensions.clone()));
    f()
}

/// The extensions of the call that is being served on this thread; empty if none is.
pub(crate) fn served() -> Extensions {
    let extensions = SERVED.take();
    SERVED.set(extensions.clone());
    extensions
}

impl std::fmt::Debug for Extensions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.0.as_ref().map_or(0, |values| values.len());
        f.debug_struct("Extensions").field("values", &count).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One value of each type; a clone does not see what is put in later, and keeps what it has.
    #[test]
    fn clones_are_views_of_their_own() {
        let mut first = Extensions::new();
        first.insert(1_u32);
        first.insert("text");
        first.insert(2_u32);
        let mut second = first.clone();
        second.insert(3_u32);

        assert_eq!((first.get::<u32>(), second.get::<u32>()), (Some(&2), Some(&3)));
        assert_eq!(first.remove::<u32>().as_deref(), Some(&2));
        assert_eq!((first.get::<u32>(), second.get::<u32>()), (None, Some(&3)));
        assert_eq!(second.get::<&str>(), Some(&"text"));
        assert_eq!(second.get::<u64>(), None);
    }

    /// A value is dropped with the last view that has it.
    #[test]
    fn a_value_goes_with_its_last_view() {
        let value = Arc::new(());
        let mut first = Extensions::new();
        first.insert(Arc::clone(&value));
        let second = first.clone();
        drop(first);
        assert_eq!(Arc::strong_count(&value), 2);
        drop(second);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    /// The served call's values are those of the innermost one, and gone after a panic too.
    #[test]
    fn served_values_nest() {
        let with = |n: u32| {
            let mut extensions = Extensions::new();
            extensions.insert(n);
            extensions
        };
        let now = || served().get::<u32>().copied();
        with_served(&with(1), || {
            assert_eq!(now(), Some(1));
            let inner = std::panic::AssertUnwindSafe(|| {
                with_served(&with(2), || panic!("{:?}", now()));
            });
            assert!(std::panic::catch_unwind(inner).is_err());
            assert_eq!(now(), Some(1));
        });
        assert_eq!(now(), None);
    }
}

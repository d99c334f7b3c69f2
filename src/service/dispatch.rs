//! The live dispatch table: handlers are installed, replaced and retired while serving.
//!
//! Readers load the whole table once per read batch, without a lock; a change makes a new table
//! and swaps it in. After the swap every connection is told, so that its client sees the change.
//!
//! Invariants: a (method, version) is served by exactly one handler at any time; a handler is
//! dropped only when no table, batch or call holds it any more; counters of a (method, version)
//! go on across replacements.
//! Why ceilings live here: lowering one must take effect on the very next request (RT-8).

use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;

use crate::service::handler::Wrap;
use crate::service::retire::{DrainSignal, Retirement};
use crate::service::router::FALLBACK;
use crate::service::routes::{Entry, RoutedMethod, Routes};
use crate::service::{Codec, Method, MethodCounters, MethodStats, Router};
use crate::util::FlatMap;
use crate::wire::{MethodId, MethodRow};

/// The methods of a running server. Clones are handles to the same table.
///
/// ```
/// use std::convert::Infallible;
/// use switchback::{CallError, Cx, Method, Server};
///
/// fn double(version: u16) -> Method {
///     Method::infallible("demo.Math/double", version, |_cx: Cx, n: u64| async move {
///         Ok::<u64, CallError<Infallible>>(n * 2)
///     })
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::new().method(double(1)).bind("mem://").await?;
/// let dispatch = server.dispatch();
/// tokio::spawn(server.serve_until(std::future::pending()));
///
/// // While it serves; clients are told, and follow on their next call.
/// dispatch.install(double(2))?;
/// dispatch.set_ceiling("demo.Math/double", Some(1))?; // Back to version 1 ...
/// dispatch.set_ceiling("demo.Math/double", None)?; // ... and forward again.
/// dispatch.retire("demo.Math/double", 1)?.await; // Ends with the last call that it serves.
/// assert!(dispatch.stats().iter().any(|row| row.version == 1 && row.ok == 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Dispatch(Arc<Shared>);

/// A handle that does not keep the table: for methods that are in it and read it.
#[cfg(feature = "builtin")]
#[derive(Clone)]
pub(crate) struct WeakDispatch(Weak<Shared>);

struct Shared {
    routes: ArcSwap<Routes>,
    codecs: Vec<Codec>,
    control: Mutex<Control>,
}

/// What only changes need.
#[derive(Default)]
struct Control {
    counters: FlatMap<(Arc<str>, u16), Arc<MethodCounters>>,
    wraps: Vec<Arc<dyn Wrap>>,
    listeners: Vec<Weak<dyn TableListener>>,
}

/// Someone to tell when the table has changed: a connection.
pub(crate) trait TableListener: Send + Sync {
    fn handle_table_change(&self);
}

/// A change of the table that makes no sense (RT-2).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// Two handlers for one (method, version).
    #[error("{name} version {version} is registered twice")]
    Duplicate {
        /// `"service/method"`.
        name: String,
        /// The version.
        version: u16,
    },
    /// Two methods whose names have the same CRC-32; give one of them an id of its own.
    #[error("{name} and {other} have the same method id {id}; set another id on one of them")]
    IdCollision {
        /// `"service/method"`.
        name: String,
        /// The method that is there already.
        other: String,
        /// The number of both.
        id: MethodId,
    },
    /// Two versions of one method with different numbers: clients could not tell them to be one.
    #[error("{name} has the method id {other} in its other versions, not {id}")]
    TwoIds {
        /// `"service/method"`.
        name: String,
        /// As given.
        id: MethodId,
        /// Of the versions that are there.
        other: MethodId,
    },
    /// A name that is not `"service/method"`.
    #[error(
        "{name:?} is no method name: expected \"service/method\", 3 to 128 bytes of [A-Za-z0-9_.-]"
    )]
    BadName {
        /// As given.
        name: String,
    },
    /// A version outside 1 to 65,534.
    #[error("{name} version {version}: versions are 1 to 65534")]
    BadVersion {
        /// `"service/method"`.
        name: String,
        /// As given.
        version: u16,
    },
    /// Nothing of this name and version is installed.
    #[error("{name} version {version} is not installed")]
    NotInstalled {
        /// `"service/method"`.
        name: String,
        /// The version; 0 when the method itself is not there.
        version: u16,
    },
    /// More versions of one method than a table can name.
    #[error("{name} has {versions} versions, at most {max} fit")]
    TooManyVersionsOfMethod {
        /// `"service/method"`.
        name: String,
        /// How many there would be.
        versions: usize,
        /// The limit.
        max: usize,
    },
    /// More methods than a table can name.
    #[error("{methods} methods, at most {max} fit a table")]
    TooManyMethods {
        /// How many there would be.
        methods: usize,
        /// The limit.
        max: usize,
    },
    /// More versions than a table can name.
    #[error("{versions} versions of all methods, at most {max} fit a table")]
    TooManyVersions {
        /// How many there would be.
        versions: usize,
        /// The limit.
        max: usize,
    },
}

impl Dispatch {
    pub(crate) fn new(router: Router) -> Result<Self, RouteError> {
        let mut control = Control { wraps: router.wraps, ..Control::default() };
        let mut methods = Vec::new();
        for method in router.methods {
            control.insert(&mut methods, method)?;
        }
        let fallback = router.fallback.map(|method| Arc::new(control.entry(method)));
        let routes = ArcSwap::from_pointee(Routes::new(methods, fallback)?);
        let (codecs, control) = (router.codecs, Mutex::new(control));
        Ok(Self(Arc::new(Shared { routes, codecs, control })))
    }

    /// Adds a handler for a (method, version) that has none.
    ///
    /// # Errors
    /// [`RouteError`]; the table is as before.
    pub fn install(&self, method: Method) -> Result<(), RouteError> {
        // A clone: one that is refused is dropped here, without the lock.
        self.change(|control, methods| control.insert(methods, method.clone()))
    }

    /// Puts a handler in the place of the one that is there. Calls that the old one has begun it
    /// finishes; await the [`Retirement`] to know when.
    ///
    /// # Errors
    /// [`RouteError::NotInstalled`]; the table is as before.
    pub fn replace(&self, method: Method) -> Result<Retirement, RouteError> {
        self.change(|control, methods| {
            let retirement = Control::remove(methods, &method.name, method.version)?;
            control.insert(methods, method.clone())?;
            methods.retain(|method| !method.entries.is_empty()); // It may have another id now.
            Ok(retirement)
        })
    }

    /// Takes a (method, version) away. Calls that its handler has begun it finishes; new ones are
    /// answered UNSUPPORTED_VERSION with what is left, or UNKNOWN_METHOD after the last version
    /// (CA-3, CA-4).
    ///
    /// # Errors
    /// [`RouteError::NotInstalled`]; the table is as before.
    pub fn retire(&self, name: &str, version: u16) -> Result<Retirement, RouteError> {
        self.change(|_, methods| {
            let retirement = Control::remove(methods, name, version)?;
            methods.retain(|method| !method.entries.is_empty());
            Ok(retirement)
        })
    }

    /// Forbids versions above `ceiling`, or none: clients go back to an older contract, or
    /// forward again, on their very next call, without a deploy.
    ///
    /// # Errors
    /// [`RouteError::NotInstalled`] when there is no such method.
    pub fn set_ceiling(&self, name: &str, ceiling: Option<u16>) -> Result<(), RouteError> {
        self.change(|_, methods| {
            let method = methods.iter_mut().find(|method| &*method.name == name);
            let method = method.ok_or_else(|| not_installed(name, 0))?;
            method.ceiling = ceiling.unwrap_or(MethodRow::NO_CEILING);
            Ok(())
        })
    }

    /// Counters of every (method, version) that is or was installed, by name and version.
    #[must_use]
    pub fn stats(&self) -> Vec<MethodStats> {
        self.stats_after(None, usize::MAX)
    }

    /// [`Dispatch::stats`], at most `max` of them, those after a name and version.
    pub(crate) fn stats_after(&self, after: Option<(String, u16)>, max: usize) -> Vec<MethodStats> {
        let routes = self.routes();
        let mut methods: FlatMap<&str, &RoutedMethod> = FlatMap::new();
        for method in routes.methods() {
            methods.insert(&method.name, method);
        }
        let callable = |name: &str, version| {
            if name == FALLBACK {
                return routes.fallback().is_some();
            }
            methods.get(name).is_some_and(|method| method.callable().contains(&version))
        };
        let after = after.map(|(name, version)| (Arc::from(name), version));
        let control = self.0.control.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = control.counters.iter_after(after.as_ref()).take(max);
        let stats = counters.map(|((name, version), counters)| {
            counters.stats(Arc::clone(name), *version, callable(name, *version))
        });
        stats.collect()
    }

    #[cfg(feature = "builtin")]
    pub(crate) fn downgrade(&self) -> WeakDispatch {
        WeakDispatch(Arc::downgrade(&self.0))
    }

    /// Whether a version of one of the service's methods is callable.
    #[cfg(feature = "builtin")]
    pub(crate) fn has_service(&self, service: &str) -> bool {
        self.routes().methods().iter().any(|method| {
            let name = method.name.split_once('/');
            name.is_some_and(|(name, _)| name == service) && !method.callable().is_empty()
        })
    }

    pub(crate) fn routes(&self) -> Arc<Routes> {
        self.0.routes.load_full()
    }

    pub(crate) fn codecs(&self) -> &[Codec] {
        &self.0.codecs
    }

    /// Finds the names of methods, as they are when asked, and holds no handler for that.
    pub(crate) fn names(&self) -> impl Fn(MethodId) -> Option<Arc<str>> + Send + 'static {
        let shared = Arc::downgrade(&self.0);
        move |id| {
            let routes = shared.upgrade()?.routes.load_full();
            let fallback = || routes.fallback().map(|entry| &entry.method).filter(|m| m.id == id);
            let name = routes.method(id).map(|method| &method.name);
            name.or_else(|| Some(&fallback()?.name)).map(Arc::clone)
        }
    }

    /// Tells `listener` of every change from now on, as long as it lives (RT-5).
    pub(crate) fn subscribe(&self, listener: Weak<dyn TableListener>) {
        let mut control = self.0.control.lock().unwrap_or_else(PoisonError::into_inner);
        if control.listeners.len() == control.listeners.capacity() {
            control.listeners.retain(|listener| listener.strong_count() > 0);
        }
        control.listeners.push(listener);
    }

    fn change<T>(
        &self,
        edit: impl FnOnce(&mut Control, &mut Vec<RoutedMethod>) -> Result<T, RouteError>,
    ) -> Result<T, RouteError> {
        let mut control = self.0.control.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = self.routes();
        let mut methods = routes.methods().to_vec();
        let result = edit(&mut control, &mut methods)?;
        let routes = Routes::new(methods, routes.fallback().cloned())?;
        let before = self.0.routes.swap(Arc::new(routes));
        let listeners: Vec<_> = control.listeners.iter().filter_map(Weak::upgrade).collect();
        drop(control);
        for listener in listeners {
            listener.handle_table_change();
        }
        drop(before); // What its handlers hold is the user's, and may come here when it is dropped.
        Ok(result)
    }
}

#[cfg(feature = "builtin")]
impl WeakDispatch {
    pub(crate) fn upgrade(&self) -> Option<Dispatch> {
        self.0.upgrade().map(Dispatch)
    }
}

impl Control {
    fn insert(
        &mut self,
        methods: &mut Vec<RoutedMethod>,
        method: Method,
    ) -> Result<(), RouteError> {
        check_name(&method.name)?;
        let (id, version) = (method.id, method.version);
        if version == 0 || version == MethodRow::NO_CEILING {
            return Err(RouteError::BadVersion { name: method.name.to_string(), version });
        }
        let is_twin = |known: &&RoutedMethod| {
            known.name == method.name && known.id != id && !known.entries.is_empty()
        };
        if let Some(known) = methods.iter().find(is_twin) {
            let (name, other) = (method.name.to_string(), known.id);
            return Err(RouteError::TwoIds { name, id, other });
        }
        let at = match methods.binary_search_by_key(&id, |known| known.id) {
            Ok(at) => at,
            Err(at) => {
                let (name, ceiling) = (Arc::clone(&method.name), MethodRow::NO_CEILING);
                methods.insert(at, RoutedMethod { id, name, ceiling, entries: Vec::new() });
                at
            }
        };
        let known = &mut methods[at];
        if known.name != method.name {
            let (name, other) = (method.name.to_string(), known.name.to_string());
            return Err(RouteError::IdCollision { name, other, id });
        }
        let entries = &mut known.entries;
        let Err(at) = entries.binary_search_by_key(&version, |entry| entry.method.version) else {
            return Err(RouteError::Duplicate { name: method.name.to_string(), version });
        };
        if entries.len() == MethodRow::VERSIONS_MAX {
            let (versions, max) = (entries.len() + 1, MethodRow::VERSIONS_MAX);
            let name = method.name.to_string();
            return Err(RouteError::TooManyVersionsOfMethod { name, versions, max });
        }
        entries.insert(at, Arc::new(self.entry(method)));
        Ok(())
    }

    fn entry(&mut self, mut method: Method) -> Entry {
        for wrap in &self.wraps {
            method.handler = wrap.around(method.handler);
        }
        let key = (Arc::clone(&method.name), method.version);
        let counters = Arc::clone(self.counters.or_default(key));
        Entry { method, counters, retirement: DrainSignal::default() }
    }

    /// Takes a handler out; its method stays, with its ceiling, even without versions.
    fn remove(
        methods: &mut [RoutedMethod],
        name: &str,
        version: u16,
    ) -> Result<Retirement, RouteError> {
        let method = methods.iter_mut().find(|method| &*method.name == name);
        let method = method.ok_or_else(|| not_installed(name, version))?;
        let at = method.entries.binary_search_by_key(&version, |entry| entry.method.version);
        let at = at.map_err(|_| not_installed(name, version))?;
        Ok(method.entries.remove(at).retirement.retirement())
    }
}

impl std::fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Dispatch").field(&self.routes()).finish()
    }
}

fn not_installed(name: &str, version: u16) -> RouteError {
    RouteError::NotInstalled { name: name.to_owned(), version }
}

fn check_name(name: &str) -> Result<(), RouteError> {
    let sound = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    };
    match name.split_once('/') {
        Some((service, method)) if sound(service) && sound(method) && name.len() <= 128 => Ok(()),
        _ => Err(RouteError::BadName { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Cx, RawRequest, RawResponse, Status};

    /// Who asks for a name by the number of a handler that runs is told, the fallback's included.
    #[test]
    fn names_are_those_of_handlers() {
        let fallback = |_: Cx, request: RawRequest| async move {
            Ok::<_, Status>(RawResponse::new(request.codec, request.payload))
        };
        let dispatch = Router::new().fallback(fallback).into_dispatch().unwrap();
        let id = dispatch.routes().fallback().map(|entry| entry.method.id);

        assert_eq!(dispatch.names()(id.unwrap()).as_deref(), Some(FALLBACK));
        assert_eq!(dispatch.names()(MethodId::of("no/such")), None);
    }
}

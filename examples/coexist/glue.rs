//! From the contract's traits to methods and stubs, by hand: the interface without macros.
//!
//! Invariants: the stub of a method and its handler name the same version with the same types;
//! a client speaks every version it knows and takes the best one that its server serves.

use std::sync::{Arc, LazyLock};

use switchback::service::{Fingerprint, Service, convert_result, upgrade_request};
use switchback::{Call, CallError, Channel, Cx, Method, Schema, Stub};

use crate::contract::{DOWNLOAD, FIND};
use crate::contract::{Download, DownloadV1, Find, Found, FoundV1, Receipt, ReceiptV1};
use crate::contract::{Packages, PackagesError, PackagesV1};

/// Calls the service as an old program does.
#[derive(Clone, Debug)]
pub(crate) struct PackagesV1Client(Channel);

/// Calls the service as a new program does: in version 2, or 1 where there is no other.
#[derive(Clone, Debug)]
pub(crate) struct PackagesClient(Channel);

/// Serves the service as an old program does.
#[derive(Debug)]
pub(crate) struct PackagesV1Server<T>(T);

/// Serves the service as a new program does: version 2, and version 1 by conversion.
#[derive(Debug)]
pub(crate) struct PackagesServer<T>(T);

impl PackagesV1Client {
    /// Calls over this channel.
    pub(crate) const fn new(channel: Channel) -> Self {
        Self(channel)
    }

    /// Looks a package up.
    pub(crate) fn find(&self, request: Find) -> Call<Find, FoundV1, PackagesError> {
        self.0.call(&FIND_OLD, request)
    }

    /// Counts a download.
    pub(crate) fn download(
        &self,
        request: DownloadV1,
    ) -> Call<DownloadV1, ReceiptV1, PackagesError> {
        self.0.call(&DOWNLOAD_OLD, request)
    }
}

impl PackagesClient {
    /// Calls over this channel.
    pub(crate) const fn new(channel: Channel) -> Self {
        Self(channel)
    }

    /// Looks a package up.
    pub(crate) fn find(&self, request: Find) -> Call<Find, Found, PackagesError> {
        self.0.call(&FIND_NEW, request)
    }

    /// Counts downloads.
    pub(crate) fn download(&self, request: Download) -> Call<Download, Receipt, PackagesError> {
        self.0.call(&DOWNLOAD_NEW, request)
    }
}

impl<T: PackagesV1> PackagesV1Server<T> {
    /// Serves with these handlers.
    pub(crate) const fn new(handlers: T) -> Self {
        Self(handlers)
    }
}

impl<T: Packages> PackagesServer<T> {
    /// Serves with these handlers.
    pub(crate) const fn new(handlers: T) -> Self {
        Self(handlers)
    }
}

impl<T: PackagesV1> Service for PackagesV1Server<T> {
    fn into_methods(self) -> Vec<Method> {
        let handlers = Arc::new(self.0);
        let for_find = Arc::clone(&handlers);
        let find = Method::new(FIND, 1, move |cx: Cx, request: Find| {
            let handlers = Arc::clone(&for_find);
            async move { handlers.find(&cx, request).await.map_err(CallError::App) }
        });
        let download = Method::new(DOWNLOAD, 1, move |cx: Cx, request: DownloadV1| {
            let handlers = Arc::clone(&handlers);
            async move { handlers.download(&cx, request).await.map_err(CallError::App) }
        });
        vec![
            find.fingerprint(fingerprint::<Find, FoundV1>()),
            download.fingerprint(fingerprint::<DownloadV1, ReceiptV1>()),
        ]
    }
}

impl<T: Packages> Service for PackagesServer<T> {
    fn into_methods(self) -> Vec<Method> {
        let handlers = Arc::new(self.0);
        [find_methods(&handlers), download_methods(&handlers)].concat()
    }
}

fn find_methods<T: Packages>(handlers: &Arc<T>) -> Vec<Method> {
    let (for_new, for_old) = (Arc::clone(handlers), Arc::clone(handlers));
    let new = Method::new(FIND, 2, move |cx: Cx, request: Find| {
        let handlers = Arc::clone(&for_new);
        async move { handlers.find(&cx, request).await.map_err(CallError::App) }
    });
    let old = Method::try_new(FIND, 1, move |cx: Cx, request: Find| {
        let handlers = Arc::clone(&for_old);
        let request = upgrade_request::<Find, Find>(request)?;
        Ok(async move {
            let answer = handlers.find(&cx, request).await.map_err(CallError::App);
            convert_result::<Found, FoundV1, PackagesError, PackagesError>(answer)
        })
    });
    vec![
        new.fingerprint(fingerprint::<Find, Found>()),
        old.fingerprint(fingerprint::<Find, FoundV1>()),
    ]
}

fn download_methods<T: Packages>(handlers: &Arc<T>) -> Vec<Method> {
    let (for_new, for_old) = (Arc::clone(handlers), Arc::clone(handlers));
    let new = Method::new(DOWNLOAD, 2, move |cx: Cx, request: Download| {
        let handlers = Arc::clone(&for_new);
        async move { handlers.download(&cx, request).await.map_err(CallError::App) }
    });
    let old = Method::try_new(DOWNLOAD, 1, move |cx: Cx, request: DownloadV1| {
        let handlers = Arc::clone(&for_old);
        let request = upgrade_request::<DownloadV1, Download>(request)?;
        Ok(async move {
            let answer = handlers.download(&cx, request).await.map_err(CallError::App);
            convert_result::<Receipt, ReceiptV1, PackagesError, PackagesError>(answer)
        })
    });
    vec![
        new.fingerprint(fingerprint::<Download, Receipt>()),
        old.fingerprint(fingerprint::<DownloadV1, ReceiptV1>()),
    ]
}

fn fingerprint<Request: Schema, Response: Schema>() -> Fingerprint {
    Fingerprint::of_method::<Request, Response, PackagesError>()
}

static FIND_OLD: LazyLock<Stub<Find, FoundV1, PackagesError>> =
    LazyLock::new(|| Stub::new(FIND, 1, fingerprint::<Find, FoundV1>()).idempotent());
static DOWNLOAD_OLD: LazyLock<Stub<DownloadV1, ReceiptV1, PackagesError>> =
    LazyLock::new(|| Stub::new(DOWNLOAD, 1, fingerprint::<DownloadV1, ReceiptV1>()));
static FIND_NEW: LazyLock<Stub<Find, Found, PackagesError>> = LazyLock::new(|| {
    Stub::new(FIND, 2, fingerprint::<Find, Found>())
        .compat::<Find, FoundV1, PackagesError>(1, fingerprint::<Find, FoundV1>())
        .idempotent()
});
static DOWNLOAD_NEW: LazyLock<Stub<Download, Receipt, PackagesError>> = LazyLock::new(|| {
    Stub::new(DOWNLOAD, 2, fingerprint::<Download, Receipt>())
        .compat::<DownloadV1, ReceiptV1, PackagesError>(1, fingerprint::<DownloadV1, ReceiptV1>())
});

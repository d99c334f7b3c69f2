//! The handlers: one type for each version, over one stock, so that both worlds count together.
//!
//! Invariants: the ledger has the start of an execution before anything is done and its end
//! before the answer may leave, also when its future is dropped; a download is counted once for
//! each execution and never without one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use switchback::Cx;

use crate::clock::{Clock, us};
use crate::contract::{CallKey, DOWNLOAD, Execution, FIND};
use crate::contract::{Download, DownloadV1, Find, Found, FoundV1, Receipt, ReceiptV1};
use crate::contract::{Packages, PackagesError, PackagesV1};
use crate::ledger::{How, ServerLog, Start};
use crate::packages::Package;

/// What all handlers of one server share.
#[derive(Debug)]
pub(crate) struct Stock {
    packages: crate::packages::Packages,
    /// Copies downloaded, by the number of the package.
    totals: Vec<AtomicU64>,
    log: ServerLog,
    instance: u64,
    clock: Clock,
}

/// The handlers of version 1, as an old program has them.
#[derive(Debug)]
pub(crate) struct OldShop {
    desk: Desk,
}

/// The handlers of version 2.
#[derive(Debug)]
pub(crate) struct NewShop {
    desk: Desk,
}

/// Where executions are written down: one for each build of the handlers.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    stock: Arc<Stock>,
    build: u32,
    /// Executions that have begun and not ended.
    running: Arc<AtomicU64>,
}

/// An execution; dropped early, it is written down as such.
struct Running<'a> {
    desk: &'a Desk,
    by: Execution,
    is_over: bool,
}

impl Stock {
    /// Nothing downloaded yet.
    pub(crate) fn new(packages: crate::packages::Packages, log: ServerLog, instance: u64) -> Self {
        let totals = std::iter::repeat_with(AtomicU64::default).take(packages.len()).collect();
        Self { packages, totals, log, instance, clock: Clock::start() }
    }

    /// Copies of all packages counted so far.
    pub(crate) fn downloads(&self) -> u64 {
        self.totals.iter().map(|total| total.load(Ordering::Relaxed)).sum()
    }

    /// Ends the ledger in good order.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn close(&self) -> std::io::Result<()> {
        self.log.close()
    }

    /// Now, in the time of this server.
    pub(crate) const fn clock(&self) -> Clock {
        self.clock
    }
}

impl OldShop {
    /// Works at this desk.
    pub(crate) const fn new(desk: Desk) -> Self {
        Self { desk }
    }
}

impl NewShop {
    /// Works at this desk.
    pub(crate) const fn new(desk: Desk) -> Self {
        Self { desk }
    }
}

impl Desk {
    /// A desk for build `build` of the handlers.
    pub(crate) fn new(stock: Arc<Stock>, build: u32) -> Self {
        Self { stock, build, running: Arc::default() }
    }

    /// A desk for build `build` over the same stock.
    pub(crate) fn next(&self, build: u32) -> Self {
        Self::new(Arc::clone(&self.stock), build)
    }

    /// What is counted and written down here.
    pub(crate) fn stock(&self) -> &Stock {
        &self.stock
    }

    /// Executions that have begun and not ended.
    pub(crate) fn running(&self) -> u64 {
        self.running.load(Ordering::SeqCst)
    }

    fn begin(&self, cx: &Cx, key: CallKey, method: &str) -> Result<Running<'_>, PackagesError> {
        let now_us = self.stock.clock.now_us();
        let start = Start {
            client: key.client,
            seq: key.seq,
            attempt: cx.attempt().into(),
            method,
            version: cx.version(),
            started_at_us: now_us,
            deadline_at_us: now_us.saturating_add(us(cx.remaining())),
        };
        let started = self.stock.log.start(start);
        let nonce = started.map_err(|error| PackagesError::Ledger(error.to_string()))?;
        let (instance, version) = (self.stock.instance, cx.version());
        self.running.fetch_add(1, Ordering::SeqCst);
        let by = Execution { nonce, key, instance, version, build: self.build };
        Ok(Running { desk: self, by, is_over: false })
    }

    fn package(&self, name: &str) -> Result<(usize, &Package), PackagesError> {
        let found = self.stock.packages.find(name);
        found.ok_or_else(|| PackagesError::Unknown(name.to_owned()))
    }

    /// Counts, after a turn of the scheduler: what a handler does that waits for its disk.
    async fn count(&self, at: usize, copies: u64) -> u64 {
        tokio::task::yield_now().await;
        self.stock.totals[at].fetch_add(copies, Ordering::Relaxed) + copies
    }
}

impl Running<'_> {
    /// Writes the end down; what it returns may leave.
    fn end<T>(mut self, result: Result<T, PackagesError>) -> Result<(Execution, T), PackagesError> {
        let how = if result.is_ok() { How::Ok } else { How::Err };
        self.write_end(how).map_err(|error| PackagesError::Ledger(error.to_string()))?;
        result.map(|value| (self.by, value))
    }

    fn write_end(&mut self, how: How) -> std::io::Result<()> {
        self.is_over = true;
        let stock = &self.desk.stock;
        let written = stock.log.finish(self.by.nonce, how, stock.clock.now_us());
        self.desk.running.fetch_sub(1, Ordering::SeqCst);
        written
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let how = if std::thread::panicking() { How::Panic } else { How::Dropped };
            // Without its end the ledger has the execution as unfinished, which is judged too.
            let _unwritten = self.write_end(how);
        }
    }
}

impl PackagesV1 for OldShop {
    async fn find(&self, cx: &Cx, request: Find) -> Result<FoundV1, PackagesError> {
        let running = self.desk.begin(cx, request.key, FIND)?;
        let (by, (_, package)) = running.end(self.desk.package(&request.name))?;
        Ok(FoundV1 { by, name: package.name.clone(), version: package.version.clone() })
    }

    async fn download(&self, cx: &Cx, request: DownloadV1) -> Result<ReceiptV1, PackagesError> {
        let running = self.desk.begin(cx, request.key, DOWNLOAD)?;
        let found = match self.desk.package(&request.name) {
            Ok((at, package)) => Ok((package, self.desk.count(at, 1).await)),
            Err(error) => Err(error),
        };
        let (by, (package, total)) = running.end(found)?;
        let (name, version) = (package.name.clone(), package.version.clone());
        Ok(ReceiptV1 { by, name, version, total })
    }
}

impl Packages for NewShop {
    async fn find(&self, cx: &Cx, request: Find) -> Result<Found, PackagesError> {
        let running = self.desk.begin(cx, request.key, FIND)?;
        let (by, (_, package)) = running.end(self.desk.package(&request.name))?;
        Ok(Found { by, fields: package.fields.clone() })
    }

    async fn download(&self, cx: &Cx, request: Download) -> Result<Receipt, PackagesError> {
        let running = self.desk.begin(cx, request.key, DOWNLOAD)?;
        let found = match self.desk.package(&request.name) {
            Ok((at, package)) => Ok((package, self.desk.count(at, request.copies).await)),
            Err(error) => Err(error),
        };
        let (by, (package, total)) = running.end(found)?;
        Ok(Receipt { by, fields: package.fields.clone(), total })
    }
}

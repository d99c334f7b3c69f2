//! A server process: version 1 alone, or both versions; handlers change on order.
//!
//! ```text
//!                  find                             download
//!   version 1      the new handler, by conversion   the old handler, beside the new one
//!   version 2      the new handler                  the new handler
//! ```
//!
//! Both ways to keep old clients are shown: types that convert, and code that is kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchback::service::Service as _;
use switchback::{Dispatch, ErrorKind, Method, Server, ServerConfig};
use tokio::sync::{mpsc, oneshot};

use crate::World;
use crate::contract::{DOWNLOAD, FIND, PackagesServer, PackagesV1Server};
use crate::ledger::ServerLog;
use crate::packages::Packages;
use crate::shop::{Desk, NewShop, OldShop, Stock};
use crate::words::{Order, Replaced, ServerReport, Word, orders, say};

/// How to run a server process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ServerTask {
    /// Which versions it has.
    pub(crate) world: World,
    /// Its number in the ledger.
    pub(crate) instance: u64,
    /// Where to listen.
    pub(crate) address: String,
    /// The build of the version 2 handlers that it begins with.
    pub(crate) build: u32,
    /// The file with the packages.
    pub(crate) packages: PathBuf,
    /// The ledger to write.
    pub(crate) log: PathBuf,
}

/// Serves until it is told to stop.
///
/// # Errors
/// If it cannot serve, or its director is gone.
pub(crate) async fn run(task: ServerTask) -> Result<(), crate::Failure> {
    let packages = Packages::load(&task.packages)?;
    let log = ServerLog::create(&task.log, task.instance)?;
    let stock = Arc::new(Stock::new(packages, log, task.instance));
    let mut shop =
        Shopkeeper { desk: Desk::new(Arc::clone(&stock), task.build), build: task.build };

    let mut config = ServerConfig::default();
    config.build = format!("coexist {}", task.world.name());
    let server = methods(task.world, &stock, shop.methods());
    let server = server.into_iter().fold(Server::new().config(config), Server::method);

    let mut orders = orders()?;
    let bound = server.bind(&task.address).await?;
    say(&Word::Listening(bound.url()))?;
    let dispatch = bound.dispatch();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(bound.serve_until(async {
        // Told to, or left alone: the end is the same.
        let _either = stopped.await;
    }));
    obey(&mut orders, &mut shop, &dispatch).await?;
    drop(stop);
    let cut = match serving.await? {
        Ok(_drained) => 0,
        Err(error) => match error.kind() {
            ErrorKind::DrainTimeout { connections, .. } => *connections,
            _ => return Err(error.into()),
        },
    };
    let downloads = stock.downloads();
    stock.close()?;
    say(&Word::Stopped(ServerReport { instance: task.instance, downloads, cut }))?;
    Ok(())
}

/// What a server of this world has, with the handlers of version 2 as `newest`.
fn methods(world: World, stock: &Arc<Stock>, newest: Vec<Method>) -> Vec<Method> {
    let old = PackagesV1Server::new(OldShop::new(Desk::new(Arc::clone(stock), 1)));
    match world {
        World::V1 => old.into_methods(),
        World::V2 => {
            let by_conversion = PackagesServer::new(NewShop::new(Desk::new(Arc::clone(stock), 1)));
            let find = only(by_conversion.into_methods(), FIND, 1);
            newest.into_iter().chain(find).chain(only(old.into_methods(), DOWNLOAD, 1)).collect()
        }
    }
}

/// What a server of this world has, its version 2 handlers in their first build.
#[cfg(feature = "json")]
pub(crate) fn first_methods(world: World, stock: &Arc<Stock>) -> Vec<Method> {
    let shop = Shopkeeper { desk: Desk::new(Arc::clone(stock), 1), build: 1 };
    methods(world, stock, shop.methods())
}

/// Follows orders until the one to stop.
async fn obey(
    orders: &mut mpsc::UnboundedReceiver<std::io::Result<Order>>,
    shop: &mut Shopkeeper,
    dispatch: &Dispatch,
) -> Result<(), crate::Failure> {
    loop {
        match orders.recv().await.ok_or("the director is gone")?? {
            Order::Replace => say(&Word::Replaced(shop.replace(dispatch).await?))?,
            Order::Ceiling(ceiling) => {
                dispatch.set_ceiling(FIND, ceiling)?;
                dispatch.set_ceiling(DOWNLOAD, ceiling)?;
                say(&Word::CeilingSet)?;
            }
            Order::Stop => return Ok(()),
            other @ (Order::Begin | Order::Phase(_) | Order::Finish) => {
                return Err(format!("{other:?} is no order for a server").into());
            }
        }
    }
}

/// Knows which build of the version 2 handlers is installed.
struct Shopkeeper {
    desk: Desk,
    build: u32,
}

impl Shopkeeper {
    /// Puts the next build in the place of this one, and waits until this one has ended.
    async fn replace(&mut self, dispatch: &Dispatch) -> Result<Replaced, crate::Failure> {
        let old = self.desk.clone();
        self.build += 1;
        self.desk = old.next(self.build);
        let clock = old.stock().clock();
        let before_us = clock.now_us();
        let running = old.running();
        let mut retirements = Vec::new();
        for method in self.methods() {
            retirements.push(dispatch.replace(method)?);
        }
        let drained = async {
            for retirement in retirements {
                retirement.await;
            }
        };
        let is_drained = tokio::time::timeout(DRAIN_MAX, drained).await.is_ok();
        let drained_us = clock.now_us() - before_us;
        let left = old.running();
        Ok(Replaced { build: self.build, running, is_drained, left, drained_us })
    }

    /// Version 2 of both methods, in this build.
    fn methods(&self) -> Vec<Method> {
        let mut methods = PackagesServer::new(NewShop::new(self.desk.clone())).into_methods();
        methods.retain(|method| method.version() == 2);
        methods
    }
}

/// One (method, version) of a service.
fn only(methods: Vec<Method>, name: &str, version: u16) -> impl Iterator<Item = Method> {
    methods.into_iter().filter(move |method| method.name() == name && method.version() == version)
}

/// Handlers take microseconds: one that takes so long will never end.
const DRAIN_MAX: Duration = Duration::from_secs(5);

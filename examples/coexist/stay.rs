//! Both servers in one process, until Ctrl-C: something to try the command line against.
//!
//! Server v1 has version 1 of the service, server v2 has versions 1 and 2, as in the run. Both have
//! JSON, reflection, health and counters.
//!
//! Invariant: executions are written into ledgers as in the run; the folder goes when this ends.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use switchback::builtin::Health;
use switchback::{Server, ServerConfig};

use crate::World;
use crate::ledger::ServerLog;
use crate::packages::Packages;
use crate::server::first_methods;
use crate::shop::Stock;

/// Serves until it is interrupted.
///
/// # Errors
/// If it cannot serve.
pub(crate) async fn run(folder: &Path) -> Result<(), crate::Failure> {
    let (text, _source) = Packages::text_of_machine();
    let (old, old_url) = serve(World::V1, &text, folder).await?;
    let (new, new_url) = serve(World::V2, &text, folder).await?;
    let packages = Packages::parse(&text);
    let name = &packages.at(0).name;
    let request = format!("{{\"key\":{{\"client\":1,\"seq\":1}},\"name\":{name:?}}}");
    writeln!(
        io::stdout(),
        "server v1, version 1 of demo.Packages       {old_url}\n\
         server v2, versions 1 and 2                 {new_url}\n\n\
         Ctrl-C ends both. Meanwhile, elsewhere:\n  \
         switchback list {new_url}\n  \
         switchback describe {new_url} demo.Packages/find\n  \
         switchback call {new_url} demo.Packages/find '{request}'\n  \
         switchback bench {new_url} demo.Packages/find '{request}'\n  \
         switchback check {new_url} --lock /tmp/packages.lock --write\n  \
         switchback check {old_url} --lock /tmp/packages.lock"
    )?;
    crate::interrupted().await?;
    for (stop, serving) in [old, new] {
        drop(stop);
        serving.await??;
    }
    Ok(())
}

type Serving = tokio::task::JoinHandle<Result<switchback::server::Drained, switchback::Error>>;

/// A server, and what ends it when it is dropped.
async fn serve(
    world: World,
    packages: &str,
    folder: &Path,
) -> Result<((tokio::sync::oneshot::Sender<()>, Serving), String), crate::Failure> {
    let instance = u64::from(world.newest());
    let log = ServerLog::create(&folder.join(world.name()), instance)?;
    let stock = Arc::new(Stock::new(Packages::parse(packages), log, instance));
    let mut config = ServerConfig::default();
    config.build = format!("coexist {}", world.name());
    let methods = first_methods(world, &stock).into_iter();
    let server = methods.fold(Server::new().config(config), Server::method);
    let server = server.health(Health::new()).reflection().counters();
    let bound = server.bind("tcp://127.0.0.1:0").await?;
    let url = bound.url();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(bound.serve_until(async {
        // Told to, or left alone: the end is the same.
        let _either = stopped.await;
    }));
    Ok(((stop, serving), url))
}

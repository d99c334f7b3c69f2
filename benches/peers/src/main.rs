//! Other RPC crates beside switchback: one binary that is server, client and what compares them.
//!
//!   peers list
//!   peers serve PEER    [--runtime ct|mt2] [--listen ADDRESS] [--count]
//!   peers load PEER WORKLOAD --server ADDRESS --control ADDRESS [--runtime ct|mt2]
//!                       [--warm-up-ms N] [--measured-ms N] [--count]
//!   peers run           [--quick] [--rounds N] [--peers A,B] [--workloads A,B] [--runtimes ct,mt2]
//!                       [--cores SERVER:CLIENT] [--warm-up-ms N] [--measured-ms N] [--sends A,B]
//!                       [--results FILE] [--plot FILE]
//!
//! `serve` and `load` are for debugging and for profilers; `run` starts them for every round.

mod alloc;
mod caller;
mod fault;
mod flags;
mod load;
mod message;
mod peers;
mod plot;
mod process;
mod results;
mod row;
mod run;
mod runtime;
mod sends;
mod serve;
mod table;
mod targets;
mod usage;
mod workload;

use std::process::ExitCode;
use std::time::Duration;

use crate::fault::Fault;
use crate::flags::Flags;
use crate::load::Order;
use crate::runtime::Flavour;
use crate::serve::ServeAt;
use crate::workload::Workload;

#[global_allocator]
static ALLOCATOR: alloc::Counted = alloc::Counted;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("peers: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), Fault> {
    let mut flags = Flags::parse(std::env::args().skip(1))?;
    match flags.word("what to do: list, serve, load or run")?.as_str() {
        "list" => {
            flags.end()?;
            println!("{}", peers::NAMES.join("\n"));
            Ok(())
        }
        "serve" => serve(flags),
        "load" => load(flags),
        "run" => run::run(flags),
        other => Err(Fault::new(format!("no `{other}`; there are list, serve, load and run"))),
    }
}

fn serve(mut flags: Flags) -> Result<(), Fault> {
    let peer = flags.word("the peer to serve")?;
    let flavour = flags.value_or("runtime", Flavour::Mt2)?;
    let at = flags.value_or("listen", ([127, 0, 0, 1], 0).into())?;
    count_if(&mut flags);
    flags.end()?;
    runtime::allow_files()?;
    flavour.run(peers::visit(&peer, ServeAt(at)))??.map_err(|fault| fault.at(&peer))
}

fn load(mut flags: Flags) -> Result<(), Fault> {
    let peer = flags.word("the peer to load")?;
    let workload = Workload::named(&flags.word("the workload")?)?;
    let flavour = flags.value_or("runtime", Flavour::Mt2)?;
    let order = Order {
        workload,
        server: flags.value("server")?,
        control: flags.value("control")?,
        warm_up: Duration::from_millis(flags.value_or("warm-up-ms", 200)?),
        measured: Duration::from_millis(flags.value_or("measured-ms", 1_000)?),
    };
    count_if(&mut flags);
    flags.end()?;
    runtime::allow_files()?;
    let round = flavour.run(peers::visit(&peer, order))??;
    let place = format!("{peer}, workload {}", workload.name);
    println!("{}", serde_json::to_string(&round.map_err(|fault| fault.at(&place))?)?);
    Ok(())
}

fn count_if(flags: &mut Flags) {
    if flags.is_set("count") {
        alloc::count();
    }
}

//! The first page: a service, a server, a call. The README shows the same lines.
//!
//! ```text
//!   cargo run --example hello
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use switchback::{Cx, Server};

#[switchback::service(name = "demo.Greeter")]
trait Greeter {
    #[rpc(version = 1, idempotent)]
    async fn greet(&self, cx: &Cx, name: String) -> String;
}

struct Polite;

impl Greeter for Polite {
    async fn greet(&self, _cx: &Cx, name: String) -> String {
        format!("good day, {name}")
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::new().service(GreeterServer::new(Polite));
    let server = server.bind("tcp://127.0.0.1:0").await?;
    let greeter = GreeterClient::lazy(&server.url())?;
    tokio::spawn(server.serve_until(std::future::pending()));
    println!("{}", greeter.greet("Ada".into()).await?);
    Ok(())
}

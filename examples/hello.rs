//! The first page: a service, a server, a call.
//!
//! ```text
//!   cargo run --example hello
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use serde::{Deserialize, Serialize};
use switchback::{Cx, Schema, Server};

#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
struct Greet {
    name: String,
}

#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
struct Greeting {
    text: String,
}

#[switchback::service(name = "demo.Greeter")]
trait Greeter {
    #[rpc(version = 1, idempotent)]
    async fn greet(&self, cx: &Cx, req: Greet) -> Greeting;
}

struct Polite;

impl Greeter for Polite {
    async fn greet(&self, _cx: &Cx, req: Greet) -> Greeting {
        Greeting { text: format!("good day, {}", req.name) }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server =
        Server::new().service(GreeterServer::new(Polite)).bind("tcp://127.0.0.1:0").await?;
    let address = server.url();
    tokio::spawn(server.serve_until(std::future::pending()));

    let greeter = GreeterClient::connect(&address).await?;
    println!("{}", greeter.greet(Greet { name: "Ada".into() }).await?.text);
    Ok(())
}

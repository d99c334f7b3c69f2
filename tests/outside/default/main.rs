//! A user's crate with the default features: a trait, a server, a client, one call over TCP.

use serde::{Deserialize, Serialize};
use switchback::{Cx, Schema, Server};

/// What is asked.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub struct Greet {
    name: String,
}

/// What is answered.
#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub struct Greeting {
    text: String,
}

#[switchback::service(name = "outside.Greeter")]
pub trait Greeter {
    /// Says hello.
    #[rpc(version = 1)]
    async fn greet(&self, cx: &Cx, req: Greet) -> Greeting;
}

struct Polite;

impl Greeter for Polite {
    async fn greet(&self, _cx: &Cx, req: Greet) -> Greeting {
        Greeting { text: format!("good day, {}", req.name) }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server =
        Server::new().service(GreeterServer::new(Polite)).bind("tcp://127.0.0.1:0").await?;
    let address = server.url();
    tokio::spawn(server.serve_until(std::future::pending()));

    let greeter = GreeterClient::connect(&address).await?;
    let answer = greeter.greet(Greet { name: "Ada".into() }).await?;
    assert_eq!(answer, Greeting { text: "good day, Ada".into() });
    println!("ok");
    Ok(())
}

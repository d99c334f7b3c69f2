//! Code around every call: who calls, how much at a time, what is logged, and tokens that expire.
//!
//! ```text
//!   cargo run --example interceptor
//!
//!   client   Limit (per call) > retries > Tokens (per attempt) > connection
//!   server   Audit > Authenticate > the handler, which finds a typed `User`
//! ```
//!
//! What an interceptor refuses was not executed, and its caller is told so. An interceptor that let
//! a call pass is told its end, whatever that is.

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use switchback::{
    AttemptInterceptor, CallError, Channel, ClientCx, ClientInterceptor, Code, Cx, Disposition,
    Ended, Hook, Schema, Server, ServerInterceptor, Status,
};
use tokio::sync::Semaphore;

/// An order, which has to be paid for.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
struct Order {
    item: String,
}

#[switchback::service(name = "demo.Shop")]
trait Shop {
    /// Says who has ordered what.
    #[rpc(version = 1)]
    async fn order(&self, cx: &Cx, req: Order) -> Result<String, Status>;
}

/// Who calls, as the server has found out.
struct User {
    name: String,
}

struct Counter;

impl Shop for Counter {
    async fn order(&self, cx: &Cx, req: Order) -> Result<String, Status> {
        let user = cx.extensions().get::<User>();
        let user = user.ok_or_else(|| Status::new(Code::UNAUTHENTICATED, "nobody"))?;
        cx.add_response_metadata("receipt", b"no. 17")?;
        Ok(format!("{} has ordered {}", user.name, req.item))
    }
}

/// Finds out who calls. A real one would ask a key server here; the call's deadline bounds it.
struct Authenticate;

impl ServerInterceptor for Authenticate {
    fn name(&self) -> &'static str {
        "authenticate"
    }

    fn before<'a>(&'a self, cx: &'a mut Cx) -> Hook<'a> {
        Hook::wait(async move {
            tokio::task::yield_now().await;
            let token = cx.metadata().get("token").unwrap_or_default();
            let name = match token {
                b"ada:2" => "Ada",
                // Refused as if by load: the client comes again, with a token of its next attempt.
                b"ada:1" => return Err(Status::new(Code::UNAVAILABLE, "the token has expired")),
                _ => return Err(Status::new(Code::UNAUTHENTICATED, "no token")),
            };
            cx.extensions_mut().insert(User { name: name.to_owned() });
            Ok(())
        })
    }
}

/// Says what was called, and how it ended.
struct Audit;

impl ServerInterceptor for Audit {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn before<'a>(&'a self, cx: &'a mut Cx) -> Hook<'a> {
        println!("  server: {} v{}, attempt {}", cx.method_name(), cx.version(), cx.attempt());
        Hook::pass()
    }

    fn after(&self, cx: &Cx, ended: &Ended) {
        println!("  server: {} ended: {}", cx.method_name(), ended.code());
    }
}

/// A fresh token for each attempt.
#[derive(Default)]
struct Tokens(AtomicU32);

impl AttemptInterceptor for Tokens {
    fn name(&self) -> &'static str {
        "tokens"
    }

    fn before<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a> {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        Hook::ready(cx.add_metadata("token", format!("ada:{number}").as_bytes()))
    }
}

/// So many calls at a time, retries and rests included; others wait for their turn.
struct Limit(Arc<Semaphore>);

impl ClientInterceptor for Limit {
    fn name(&self) -> &'static str {
        "limit"
    }

    fn before<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a> {
        Hook::wait(async move {
            let permit = Arc::clone(&self.0).acquire_owned().await;
            let permit = permit.map_err(|_| Status::new(Code::UNAVAILABLE, "closed"))?;
            cx.extensions_mut().insert(permit); // Released when the call has ended.
            Ok(())
        })
    }

    fn after(&self, cx: &ClientCx, ended: &Ended) {
        let (name, code, attempts) = (cx.method_name(), ended.code(), ended.attempts);
        println!("  client: {name} ended: {code} after {attempts} attempts");
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::new()
        .service(ShopServer::new(Counter))
        .interceptor(Audit)
        .interceptor(Authenticate)
        .bind("tcp://127.0.0.1:0")
        .await?;
    let url = server.url();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve_until(async { drop(stopped.await) }));

    println!("with a token that has expired at first:");
    let limit = Arc::new(Semaphore::new(1));
    let channel = Channel::builder()
        .interceptor(Limit(Arc::clone(&limit)))
        .attempt_interceptor(Tokens::default())
        .connect(&url)
        .await?;
    let shop = ShopClient::new(channel);
    let order = Order { item: "a teapot".to_owned() };
    let (answer, metadata) = shop.order(order.clone()).with_metadata().await;
    println!("{}; receipt: {:?}", answer?, metadata.get("receipt").map(String::from_utf8_lossy));
    assert_eq!(limit.available_permits(), 1, "the permit went with the call");

    println!("without a token:");
    let stranger = ShopClient::connect(&url).await?;
    let refused = stranger.order(order).await;
    let Err(CallError::Rpc(status)) = refused else { return Err("it was let in".into()) };
    println!("{status}");
    assert_eq!(status.code(), Code::UNAUTHENTICATED);
    assert_eq!(status.disposition(), Disposition::NotProcessed);

    drop((shop, stranger));
    let _asked = stop.send(());
    serving.await??;
    Ok(())
}

//! The macros of switchback. Use them through that crate, which re-exports them.
//!
//! Only entry points are here; what a macro does is in the module of its name.

use proc_macro::TokenStream;

mod schema;
mod service;

/// Implements `switchback::Schema`: the type's layout on the wire, as text.
///
/// Reads serde's attributes and follows `rename`, `rename_all`, `rename_all_fields`, `skip` and
/// `transparent`. Refuses what a compact codec cannot carry: `flatten`, `untagged`, `tag`,
/// `skip_serializing_if`. An encoding that is not the type's own, such as `with` or `from`, needs a
/// name: `#[schema(opaque = "uuid.v1")]` on the field or the type.
#[proc_macro_derive(Schema, attributes(schema))]
pub fn derive_schema(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    schema::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Turns a trait of versioned methods into a service: the trait, its server and its client.
///
/// ```ignore
/// #[switchback::service(name = "bank.Ledger")]
/// pub trait Ledger {
///     /// Moves money between two accounts.
///     #[rpc(version = 2, idempotent, timeout = "2s")]
///     #[compat(1, req = TransferV1, resp = ReceiptV1, err = LedgerErrorV1)]
///     async fn transfer(&self, cx: &Cx, req: Transfer) -> Result<Receipt, LedgerError>;
///
///     #[rpc(version = 1, blocking)]
///     fn audit(&self, cx: &Cx, req: Audit) -> Report;
/// }
///
/// impl Ledger for Bank {
///     async fn transfer(&self, cx: &Cx, req: Transfer) -> Result<Receipt, LedgerError> { .. }
///     fn audit(&self, cx: &Cx, req: Audit) -> Report { .. }
/// }
///
/// let server = Server::new().service(LedgerServer::new(Bank::open()?));
/// let ledger = LedgerClient::connect("tcp://127.0.0.1:7400").await?;
/// let receipt = ledger.transfer(Transfer { .. }).await?;
/// ```
///
/// # What it makes
///
/// | item | |
/// |---|---|
/// | `trait Ledger: Send + Sync + 'static` | implemented with plain `async fn` |
/// | `struct LedgerServer<S>` | a `Service`, from `new(S)` or `from_arc(Arc<S>)` |
/// | `struct LedgerClient` | `connect`, `lazy`, `new`, `channel`, one function for each method |
/// | `struct LedgerMock` | with `mock`: a `Service` whose answers a test gives |
///
/// All of them are as visible as the trait is written. A method's doc comment and `#[deprecated]`
/// stand on the client's function too; `#[cfg]` on the trait or on a method holds for all that is
/// made of it. `name` is the service's name on the wire; without it, it is the trait's. Names on
/// the wire are of `A-Z a-z 0-9 . _ -`, and `service/method` is at most 128 bytes.
///
/// # `mock`
///
/// `#[service(name = "bank.Ledger", mock)]` makes a mock too, where switchback's feature `testing`
/// is on; elsewhere it makes nothing, so a contract may say it and leave the feature to its tests.
/// For each method there are a function that takes a closure from the request to the answer, and
/// one that takes a closure to a future. A method without an answer gives UNIMPLEMENTED.
///
/// ```ignore
/// let mock = LedgerMock::new()
///     .transfer(|req| Ok(Receipt { .. }))                 // or Err(CallError::App(..)), Rpc(..)
///     .audit_with(|cx, req| async move { Report { .. } });
/// let ledger: LedgerClient = mock.client();               // connected, over memory
/// ledger.transfer(Transfer { .. }).await?;
/// assert_eq!(mock.calls("transfer"), 1);
/// let server = Server::new().service(mock.clone());       // or served like any other
/// ```
///
/// | return type | a closure gives |
/// |---|---|
/// | `T` | `T` |
/// | `Result<T, E>` | `Result<T, CallError<E>>` |
/// | `Result<T, Status>` | `Result<T, Status>` |
///
/// # Methods
///
/// `async fn name(&self, cx: &Cx, req: Request) -> Response`: `&self`, `&Cx` and one request, an
/// owned type. No parameters, lifetimes, default bodies, associated types or constants. What the
/// method gives is read from the text of its return type:
///
/// | return type | the handler answers | a call's error |
/// |---|---|---|
/// | `T`, or nothing | `T` | `CallError<Infallible>` |
/// | `Result<T, E>` | `T`, or the method's own error | `CallError<E>`, that error in `App` |
/// | `Result<T, Status>` | `T`, or a status | `CallError<Infallible>`, the status in `Rpc` |
///
/// `Result<T>` is refused: an alias hides an error type that is a part of the contract. Requests,
/// responses and errors implement `serde::Serialize`, `serde::Deserialize` and
/// [`Schema`](macro@Schema).
///
/// # `#[rpc(...)]`, once on each method
///
/// | key | meaning | default |
/// |---|---|---|
/// | `version = 2` | the version of these types, 1 to 65534 | required |
/// | `idempotent` | a call may be executed twice without harm | not so |
/// | `timeout = "2s"` | for calls that set none: `ms`, `s`, `m` or `h`, up to 1 h | the channel's |
/// | `spawn` | the handler is a task from the start: for one that computes for long | in place |
/// | `blocking` | the handler is a plain `fn` that may block; not with `spawn` | in place |
/// | `no_cancel` | a call that was taken back runs to its end | dropped at its next await |
/// | `id = 0x1234_5678` | the method's number on the wire, 32 bits | CRC-32 of `service/method` |
/// | `name = "other"` | the method's name on the wire | the function's |
///
/// # `#[compat(VERSION, req = T, resp = T, err = T)]`, once for each older version
///
/// Serves and calls the older version by converting to and from the current types. `VERSION` is
/// below the method's own. A type that is left out is the current one; `err` stands only where the
/// method has an error of its own. Each pair of types converts both ways by `TryFrom` (or `From`)
/// with an error that implements `Display`, and the current request is `Clone`: it is kept in
/// case it has to be sent in another version. A request that does not convert was not executed;
/// a response or error that does not convert was.
///
/// Where conversions are not enough, an older version may have a handler of its own: a second
/// method with the same wire `name`, or a second trait with the same service `name`.
///
/// # Errors
///
/// All that is wrong with a trait is reported at once, where it stands. Types that lack a bound
/// are reported by rustc at the type, and once more by the client's code. What only the whole
/// server can know is refused when it starts: the same version of a method twice, two methods with
/// one id.
#[proc_macro_attribute]
pub fn service(arguments: TokenStream, item: TokenStream) -> TokenStream {
    service::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

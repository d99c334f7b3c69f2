//! F5: a client with two connections to its server at a time: each call is on exactly one.
//!
//! ```text
//!   1  long calls ......... GOAWAY ............ answered here, then the end
//!   2                           short calls ......................
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use switchback::driver::{ConnectionHandle, Runtime, ServerSettings, serve_stream};
use switchback::proto::ServerLimits;
use switchback::transport::{Connect, Connecting, Stream};
use switchback::wire::{FRAME_BYTES_DEFAULT, VersionRange};
use switchback::{Channel, Cx, Dispatch, Method, Router};

use crate::support::{Answer, Count, Gate, Plain, plain, settle};

/// Connections to one server, with their numbers as their names.
#[derive(Clone)]
struct Net {
    dispatch: Dispatch,
    dials: Arc<Count>,
    handles: Arc<Mutex<Vec<ConnectionHandle>>>,
}

impl Connect for Net {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            self.dials.add();
            let (client_end, server_end) = tokio::io::duplex(4096);
            let end = |stream, name: usize| {
                let (reader, writer) = tokio::io::split(stream);
                Stream::new(reader, writer, name.to_string())
            };
            let settings = ServerSettings::new(ServerLimits {
                versions: VersionRange::OURS,
                frame_bytes_max: FRAME_BYTES_DEFAULT,
                calls_max: 64,
                window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
                codecs: vec![1],
                build: String::new(),
            });
            let stream = end(server_end, self.dials.get());
            let (dispatch, runtime) = (self.dispatch.clone(), Runtime::tokio());
            let (handle, served) = serve_stream(stream, settings, dispatch, runtime);
            self.handles.lock().unwrap().push(handle);
            tokio::spawn(served);
            Ok(end(client_end, 0))
        })
    }

    fn address(&self) -> String {
        "net".to_owned()
    }
}

/// LD-10: calls that were read before a GOAWAY end on the old connection while later ones run on
/// the new one; none is on both, none gets the answer of another, whenever the GOAWAY comes. Shown
/// by handlers that note who calls on what, for a GOAWAY after each of 40 calls.
#[tokio::test]
async fn ld_10_each_call_is_on_exactly_one_of_two_connections() {
    for early in 0..40_u64 {
        let runs = Arc::new(Mutex::new(BTreeMap::<u64, Vec<String>>::new()));
        let gate = Gate::default();
        let (note, inner) = (Arc::clone(&runs), gate.clone());
        let work = Method::infallible("it.Work/work", 1, move |cx: Cx, n: u64| {
            note.lock().unwrap().entry(n).or_default().push(cx.peer().address.clone());
            let gate = inner.clone();
            async move {
                if n.is_multiple_of(10) {
                    gate.pass().await;
                }
                Answer::Ok(n)
            }
        });
        let dispatch = Router::new().method(work).into_dispatch().unwrap();
        let net = Net { dispatch, dials: Arc::default(), handles: Arc::default() };
        let channel = Channel::builder().transport(net.clone()).unwrap();
        channel.ready().await.unwrap();
        let stub: Plain<u64, u64> = plain("it.Work/work");

        let mut calls: Vec<_> = (0..early).map(|n| tokio::spawn(channel.call(stub, n))).collect();
        for _ in 0..early % 5 {
            tokio::task::yield_now().await;
        }
        net.handles.lock().unwrap()[0].drain();
        for n in early..80 {
            calls.push(tokio::spawn(channel.call(stub, n)));
            if n.is_multiple_of(8) {
                tokio::task::yield_now().await;
            }
        }
        settle().await;
        assert_eq!(gate.entered.get(), 8, "long calls are under way on both");
        (0..8).for_each(|_| gate.open.notify_waiters());
        for (n, call) in (0..).zip(calls) {
            assert_eq!(call.await.unwrap(), Ok(n), "GOAWAY after {early}");
        }

        assert_eq!(net.dials.get(), 2);
        let runs = runs.lock().unwrap();
        assert!(runs.values().all(|on| on.len() == 1), "GOAWAY after {early}: {runs:?}");
        assert_eq!(runs[&79], ["2"]);
    }
}

//! Codecs as users meet them: chosen by the client, answered in kind, refused with names.

use std::convert::Infallible;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use switchback::service::prost::{Message, Name};
use switchback::service::{Fingerprint, Proto, Raw, WithBytes};
use switchback::{
    CallError, Channel, ClientConfig, Code, Codec, Cx, Disposition, Method, Schema, Server,
    ServerConfig, Stub,
};

use crate::large::blob;
use crate::raw::Ask;
use crate::support::{
    Answer, Plain, assert_status, echo, echo_stub, in_time, leak, mem_raw, mem_with, plain,
    raw_server, tcp,
};

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
struct Order {
    id: u64,
    tags: Vec<String>,
    note: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
enum Refused {
    NoTags { id: u64 },
}

/// Echoes an order, refuses one without tags.
fn orders() -> Method {
    Method::new("it.Orders/place", 1, |_cx: Cx, order: Order| async move {
        if order.tags.is_empty() {
            return Err(CallError::App(Refused::NoTags { id: order.id }));
        }
        Ok(order)
    })
}

fn orders_stub() -> &'static Stub<Order, Order, Refused> {
    leak(Stub::new("it.Orders/place", 1, Fingerprint::UNCHECKED))
}

/// One server, one handler, a client for each codec at the same time: results and the method's own
/// errors come back in the codec of the request, which a client insists on (CA-15).
#[tokio::test]
async fn pl_1_each_client_is_answered_in_its_codec() {
    let server = tcp(Server::new().method(orders())).await;
    for codec in [Codec::BINCODE, Codec::POSTCARD, Codec::JSON] {
        let channel = Channel::builder().codec(codec.clone()).connect(&server.url).await.unwrap();
        let order = Order { id: 7, tags: vec!["a".into(), "é".into()], note: None };
        let placed = channel.call(orders_stub(), order.clone()).await;
        assert_eq!(placed, Ok(order.clone()), "{codec:?}");
        let error = channel.call(orders_stub(), Order { tags: Vec::new(), ..order }).await;
        assert_eq!(error, Err(CallError::App(Refused::NoTags { id: 7 })), "{codec:?}");
    }
}

/// What a JSON client sends and gets is the text that somebody else would write (PL-12), and an
/// error names the path. Shown by a client of bytes.
#[tokio::test]
async fn pl_12_json_is_text_on_the_wire() {
    let (mut raw, _dispatch, _server) = mem_raw(Server::new().method(orders())).await;
    let ask = |call, payload| Ask { codec: 3, payload, ..Ask::new(call, "it.Orders/place") };

    raw.ask(ask(1, br#" {"note":"n", "tags":["a"], "extra":[1], "id":7} "#)).await;
    let reply = raw.reply().await;
    assert_eq!(
        (reply.status, reply.payload),
        (Code::OK, br#"{"id":7,"tags":["a"],"note":"n"}"#.to_vec())
    );

    raw.ask(ask(3, br#"{"id":7,"tags":[]}"#)).await;
    let reply = raw.reply().await;
    assert_eq!((reply.status, reply.payload), (Code::APP, br#"{"NoTags":{"id":7}}"#.to_vec()));

    raw.ask(ask(5, br#"{"id":7,"tags":["a",7]}"#)).await;
    let reply = raw.reply().await;
    let found = (reply.status, reply.disposition);
    assert_eq!(found, (Code::BAD_PAYLOAD, Disposition::NotProcessed));
    let message = String::from_utf8(reply.ext[4..].to_vec()).unwrap();
    assert_eq!(
        message,
        "the request does not decode: $.tags[1]: invalid type: integer `7`, expected a string"
    );
}

/// CA-6: a server lacks the client's codec, as HELLO_ACK says: the call is not sent, and
/// whoever reads the error sees names. Shown by a server of bytes that has bincode alone.
#[tokio::test]
async fn ca_6_a_missing_codec_is_told_by_name() {
    for (codec, name) in [(Codec::POSTCARD, "postcard (2)"), (Codec::JSON, "json (3)")] {
        let (channel, mut raw) = raw_server(Channel::builder().codec(codec));
        raw.greet_client_of(&channel).await;

        let result = channel.call(echo_stub(), 1).await;
        let status = assert_status(result, Code::UNSUPPORTED_CODEC, Disposition::NotProcessed);
        assert_eq!(status.codecs(), [1]);
        assert_eq!(
            status.message(),
            format!("it.Echo/echo: the server has bincode (1), not {name}")
        );
    }
}

/// PL-15: the server has the codec, the method's types have no form in it. Either way round the
/// refusal names those that would do; nothing is started.
#[tokio::test]
async fn pl_15_a_method_refuses_codecs_that_its_types_lack() {
    let server = || Server::new().method(echo()).method(transfer());
    // Raw bytes go out in any codec, so that the server has something to refuse.
    let (channel, dispatch, _server) =
        mem_with(server(), Channel::builder().codec(Codec::PROTOBUF));
    let raw_echo: Plain<Raw, Raw> = plain("it.Echo/echo");
    let result = channel.call(raw_echo, Raw::from(vec![7])).await;
    let status = assert_status(result, Code::UNSUPPORTED_CODEC, Disposition::NotProcessed);
    assert_eq!(status.codecs(), [1, 2, 3]);
    assert_eq!(
        status.message(),
        "it.Echo/echo: the server has bincode (1), postcard (2), json (3), not protobuf (4)"
    );
    assert!(dispatch.stats().iter().all(|method| method.started == 0));

    let (channel, ..) = mem_with(server(), Channel::builder().codec(Codec::JSON));
    let raw_transfer: Plain<Raw, Raw> = plain("bank.Ledger/transfer");
    let result = channel.call(raw_transfer, Raw::from(b"{}".to_vec())).await;
    let status = assert_status(result, Code::UNSUPPORTED_CODEC, Disposition::NotProcessed);
    assert_eq!(status.codecs(), [4]);

    // Who has the types is told before anything is sent.
    let result = channel.call(transfer_stub(), Proto(Transfer::default())).await;
    let status = assert_status(result, Code::ENCODE, Disposition::NotProcessed);
    assert!(status.message().ends_with("has no form in json, only in protobuf (4)"), "{status}");
}

/// PL-16: raw bytes pass as they are, none, one and 3 MiB, in every codec; what is longer than a
/// frame is refused before it is sent, with size and limit; an answer that is too long is told.
#[tokio::test]
async fn pl_16_raw_methods_pass_bytes_as_they_are() {
    const LIMIT: usize = 4 << 20;
    let method = Method::infallible("it.Raw/twice", 1, |cx: Cx, raw: Raw| async move {
        let times = if cx.metadata().get("twice").is_some() { 2 } else { 1 };
        Answer::Ok(Raw::from(raw.0.repeat(times)))
    });
    let twice: Plain<Raw, Raw> = plain("it.Raw/twice");
    let server = tcp(Server::new().method(method)).await;
    for codec in Codec::built_in() {
        let channel = Channel::builder().codec(codec.clone()).connect(&server.url).await.unwrap();
        for len in [0, 1, 3 << 20] {
            let bytes: Bytes = (0..len).map(|at: u32| at.to_le_bytes()[at as usize % 3]).collect();
            let answer = channel.call(twice, Raw(bytes.clone())).await.unwrap();
            assert!(answer.0 == bytes, "{len} bytes in {codec:?}");
        }

        let result = channel.call(twice, Raw::from(vec![0; LIMIT])).await;
        let status = assert_status(result, Code::TOO_LARGE, Disposition::NotProcessed);
        let (size, limit) = status.excess_bytes().unwrap();
        assert!(size > LIMIT as u64 && limit == LIMIT as u64, "{status}");

        let call = channel.call(twice, Raw::from(vec![0; 3 << 20])).metadata("twice", b"");
        let status = assert_status(call.await, Code::TOO_LARGE, Disposition::Processed);
        assert_eq!(status.excess_bytes().unwrap().1, LIMIT as u64);
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
struct Upload {
    name: String,
    crc: u32,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
struct Torn {
    crc: u32,
}

#[switchback::service(name = "it.Files")]
trait Files {
    /// Gives back the bytes backwards, under their number of bytes; an error has bytes too.
    #[rpc(version = 1)]
    async fn turn(
        &self,
        cx: &Cx,
        req: WithBytes<Upload>,
    ) -> Result<WithBytes<(String, u64)>, WithBytes<Torn>>;
}

struct Turner;

impl Files for Turner {
    async fn turn(
        &self,
        _cx: &Cx,
        WithBytes { message, bytes }: WithBytes<Upload>,
    ) -> Result<WithBytes<(String, u64)>, WithBytes<Torn>> {
        let crc = crc32fast::hash(&bytes);
        if crc != message.crc {
            return Err(WithBytes { message: Torn { crc }, bytes });
        }
        let turned: Vec<u8> = bytes.iter().rev().copied().collect();
        Ok(WithBytes { message: (message.name, bytes.len() as u64), bytes: turned.into() })
    }
}

/// PL-17: a struct with none, a few, 16 KiB and 1 MiB of bytes beside it goes both ways over TCP in
/// every codec of serde's, the method's own error as well; each side knows the other's schema.
#[tokio::test]
async fn pl_17_bytes_go_beside_a_message_both_ways() {
    let server = tcp(Server::new().service(FilesServer::new(Turner))).await;
    for codec in [Codec::BINCODE, Codec::POSTCARD, Codec::JSON] {
        let channel = Channel::builder().codec(codec.clone()).connect(&server.url).await.unwrap();
        let files = FilesClient::new(channel);
        for len in [0, 1, 16 << 10, (16 << 10) + 1, 1 << 20] {
            let bytes = blob(len, 7);
            let message = Upload { name: "a.png".to_owned(), crc: crc32fast::hash(&bytes) };
            let upload = WithBytes { message, bytes: bytes.clone() };
            let turned = in_time(files.turn(upload.clone())).await.unwrap();
            assert_eq!(turned.message, ("a.png".to_owned(), len as u64), "{codec:?}");
            assert!(turned.bytes.iter().rev().eq(&bytes), "{len} bytes in {codec:?}");

            let crc = upload.message.crc;
            let message = Upload { crc: !crc, ..upload.message };
            let torn = in_time(files.turn(WithBytes { message, ..upload })).await;
            let Err(CallError::App(torn)) = torn else { panic!("{torn:?}") };
            assert_eq!(torn.message, Torn { crc });
            assert!(torn.bytes == bytes, "{len} bytes in {codec:?}");
        }
    }
}

/// Whoever sends a message without the bytes that belong beside it is told by the schema, and if
/// that is not compared, by the length that is not there (PL-17).
#[tokio::test]
async fn pl_17_a_message_alone_is_refused() {
    let server = tcp(Server::new().service(FilesServer::new(Turner))).await;
    let channel = Channel::connect(&server.url).await.unwrap();
    let fingerprint = Fingerprint::of_method::<Upload, (String, u64), Torn>();
    let alone: Stub<Upload, (String, u64), Torn> = Stub::new("it.Files/turn", 1, fingerprint);
    let upload = Upload { name: "a".to_owned(), crc: 0 };
    let result = channel.call(leak(alone), upload).await;
    assert_status(result, Code::SCHEMA_MISMATCH, Disposition::NotProcessed);

    let unchecked: Plain<Raw, Raw> = plain("it.Files/turn");
    for (payload, why) in [
        (&b"\0\0"[..], "at least 2 more bytes are needed than the 2 there are"),
        (b"\0\0\0\x02\0", "at least 1 more bytes are needed than the 5 there are"),
        (b"\0\0\0\x03\0\0\0bytes", "the value takes 2 of 3 bytes"),
    ] {
        let result = channel.call(unchecked, Raw::from(payload.to_vec())).await;
        let status = assert_status(result, Code::BAD_PAYLOAD, Disposition::NotProcessed);
        assert!(status.message().ends_with(why), "{status}");
    }
}

#[derive(Clone, PartialEq, Message)]
struct Transfer {
    #[prost(uint64, tag = "1")]
    from: u64,
    #[prost(sint64, tag = "2")]
    cents: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Receipt {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct NoFunds {
    #[prost(sint64, tag = "1")]
    missing: i64,
}

impl Name for Transfer {
    const NAME: &'static str = "Transfer";
    const PACKAGE: &'static str = "bank";
}

impl Name for Receipt {
    const NAME: &'static str = "Receipt";
    const PACKAGE: &'static str = "bank";
}

impl Name for NoFunds {
    const NAME: &'static str = "NoFunds";
    const PACKAGE: &'static str = "bank";
}

type Transferred = Result<Proto<Receipt>, CallError<Proto<NoFunds>>>;

fn transfer_fingerprint() -> Fingerprint {
    Fingerprint::of_method::<Proto<Transfer>, Proto<Receipt>, Proto<NoFunds>>()
}

fn transfer() -> Method {
    let handler = |_cx: Cx, Proto(transfer): Proto<Transfer>| async move {
        let missing = transfer.cents - 100;
        let result: Transferred = match missing {
            ..=0 => Ok(Proto(Receipt { text: format!("{transfer:?}") })),
            _ => Err(CallError::App(Proto(NoFunds { missing }))),
        };
        result
    };
    Method::new("bank.Ledger/transfer", 1, handler).fingerprint(transfer_fingerprint())
}

fn transfer_stub() -> &'static Stub<Proto<Transfer>, Proto<Receipt>, Proto<NoFunds>> {
    leak(Stub::new("bank.Ledger/transfer", 1, transfer_fingerprint()))
}

/// PL-15: a protobuf method end to end, its own error too; bytes that are no message are refused.
#[tokio::test]
async fn pl_15_protobuf_methods_end_to_end() {
    let (channel, ..) =
        mem_with(Server::new().method(transfer()), Channel::builder().codec(Codec::PROTOBUF));
    let call = |cents| channel.call(transfer_stub(), Proto(Transfer { from: 7, cents }));
    let text = "Transfer { from: 7, cents: -5 }".to_owned();
    assert_eq!(call(-5).await, Ok(Proto(Receipt { text })));
    assert_eq!(call(150).await, Err(CallError::App(Proto(NoFunds { missing: 50 }))));

    let raw_transfer: Plain<Raw, Raw> = plain("bank.Ledger/transfer");
    let result = channel.call(raw_transfer, Raw::from(vec![0x08])).await;
    let status = assert_status(result, Code::BAD_PAYLOAD, Disposition::NotProcessed);
    assert!(status.message().contains("invalid varint"), "{status}");
}

/// The limits of a server hold in every codec, and its refusal says which one (PL-5, PL-6).
#[tokio::test]
async fn pl_5_a_servers_limits_hold_in_every_codec() {
    let list = Method::infallible("it.List/len", 1, |_cx: Cx, list: Vec<u8>| async move {
        Answer::Ok(list.len())
    });
    let len: Plain<Vec<u8>, usize> = plain("it.List/len");
    let mut config = ServerConfig::default();
    config.decode.elements_max = 3;
    let server = tcp(Server::new().config(config).method(list)).await;
    for codec in [Codec::BINCODE, Codec::POSTCARD, Codec::JSON] {
        let channel = Channel::builder().codec(codec).connect(&server.url).await.unwrap();
        assert_eq!(channel.call(len, vec![1, 2, 3]).await, Ok(3));
        let result = channel.call(len, vec![1, 2, 3, 4]).await;
        let status = assert_status(result, Code::BAD_PAYLOAD, Disposition::NotProcessed);
        assert!(status.message().ends_with("4 elements, more than 3"), "{status}");
    }
}

/// A client's own limits hold for answers in JSON too: BAD_RESPONSE, and the path is named.
#[tokio::test]
async fn ca_15_an_answer_that_does_not_decode_names_the_path() {
    let method = Method::infallible("it.Orders/get", 1, |_cx: Cx, (): ()| async move {
        Answer::Ok((7, vec![1_u64, 300]))
    });
    let mut config = ClientConfig::default();
    config.decode.elements_max = 2;
    let builder = Channel::builder().codec(Codec::JSON).config(config);
    let (channel, ..) = mem_with(Server::new().method(method), builder);
    let narrow: Plain<(), (u8, Vec<u8>)> = plain("it.Orders/get");
    let status =
        assert_status(channel.call(narrow, ()).await, Code::BAD_RESPONSE, Disposition::Processed);
    assert_eq!(
        status.message(),
        "the response: $[1][1]: invalid value: integer `300`, expected u8"
    );
    let wide: Plain<(), (u8, Vec<u64>)> = plain("it.Orders/get");
    let answer: Result<_, CallError<Infallible>> = channel.call(wide, ()).await;
    assert_eq!(answer, Ok((7, vec![1, 300])));
}

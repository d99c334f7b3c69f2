//! A user's crate without any feature: frames, the state machines, a method without macros, the
//! in-memory duplex, and a payload codec of its own (JSON).

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use switchback::proto::{Inbound, Input};
use switchback::service::{CustomCodec, Fingerprint, erased_serde};
use switchback::transport::duplex;
use switchback::wire::{CallId, Decoder, Frame, Kind, Preface, VersionRange, append_control};
use switchback::{CallError, Channel, Codec, Cx, Method, Server, Stub};

struct Json;

impl CustomCodec for Json {
    fn id(&self) -> u8 {
        200
    }

    fn name(&self) -> &str {
        "json"
    }

    fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> Result<(), String> {
        let mut serializer = serde_json::Serializer::new(out);
        erased_serde::serialize(value, &mut serializer).map_err(|error| error.to_string())
    }

    fn decode(
        &self,
        bytes: &[u8],
        visit: &mut dyn FnMut(
            &mut dyn erased_serde::Deserializer<'_>,
        ) -> Result<(), erased_serde::Error>,
    ) -> Result<usize, String> {
        let mut input = serde_json::Deserializer::from_slice(bytes);
        visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut input))
            .map_err(|error| error.to_string())?;
        input.end().map_err(|error| error.to_string())?;
        Ok(bytes.len())
    }
}

static DOUBLE: LazyLock<Stub<u64, u64, Infallible>> =
    LazyLock::new(|| Stub::infallible("outside.Math/double", 1, Fingerprint::UNCHECKED));

fn frames() {
    let mut bytes = Preface(VersionRange::OURS).to_bytes().to_vec();
    append_control(&mut bytes, Kind::PING, CallId::CONNECTION, &[], b"8 bytes!");
    let frame = Decoder::new(1024).decode(&bytes[8..]).expect("sound").expect("whole").0;
    assert_eq!(Frame::parse(frame), Ok(Frame::Ping(*b"8 bytes!")));
    let input = Inbound::new(65_536).next(&bytes).expect("sound").expect("whole");
    assert_eq!(input, (Input::Preface(Preface(VersionRange::OURS)), 8));
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    frames();
    let json = Codec::custom(Arc::new(Json))?;
    let double = Method::infallible("outside.Math/double", 1, |_cx: Cx, n: u64| async move {
        Ok::<u64, CallError<Infallible>>(n * 2)
    });
    let (ours, theirs) = duplex(64 * 1024);
    let (_dispatch, served) =
        Server::new().codec(json.clone()).method(double).serve_stream(theirs)?;
    tokio::spawn(served);
    let channel = Channel::builder().codec(json).stream(ours)?;
    assert_eq!(channel.call(&DOUBLE, 21).await?, 42);
    println!("ok");
    Ok(())
}

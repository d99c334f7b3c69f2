//! The frame codec by itself, for those who frame a stream with tokio-util's `Framed`.

use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream;
use futures_sink::Sink;
use switchback::transport::{CodecError, FrameCodec, OwnedFrame};
use switchback::wire::{CallId, DecodeError, Frame, Kind};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_util::codec::Framed;

async fn send(
    framed: &mut Framed<DuplexStream, FrameCodec>,
    frame: OwnedFrame,
) -> Result<(), CodecError> {
    poll_fn(|cx| Pin::new(&mut *framed).poll_ready(cx)).await?;
    Pin::new(&mut *framed).start_send(frame)?;
    poll_fn(|cx| Pin::new(&mut *framed).poll_flush(cx)).await
}

async fn next(
    framed: &mut Framed<DuplexStream, FrameCodec>,
) -> Option<Result<OwnedFrame, CodecError>> {
    poll_fn(|cx| Pin::new(&mut *framed).poll_next(cx)).await
}

fn cancel(call: u32) -> OwnedFrame {
    OwnedFrame::new(Kind::CANCEL, CallId(call), &[], &[]).unwrap()
}

/// FR-6: frames that are sent come out as they are, in order, however small the pieces are in
/// which they travel. Shown by frames of 0 to 200,000 bytes over a stream of 7 bytes.
#[tokio::test]
async fn fr_6_frames_travel_through_a_framed_stream() {
    let (ours, theirs) = tokio::io::duplex(7);
    let mut sender = Framed::new(ours, FrameCodec::new());
    let mut receiver = Framed::new(theirs, FrameCodec::new());
    let response = |len: usize| {
        let mut body = vec![0, 0, 2, 1];
        body.resize(4 + len, 0x5a);
        OwnedFrame::new(Kind::RESPONSE, CallId(1), &[], &body).unwrap()
    };

    let sent: Vec<OwnedFrame> = [0, 1, 100, 70_000, 200_000].map(response).into();
    let all = sent.clone();
    let sending = tokio::spawn(async move {
        for frame in all {
            send(&mut sender, frame).await.unwrap();
        }
    });
    for frame in sent {
        let received = next(&mut receiver).await.unwrap().unwrap();
        assert_eq!(received, frame);
        let Frame::Response(response) = received.parse().unwrap() else { panic!() };
        assert_eq!(response.payload.len() + 24, received.as_bytes().len());
    }

    sending.await.unwrap();
    assert!(next(&mut receiver).await.is_none());
}

/// A damaged frame ends the stream with its fault. Shown by one changed byte in a header, and
/// one in a body's CRC.
#[tokio::test]
async fn damage_is_found() {
    for (at, wanted) in [(8, "header CRC"), (19, "body CRC")] {
        let (mut ours, theirs) = tokio::io::duplex(1024);
        let mut receiver = Framed::new(theirs, FrameCodec::new());
        let mut bytes = cancel(1).as_bytes().to_vec();
        bytes[at] ^= 1;
        ours.write_all(&cancel(3).as_bytes()[..]).await.unwrap();
        ours.write_all(&bytes).await.unwrap();

        assert_eq!(next(&mut receiver).await.unwrap().unwrap(), cancel(3));
        let error = next(&mut receiver).await.unwrap().unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
}

/// FR-4: a frame over the limit is refused on both ways. Shown by a body of 101 bytes with a
/// limit of 100; one of 100 passes.
#[tokio::test]
async fn fr_4_the_limit_holds_both_ways() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let mut sender = Framed::new(ours, FrameCodec::with_frame_bytes_max(100));
    let mut receiver = Framed::new(theirs, FrameCodec::with_frame_bytes_max(99));
    let frame = |body_len: usize| {
        let body = vec![0; body_len - 4];
        OwnedFrame::new(Kind::RESPONSE, CallId(1), &[], &body).unwrap()
    };

    let error = send(&mut sender, frame(101)).await.unwrap_err();
    assert!(matches!(error, CodecError::TooLarge(large) if large.bytes == 101 && large.max == 100));
    send(&mut sender, frame(99)).await.unwrap();
    send(&mut sender, frame(100)).await.unwrap();

    assert_eq!(next(&mut receiver).await.unwrap().unwrap(), frame(99));
    let error = next(&mut receiver).await.unwrap().unwrap_err();
    let CodecError::Decode(DecodeError::FrameTooLarge { bytes, max }) = error else { panic!() };
    assert_eq!((bytes, max), (100, 99));
}

/// A stream that ends within a frame is an error, not a clean end. Shown by half a frame.
#[tokio::test]
async fn half_a_frame_at_the_end_is_an_error() {
    let (mut ours, theirs) = tokio::io::duplex(1024);
    let mut receiver = Framed::new(theirs, FrameCodec::new());
    ours.write_all(&cancel(1).as_bytes()[..10]).await.unwrap();
    drop(ours);

    assert!(matches!(next(&mut receiver).await, Some(Err(CodecError::Io(_)))));
}

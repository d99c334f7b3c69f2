//! Makes tonic's client and server of the service that `src/peers/tonic.rs` describes in prost.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "tonic")]
    tonic();
}

/// A description in Rust, since a `.proto` would need protoc.
#[cfg(feature = "tonic")]
fn tonic() {
    use tonic_build::manual::{Builder, Method, Service};

    let method = |name: &str, request: &str, response: &str| {
        Method::builder()
            .name(name)
            .route_name(name)
            .input_type(format!("crate::peers::tonic::{request}"))
            .output_type(format!("crate::peers::tonic::{response}"))
            .codec_path("tonic_prost::ProstCodec")
            .build()
    };
    let echo = Service::builder()
        .package("bench")
        .name("Echo")
        .method(method("echo", "Message", "Message"))
        .method(method("late", "Message", "Message"))
        .method(method("blob", "Body", "Body"))
        .method(method("upload", "Body", "Message"))
        .build();
    Builder::new().compile(&[echo]);
}

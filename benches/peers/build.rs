//! Makes the code of the peers whose messages are described outside Rust: of tonic from a
//! description below, of volo, capnp-rpc and ttrpc from `schema/`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=schema");
    #[cfg(feature = "tonic")]
    tonic();
    #[cfg(feature = "volo")]
    volo();
    #[cfg(feature = "capnp")]
    capnp();
    #[cfg(feature = "ttrpc")]
    ttrpc();
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

#[cfg(feature = "volo")]
fn volo() {
    let made = volo_build::Builder::thrift()
        .add_service("schema/echo.thrift")
        .filename("volo_gen.rs".into())
        .write();
    made.expect("the code of volo from schema/echo.thrift");
}

#[cfg(feature = "capnp")]
fn capnp() {
    let made = capnpc::CompilerCommand::new()
        .src_prefix("schema")
        .file("schema/echo.capnp")
        .default_parent_module(vec!["peers".to_owned(), "capnp".to_owned()])
        .run();
    if let Err(error) = made {
        // A panic would bury this below a backtrace of the build.
        println!("cargo::error=the peer capnp needs the `capnp` compiler (capnproto): {error}");
    }
}

/// Its parser is Rust. It writes files with inner attributes, which modules may have and what is
/// included may not, therefore a file of modules over them.
#[cfg(feature = "ttrpc")]
fn ttrpc() {
    use std::path::PathBuf;

    use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("ttrpc");
    std::fs::create_dir_all(&out).expect("a directory in OUT_DIR");
    let made = Codegen::new()
        .out_dir(&out)
        .input("schema/echo.proto")
        .include("schema")
        .rust_protobuf()
        .customize(Customize { async_all: true, ..Customize::default() })
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(false).tokio_bytes(true))
        .run();
    made.expect("the code of ttrpc from schema/echo.proto");
    std::fs::write(out.join("mod.rs"), "pub mod echo;\npub mod echo_ttrpc;\n")
        .expect("a file in OUT_DIR");
}

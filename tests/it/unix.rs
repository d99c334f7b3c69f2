//! Unix sockets: what happens to the file, and who may connect.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Barrier};

use switchback::transport::{Accept, Address, Connect, UnixAcceptor, UnixConnector};
use switchback::{Channel, Error, ErrorKind, Server};

use crate::support::{TempDir, echo, echo_stub, run};

fn socket(dir: &TempDir) -> (String, Address) {
    let path = format!("{}/app.sock", dir.path().display());
    let address = Address::parse(&format!("unix://{path}")).unwrap();
    (path, address)
}

/// A listener and nobody behind it: what a killed server leaves.
fn leave_dead(path: &str) {
    drop(UnixListener::bind(path).unwrap());
}

fn names_in(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What a server that was killed has left behind is replaced, and nothing else is left.
#[tokio::test]
async fn a_dead_socket_is_replaced() {
    let dir = TempDir::new();
    let (path, address) = socket(&dir);
    leave_dead(&path);
    let refused = UnixConnector::new(address.clone()).connect().await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Refused { .. }), "{refused}");

    let server = run(Server::new().method(echo()).bind(&address.to_string()).await.unwrap());

    assert_eq!(Channel::connect(&server.url).await.unwrap().call(echo_stub(), 3).await, Ok(3));
    assert_eq!(names_in(&dir), ["app.sock"]);
}

/// A live socket is never taken over, also when its queue is full, and goes on being served.
#[tokio::test]
async fn a_live_socket_is_in_use() {
    let dir = TempDir::new();
    let (path, address) = socket(&dir);
    let in_use = |error: Error| assert!(matches!(error.kind(), ErrorKind::AddressInUse { .. }));

    let server = run(Server::new().method(echo()).bind(&address.to_string()).await.unwrap());
    in_use(UnixAcceptor::bind(&address).unwrap_err());
    assert_eq!(Channel::connect(&server.url).await.unwrap().call(echo_stub(), 3).await, Ok(3));
    drop(server);

    let full = TempDir::new();
    let (path_of_full, address) = socket(&full);
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path_of_full).unwrap();
    let _listener = socket.listen(1).unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        match UnixConnector::new(address.clone()).connect().await {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind(), ErrorKind::Connect { .. }), "{error}");
    in_use(UnixAcceptor::bind(&address).unwrap_err());
    assert_ne!(path, path_of_full);
}

/// A file that is no socket is an error, and stays.
#[tokio::test]
async fn a_file_is_left_alone() {
    let dir = TempDir::new();
    let (path, address) = socket(&dir);
    fs::write(&path, "precious").unwrap();

    let error = Server::new().bind(&address.to_string()).await.unwrap_err();

    let ErrorKind::Bind { error, .. } = error.kind() else { panic!("{error}") };
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/nowhere", &path).unwrap();
    assert!(UnixAcceptor::bind(&address).is_err(), "a link is not followed");
}

/// Only the owner may connect unless the mode says otherwise; the umask takes nothing away.
#[tokio::test]
async fn the_mode_is_what_was_asked_for() {
    let dir = TempDir::new();
    let (path, address) = socket(&dir);
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;

    let acceptor = UnixAcceptor::bind(&address).unwrap();
    assert_eq!(mode(), 0o600);
    drop(acceptor);
    let acceptor = UnixAcceptor::bind_with_mode(&address, 0o666).unwrap();
    assert_eq!(mode(), 0o666);
    drop(acceptor);
    assert_eq!(names_in(&dir), [""; 0]);
}

/// The file goes with its listener, unless it is another's by then.
#[tokio::test]
async fn the_file_is_removed_if_it_is_ours() {
    let dir = TempDir::new();
    let (path, address) = socket(&dir);

    let first = UnixAcceptor::bind(&address).unwrap();
    assert_eq!(first.local_addr(), address);
    fs::remove_file(&path).unwrap();
    let second = UnixAcceptor::bind(&address).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    drop(first);
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "the second one's is still there");
    drop(second);
    assert_eq!(names_in(&dir), [""; 0]);
}

/// Of many servers that find the same dead socket at the same time, exactly one gets it, and it
/// can be reached. Shown by 200 rounds of four threads.
#[test]
fn one_of_many_takes_a_dead_socket() {
    for round in 0..200 {
        let dir = TempDir::new();
        let (path, address) = socket(&dir);
        leave_dead(&path);
        let start = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (start, address) = (Arc::clone(&start), address.clone());
                std::thread::spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    start.wait();
                    let bound = runtime.block_on(async { UnixAcceptor::bind(&address) });
                    bound.map(|acceptor| (runtime, acceptor))
                })
            })
            .collect();
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();

        let won = ended.iter().filter(|bound| bound.is_ok()).count();
        assert_eq!(won, 1, "round {round}: {ended:?}");
        drop(std::os::unix::net::UnixStream::connect(&path).unwrap());
        assert_eq!(names_in(&dir), ["app.sock"], "round {round}");
    }
}

/// Where there is no folder, or no right, the system's word is passed on; what is not an address of
/// a Unix socket is said before anything is touched.
#[tokio::test]
async fn what_cannot_be_bound_is_named() {
    let dir = TempDir::new();
    let missing = Address::parse(&format!("unix://{}/a/b", dir.path().display())).unwrap();
    let error = UnixAcceptor::bind(&missing).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Bind { .. }), "{error}");

    for made in [Address::Unix { path: "x".repeat(200) }, Address::Mem { name: "x".to_owned() }] {
        let error = UnixAcceptor::bind(&made).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Address { .. }), "{error}");
    }
    let path = format!("/{}", "x".repeat(200));
    let error = UnixConnector::new(Address::Unix { path }).connect().await.unwrap_err();
    let ErrorKind::SocketPathTooLong { bytes: 201, max, .. } = error.kind() else {
        panic!("{error}");
    };
    assert_eq!(*max, switchback::transport::SOCKET_PATH_BYTES_MAX);
}

/// The longest path that passes the check is one that the system takes, in both name spaces.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_longest_path_can_be_bound() {
    let dir = TempDir::new();
    let mut path = format!("{}/", dir.path().display());
    path.extend(std::iter::repeat_n('x', 107 - path.len()));
    let name = format!("@{:x<106}", std::process::id());
    for path in [path, name] {
        let address = Address::parse(&format!("unix://{path}")).unwrap();
        let _acceptor = UnixAcceptor::bind(&address).unwrap();
        drop(UnixConnector::new(address).connect().await.unwrap());
    }
}

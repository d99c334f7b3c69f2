//! A router against the contract that was published, in a user's own tests.
//!
//! Invariants: nothing is written unless the environment says so, and nothing when a promise is
//! broken; the file is replaced as a whole. `switchback check` does the same with a server that
//! runs, over the same file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::service::{Comparison, Contract, LockError, Router};

/// The contract is not kept, or the file cannot say.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// A promise to somebody is broken.
    #[error("the contract in {} is broken\n{comparison}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What differs, whom it breaks, what to do.
        comparison: Comparison,
    },
    /// There is no such file yet.
    #[error("there is no {}: run the test once with {WRITE}, and commit it", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be believed.
    #[error("{}: {error}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why not, with the line.
        error: LockError,
    },
    /// The file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

/// Checks that `router` keeps what the lock file at `path` says was published: a new version
/// passes, a changed or missing one does not. A relative path begins where the test runs, for
/// `cargo test` the package's folder.
///
/// With `SWITCHBACK_LOCK=write` in the environment the file is begun if there is none, and what is
/// new is added; commit it. A version is given up with `switchback check --retire`.
///
/// # Errors
/// [`ContractError`].
///
/// ```
/// # use switchback::{Cx, Method, Router};
/// # use std::convert::Infallible;
/// # fn router() -> Router {
/// #     let double = Method::infallible("demo.Math/double", 1, |_cx: Cx, n: u64| async move {
/// #         Ok::<_, switchback::CallError<Infallible>>(n * 2)
/// #     });
/// #     Router::new().method(double.schema::<u64, u64, Infallible>())
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("switchback-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("switchback.lock");
/// # let published = switchback::service::Contract::from(&router());
/// # std::fs::write(&path, published.to_lock())?;
/// // In your project: a #[test], and "switchback.lock" beside Cargo.toml.
/// switchback::testing::check_contract(&router(), &path)?;
///
/// let changed = router().method(
///     // Was never published: passes, and is frozen once it is in the file.
///     Method::infallible("demo.Math/double", 2, |_cx: Cx, n: u32| async move { Ok(n * 2) })
///         .schema::<u32, u32, Infallible>(),
/// );
/// switchback::testing::check_contract(&changed, &path)?;
/// assert!(switchback::testing::check_contract(&Router::new(), &path).is_err());
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(())
/// # }
/// ```
pub fn check_contract(router: &Router, path: impl AsRef<Path>) -> Result<(), ContractError> {
    let writes = std::env::var_os("SWITCHBACK_LOCK").is_some_and(|value| value == "write");
    check(router, path.as_ref(), writes)
}

fn check(router: &Router, path: &Path, writes: bool) -> Result<(), ContractError> {
    let io = |error| ContractError::Io { path: path.to_owned(), error };
    let published = match std::fs::read_to_string(path) {
        Ok(text) => Contract::from_lock(&text)
            .map_err(|error| ContractError::Lock { path: path.to_owned(), error })?,
        Err(error) if error.kind() == ErrorKind::NotFound && writes => Contract::default(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(ContractError::Missing { path: path.to_owned() });
        }
        Err(error) => return Err(io(error)),
    };
    let comparison = published.compare(&Contract::from(router), &[]);
    if comparison.is_broken() {
        return Err(ContractError::Broken { path: path.to_owned(), comparison });
    }
    if writes && (comparison.next != published || !path.exists()) {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        std::fs::write(&beside, comparison.next.to_lock()).map_err(io)?;
        std::fs::rename(&beside, path).map_err(io)?;
    }
    Ok(())
}

const WRITE: &str = "SWITCHBACK_LOCK=write";

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::service::{CallError, Cx, Method, Schema};

    fn method<Q: Schema>(version: u16) -> Method {
        let handler = |_cx: Cx, (): ()| async { Ok::<(), CallError<Infallible>>(()) };
        Method::infallible("demo.Math/double", version, handler).schema::<Q, (), Infallible>()
    }

    /// Missing, begun, kept, added to, broken, damaged: each says what it is, and only what may be
    /// written is.
    #[test]
    fn a_lock_is_begun_kept_and_believed() {
        let name = format!("switchback-contract-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("switchback.lock");
        let one = Router::new().method(method::<u64>(1));

        let missing = check(&one, &path, false).unwrap_err().to_string();
        assert!(missing.contains("SWITCHBACK_LOCK=write"), "{missing}");
        check(&one, &path, true).unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        check(&one, &path, false).unwrap();

        let two = one.method(method::<u32>(2));
        check(&two, &path, false).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        check(&two, &path, true).unwrap();
        let second = std::fs::read_to_string(&path).unwrap();
        assert!(second.starts_with(&first) && second.lines().count() == first.lines().count() + 1);

        let changed = Router::new().method(method::<u64>(1)).method(method::<u8>(2));
        let broken = check(&changed, &path, true).unwrap_err().to_string();
        assert!(broken.contains("request: was u32, is u8"), "{broken}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), second);

        std::fs::write(&path, second.replace("u32", "u8")).unwrap();
        let damaged = check(&two, &path, false).unwrap_err();
        assert!(matches!(damaged, ContractError::Lock { .. }), "{damaged}");
        std::fs::write(&path, second.replace("lock 1", "lock 9")).unwrap();
        let newer = check(&two, &path, true).unwrap_err().to_string();
        assert!(newer.contains("format 9 is newer than 1"), "{newer}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! `check`: a contract begun, kept, added to, broken; and files that cannot be believed.

use std::path::PathBuf;

use crate::program::ran;
use crate::served::{double, math};

/// A lock file in a folder of this test's own, which goes with it.
struct Lock(PathBuf);

impl Lock {
    fn new(test: &str) -> Self {
        let name = format!("switchback-cli-{}-{test}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder.join("switchback.lock"))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        std::fs::remove_dir_all(self.0.parent().unwrap()).unwrap();
    }
}

/// Begun only when it is said so; a new version passes, and is added when it is said so; one that
/// is gone must be retired.
#[test]
fn a_contract_is_kept() {
    let lock = Lock::new("kept");
    let (one, two) = (math([double::<u64>(1)]), math([double::<u64>(1), double::<u32>(2)]));
    let check = |url: &str, more: &[&str]| {
        let mut arguments = vec!["check", url, "--lock", lock.path()];
        arguments.extend_from_slice(more);
        ran(&arguments)
    };
    check(&one.url, &[]).failed(2, &["there is no", "say --write to begin it"]);
    check(&one.url, &["--retire", "demo.Math/double:1"]).failed(2, &["nothing can be retired"]);
    let screen = check(&one.url, &["--write"]).ended(0);
    assert!(screen.starts_with("demo.Math/double version 1: new\nkept: "), "{screen}");
    assert!(!lock.text().contains("switchback.Reflection"), "{}", lock.text());
    assert!(check(&one.url, &[]).ended(0).starts_with("kept: what is served is what"));

    let before = lock.text();
    let screen = check(&two.url, &[]).ended(0);
    assert!(screen.contains("version 2: new\n") && screen.contains("say --write"), "{screen}");
    assert_eq!(lock.text(), before);
    let json = check(&two.url, &["--write", "--json"]).json(0);
    assert_eq!((&json["written"], &json["changes"][0]["change"]), (&true.into(), &"added".into()));
    assert!(lock.text().starts_with(&before) && lock.text() != before);

    let gone = check(&one.url, &["--write"]).ended(1);
    assert!(gone.contains("version 2: no longer served") && gone.contains("--retire"), "{gone}");
    let retired = check(&one.url, &["--retire", "demo.Math/double:2", "--write"]).ended(0);
    assert!(retired.contains("version 2: retired"), "{retired}");
    assert!(lock.text().contains("\nretired demo.Math/double 2 "), "{}", lock.text());
}

/// A change to a frozen version fails, with the field, whom it breaks and what to do; the file
/// stays, though there is something new as well. A whole screen.
#[test]
fn a_changed_version_is_broken() {
    #[derive(serde::Deserialize, serde::Serialize, switchback::Schema)]
    struct Old {
        from: String,
        cents: u64,
    }
    #[derive(serde::Deserialize, serde::Serialize, switchback::Schema)]
    struct New {
        from: String,
        cents: u32,
    }
    let lock = Lock::new("broken");
    let (old, new) = (math([double::<Old>(1)]), math([double::<New>(1), double::<u8>(2)]));
    ran(&["check", &old.url, "--lock", lock.path(), "--write"]).ended(0);
    let before = lock.text();
    let screen = ran(&["check", &new.url, "--lock", lock.path(), "--write"]).ended(1);
    let expected = "\
demo.Math/double version 1: is frozen with other types
  request.cents: was u64, is u32
  response.cents: was u64, is u32
  breaks: every client and server built with version 1 as it was published; their \
calls end with SCHEMA_MISMATCH
  do: give the new types a new version, and keep this one with #[compat(1, ...)]
demo.Math/double version 2: new
broken: LOCK was not kept
";
    assert_eq!(screen.replace(lock.path(), "LOCK"), expected);
    assert_eq!(lock.text(), before);
    let json = ran(&["check", &new.url, "--lock", lock.path(), "--json"]).json(1);
    assert_eq!(json["changes"][0]["differences"][0]["path"], "request.cents");
}

/// A file of a newer format, one that was edited, and what is no lock file are refused with the
/// line, before any server is asked.
#[test]
fn a_lock_that_cannot_be_believed_is_refused() {
    let lock = Lock::new("refused");
    let served = math([double::<u64>(1)]);
    ran(&["check", &served.url, "--lock", lock.path(), "--write"]).ended(0);
    let sound = lock.text();
    let nobody = "127.0.0.1:1";
    for (text, parts) in [
        (
            sound.replace("switchback.lock 1", "switchback.lock 7"),
            ["format 7 is newer than 1", "line 3"],
        ),
        (sound.replace("u64->u64", "u64->u32"), ["edited by hand", "line 4"]),
        ("{}".to_owned(), ["no lock file", "line 1"]),
    ] {
        assert_ne!(text, sound);
        std::fs::write(&lock.0, &text).unwrap();
        ran(&["check", nobody, "--lock", lock.path(), "--write"]).failed(2, &parts);
        assert_eq!(lock.text(), text);
    }
}

//! The house rules as tests: floors, purity, headers, sizes, words, spec ids, reasons, pages.
//!
//! One test per rule. A rule is a pure function over parsed files, so that `mod tests` at the end
//! can feed it bad examples and prove that it still bites. A finding reads
//! `path:line: what is wrong: what to do`, and one run shows all findings of a rule.
//!
//! The reader (tidy/reader.rs) knows just enough Rust for this. What hides behind a rename is left
//! to clippy, which knows types (`disallowed-methods` in clippy.toml); what hides in a macro of
//! another crate is left to review. Standard library only, so that this is the first thing that
//! builds.

#[path = "tidy/reader.rs"]
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::reader::{
    File, Line, entries, has_issue, has_word, id_of_test_name, ids, matches, read, read_all,
};

// The house's constants. A change here is a change of design: say why in the commit.

/// Modules of the library by floor. A floor imports only floors below it, never a sibling.
///
/// `observe` stands on floor 1, so every floor from 2 up may import it; floor 1 itself reports
/// through return values. `bin` is a crate of its own that sees the public API only.
/// `util` and `error` stand at the very bottom of their floors: their siblings may import them,
/// they import no sibling (ARCHITECTURE.md, floors).
const FLOORS: &[(u8, &[&str])] = &[
    (0, &["wire", "util"]),
    (1, &["proto", "policy", "balance", "service", "observe"]),
    (2, &["transport", "error", "builtin"]),
    (3, &["driver", "discovery"]),
    (4, &["client", "server"]),
    (5, &["rollout", "config"]),
    (6, &["testing", "guide"]),
];

/// Modules that their siblings may import.
const GROUND: &[&str] = &["error", "util"];

/// The highest floor that is pure: no runtime, clock, random source, socket or file.
const PURE_FLOOR_MAX: u8 = 1;

/// Paths banned on the pure floors. `x*` means any name that starts with x.
const IMPURE: &[(&[&str], &str)] = &[
    (&["tokio*"], "the runtime starts on floor 2"),
    (&["Instant", "now"], "take `now` as an argument"),
    (&["SystemTime", "now"], "take `now` as an argument"),
    (&["thread_rng"], "take the random generator as an argument"),
    (&["rand", "*"], "take the random generator as an argument"),
    (&["std", "fs"], "take the bytes as an argument"),
    (&["std", "net", "Tcp*"], "sockets start on floor 2"),
    (&["std", "net", "Udp*"], "sockets start on floor 2"),
    (&["thread", "sleep"], "return the time at which to be called again"),
];

/// Pure files that may name `HashMap` or `HashSet`, and why their order cannot leak.
const HASH_MAPS: &[(&str, &str)] =
    &[("src/service/schema_impls.rs", "implements Schema for the types, holds no map")];

/// Files that may use `unsafe` (and expect `unsafe_code`), and the measured need.
const UNSAFE: &[(&str, &str)] = &[
    (
        "benches/peers/src/alloc.rs",
        "counts the allocations of a whole process, which takes a global allocator",
    ),
    ("benches/peers/src/peers/volo.rs", "includes the code that volo generates; none of ours"),
];

/// Words banned in the product, tests aside; `src/bin` may print.
const BANNED: &[(&str, &str)] = &[
    (".unwrap()", "return an error, or `expect` with the proof in the same function"),
    ("dbg!", "remove it"),
    ("todo!", "finish it"),
    ("unimplemented!", "finish it"),
    ("println!", "use tracing"),
    ("print!", "use tracing"),
    ("eprintln!", "use tracing"),
    ("eprint!", "use tracing"),
];

const FILE_LINES_MAX: usize = 600;
const LINE_COLUMNS_MAX: usize = 100;
const HEADER_WORDS_MIN: usize = 4;
const ROOTS: &[&str] = &["src", "macros/src", "tests", "benches", "examples", "fuzz"];

// The rules.

#[test]
fn a_floor_imports_only_floors_below_it() {
    report(each(floors));
}

#[test]
fn floors_0_and_1_are_pure() {
    report(each(purity));
}

#[test]
fn every_file_has_a_header_and_fits() {
    report(each(shape));
}

#[test]
fn no_banned_word_in_the_product() {
    report(each(words));
}

#[test]
fn no_unsafe() {
    report(each(unsafety));
}

#[test]
fn every_file_is_declared() {
    report(reachable(&tree()));
}

#[test]
fn every_spec_id_is_cited_by_code_and_by_a_test() {
    let spec = read_all(Path::new(env!("CARGO_MANIFEST_DIR")), "spec", "md");
    let (findings, later) = spec_ids(&spec, &tree());
    eprintln!("spec ids marked (later), exempt: {later}");
    report(findings);
}

#[test]
fn every_feature_is_documented() {
    report(features("Cargo.toml", &read("Cargo.toml"), &read("README.md")));
}

#[test]
fn every_dependency_has_a_reason() {
    let mut findings = dependencies("Cargo.toml", &read("Cargo.toml"));
    for path in ["macros/Cargo.toml", "benches/peers/Cargo.toml"] {
        findings.extend(dependencies(path, &read(path)));
    }
    report(findings);
}

#[test]
fn every_metric_is_documented() {
    report(metrics(
        "src/observe/names.rs",
        &read("src/observe/names.rs"),
        &read("docs/metrics.md"),
    ));
}

#[test]
fn every_page_is_in_the_guide_and_its_links_lead_somewhere() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = read_all(base, "docs", "md");
    let (guide, readme) = (read("src/guide/mod.rs"), read("README.md"));
    let mut findings = guides(&guide, &readme, &pages);
    pages.push(("README.md".to_owned(), readme));
    findings.extend(links(&pages, |path| base.join(path).exists()));
    report(findings);
}

/// The first code that a stranger reads is a program that is built and run.
#[test]
fn the_readme_begins_with_an_example() {
    report(same_code(&read("README.md"), "examples/hello.rs", &read("examples/hello.rs")));
}

/// Rule: imports go down, `super::` is for tests, nobody but the crate root knows `__private`.
fn floors(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    let Some(module) = file.module() else {
        return findings;
    };
    let Some(floor) = floor_of(module) else {
        let what = format!("module `{module}` stands on no floor: add it to FLOORS");
        return vec![file.finding(0, &what)];
    };
    for (line, path) in file.paths() {
        if path.iter().any(|segment| segment == "super") && path.len() > 1 && !file.is_test(line) {
            findings.push(file.finding(line, "`super::` outside tests: write `crate::…`"));
        }
        let [root, name, ..] = path.as_slice() else {
            continue;
        };
        // `switchback::` works inside the crate too once it names itself for its own macros.
        let what = match (root.as_str(), floor_of(name)) {
            ("crate" | "switchback", _) if name == module => continue,
            ("crate" | "switchback", Some(below)) if below < floor => continue,
            ("crate" | "switchback", Some(same))
                if same == floor && GROUND.contains(&name.as_str()) =>
            {
                continue;
            }
            ("crate" | "switchback", Some(other)) => format!(
                "`{module}` (floor {floor}) imports `{name}` (floor {other}): pass a value or a \
                 trait down instead"
            ),
            ("crate" | "switchback", None) if name == "__private" => {
                "`__private` is for generated code only: name the module itself".to_owned()
            }
            ("crate", None) => {
                format!("`crate::{name}` is no module with a floor: name the module, not the root")
            }
            _ => continue,
        };
        findings.push(file.finding(line, &what));
    }
    findings
}

/// Rule: the pure floors name no runtime, clock, random source, socket, file or hash order.
fn purity(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    if file.module().and_then(floor_of).is_none_or(|floor| floor > PURE_FLOOR_MAX) {
        return findings;
    }
    let may_hash = HASH_MAPS.iter().any(|(path, _)| *path == file.path);
    let mut hashes = false;
    for (line, path) in file.paths() {
        if file.is_test(line) {
            continue;
        }
        for (banned, instead) in IMPURE {
            if path.windows(banned.len()).any(|segments| matches(segments, banned)) {
                let what = format!("`{}` on a pure floor: {instead}", banned.join("::"));
                findings.push(file.finding(line, &what));
            }
        }
        if path.iter().any(|segment| segment == "HashMap" || segment == "HashSet") {
            hashes = true;
            if !may_hash {
                let what = "a hash map on a pure floor has a random order: use BTreeMap or a slab";
                findings.push(file.finding(line, what));
            }
        }
    }
    if may_hash && !hashes {
        findings.push(file.finding(0, "no hash map here any more: take it off HASH_MAPS"));
    }
    for (line, text) in file.product() {
        if has_word(&text.code, "async fn") {
            findings
                .push(file.finding(line, "`async fn` on a pure floor: return what to wait for"));
        }
        if text.code.contains(".elapsed()") {
            findings.push(file.finding(line, "`elapsed` reads the clock: subtract from `now`"));
        }
    }
    findings
}

/// Rule: a header of a full sentence, at most 600 lines of 100 columns, tests last.
fn shape(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    let header: Vec<&str> = file
        .raw
        .iter()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let header = header.join(" ");
    let ends = header.ends_with(['.', ':', '!', '?']) || header.contains(". ");
    if !ends || header.split_whitespace().count() < HEADER_WORDS_MIN {
        let what = "no `//!` header of a full sentence: say what the file is, and why this way";
        findings.push(file.finding(0, what));
    }
    let lines = file.raw.len() - file.tests.as_ref().map_or(0, |tests| tests.len());
    if lines > FILE_LINES_MAX {
        let what = format!("{lines} lines, at most {FILE_LINES_MAX} (tests apart): split the file");
        findings.push(file.finding(FILE_LINES_MAX, &what));
    }
    for (line, text) in file.raw.iter().enumerate() {
        let columns = text.chars().count();
        if columns > LINE_COLUMNS_MAX {
            let what = format!("{columns} columns, at most {LINE_COLUMNS_MAX}: break the line");
            findings.push(file.finding(line, &what));
        }
    }
    if let Some(tests) = &file.tests {
        let after = &file.lines[tests.end..];
        if let Some(offset) = after.iter().position(|line| !line.code.trim().is_empty()) {
            let what = "code after `mod tests`: tests are the end of a file";
            findings.push(file.finding(tests.end + offset, what));
        }
    }
    findings
}

/// Rule: no shortcuts in the product, and a note to do something names its issue.
fn words(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    let prints = file.path.starts_with("src/bin/");
    if file.is_product() {
        for (line, text) in file.product() {
            for (word, instead) in BANNED {
                if has_word(&text.code, word) && !(prints && word.contains("print")) {
                    findings.push(file.finding(line, &format!("`{word}`: {instead}")));
                }
            }
        }
    }
    for (line, text) in file.lines.iter().enumerate() {
        for note in ["TODO", "FIXME"] {
            if has_word(&text.comment, note) && !has_issue(&text.comment, note) {
                findings.push(file.finding(line, &format!("write `{note}(#12)` with its issue")));
            }
        }
    }
    findings
}

/// Rule: no `unsafe` outside the files listed in [`UNSAFE`].
fn unsafety(file: &File) -> Vec<String> {
    let listed = UNSAFE.iter().any(|(path, _)| *path == file.path);
    let uses = |line: &Line| has_word(&line.code, "unsafe") || has_word(&line.code, "unsafe_code");
    let found = file.lines.iter().enumerate().filter(|(_, line)| uses(line));
    let findings: Vec<String> = found
        .map(|(line, _)| file.finding(line, "unsafe: list the file in UNSAFE with its need"))
        .collect();
    match (listed, findings.is_empty()) {
        (false, _) => findings,
        (true, false) => Vec::new(),
        (true, true) => vec![file.finding(0, "no unsafe here any more: take it off UNSAFE")],
    }
}

/// Rule: a file that no `mod` names is never compiled, and a test in it never runs.
fn reachable(files: &[File]) -> Vec<String> {
    let by_path: BTreeMap<&str, &File> = files.iter().map(|f| (f.path.as_str(), f)).collect();
    let mut findings = Vec::new();
    for file in files {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let is_root = matches!(name, "lib.rs" | "main.rs") || folder == "src/bin";
        if is_root || !(file.is_product() || file.path.starts_with("tests/it/")) {
            continue;
        }
        let (folder, name) = match name.strip_suffix(".rs") {
            Some("mod") | None => folder.rsplit_once('/').unwrap_or(("", folder)),
            Some(name) => (folder, name),
        };
        let parents = ["/mod.rs", "/lib.rs", "/main.rs", ".rs"].map(|end| format!("{folder}{end}"));
        let declared = parents.iter().filter_map(|path| by_path.get(path.as_str())).find_map(|f| {
            let line =
                f.lines.iter().position(|line| has_word(&line.code, &format!("mod {name};")));
            line.map(|line| (f, line))
        });
        match declared {
            None => findings.push(file.finding(0, &format!("declared nowhere: `mod {name};`"))),
            Some((parent, line)) if name == "tests" && !parent.is_cfg_test(line) => {
                findings.push(parent.finding(line, "`mod tests;` without `#[cfg(test)]`"));
            }
            Some(_) => {}
        }
    }
    findings
}

/// Rule: every id of the spec is cited by code and by a test, and no citation points nowhere.
///
/// A paragraph that starts with `**FR-3**` defines an id; `**FR-3** (later)` is exempt and counted.
/// Code cites it in a comment; a test cites it as text or in its name (`fr_3_…`).
fn spec_ids(spec: &[(String, String)], files: &[File]) -> (Vec<String>, usize) {
    let (mut findings, defined, later) = definitions(spec);
    if defined.is_empty() {
        findings.push("spec/: defines no id: write requirements as `**FR-1** …`".to_owned());
    }
    let (mut by_code, mut by_test) = (BTreeSet::new(), BTreeSet::new());
    // These files quote ids as examples, they prove none.
    for file in files.iter().filter(|file| !file.path.starts_with("tests/tidy")) {
        for (line, text) in file.lines.iter().enumerate() {
            for (_, id) in ids(&text.comment) {
                if !defined.contains_key(&id) {
                    let what = format!("{id} is not in the spec: write the spec first");
                    findings.push(file.finding(line, &what));
                }
                if file.is_product() && !file.is_test(line) {
                    by_code.insert(id);
                }
            }
            if file.is_test(line) {
                by_test.extend(ids(&file.raw[line]).map(|(_, id)| id));
                by_test.extend(id_of_test_name(&text.code));
            }
        }
    }
    for (id, place) in defined.iter().filter(|(id, _)| !later.contains(*id)) {
        if !by_code.contains(id) {
            findings.push(format!("{place}: {id} is cited by no code: `// {id}` where it is kept"));
        }
        if !by_test.contains(id) {
            let name = id.to_lowercase().replace('-', "_");
            findings.push(format!("{place}: {id} is cited by no test: `fn {name}_…` proves it"));
        }
    }
    (findings, later.len())
}

/// What is wrong with the spec's own ids; the ids with their places; those marked later.
fn definitions(
    spec: &[(String, String)],
) -> (Vec<String>, BTreeMap<String, String>, BTreeSet<String>) {
    let (mut findings, mut mentioned) = (Vec::new(), Vec::new());
    let (mut defined, mut later) = (BTreeMap::new(), BTreeSet::new());
    for (path, text) in spec {
        for (line, text) in text.lines().enumerate() {
            let place = format!("{path}:{}", line + 1);
            for (start, id) in ids(text) {
                if text[..start].trim_start_matches(['-', ' ']) != "**" {
                    mentioned.push((place.clone(), id));
                    continue;
                }
                let rest = text[start + id.len()..].strip_prefix("**");
                if rest.is_none() {
                    let what = format!("write `**{id}**`, nothing else in the bold");
                    findings.push(format!("{place}: {what}"));
                }
                if rest.is_some_and(|rest| rest.starts_with(" (later)")) {
                    later.insert(id.clone());
                }
                if let Some(first) = defined.get(&id) {
                    let what = format!("{id} is defined at {first}: give a new number");
                    findings.push(format!("{place}: {what}"));
                } else {
                    defined.insert(id, place.clone());
                }
            }
        }
    }
    mentioned.retain(|(_, id)| !defined.contains_key(id));
    let dangling = mentioned.iter();
    findings.extend(dangling.map(|(place, id)| format!("{place}: {id} is mentioned, not defined")));
    (findings, defined, later)
}

/// Rule: a feature has a comment above it and a row in the README's table.
fn features(path: &str, manifest: &str, readme: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let entries = entries(manifest, |section| section == "features");
    for (line, name, commented) in entries.iter().filter(|(_, name, _)| name != "default") {
        let place = format!("{path}:{}", line + 1);
        if !commented {
            findings
                .push(format!("{place}: feature `{name}`: say above it what turning it off costs"));
        }
        let row = format!("| `{name}`");
        if !readme.lines().any(|line| line.starts_with(&row)) {
            findings.push(format!("{place}: feature `{name}` has no row `{row}` in README.md"));
        }
    }
    findings
}

/// Rule: a dependency has a comment directly above it that says why it is there.
fn dependencies(path: &str, manifest: &str) -> Vec<String> {
    let of = |section: &str| section == "dependencies" || section.ends_with(".dependencies");
    let mut findings: Vec<String> = entries(manifest, of)
        .iter()
        .filter(|(_, _, commented)| !commented)
        .map(|(line, name, _)| format!("{path}:{}: say above `{name}` why it is needed", line + 1))
        .collect();
    for (line, text) in manifest.lines().enumerate() {
        if text.starts_with("[dependencies.") {
            findings.push(format!("{path}:{}: write the dependency in one line", line + 1));
        }
    }
    findings
}

/// Rule: every metric of the table has a row on its page, and every row is a metric.
fn metrics(path: &str, table: &str, page: &str) -> Vec<String> {
    let is_name = |text: &&str| {
        text.starts_with("switchback_") && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let names: BTreeSet<&str> = table.split('"').filter(is_name).collect();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let rows: BTreeSet<&str> = rows.collect();
    let missing = names.difference(&rows);
    let mut findings: Vec<String> =
        missing.map(|name| format!("{path}: `{name}` has no row in docs/metrics.md")).collect();
    let stray = rows.difference(&names);
    findings.extend(stray.map(|name| format!("docs/metrics.md: `{name}` is not in {path}")));
    if names.is_empty() {
        findings.push(format!("{path}: names no metric"));
    }
    findings
}

/// Rule: a page of docs/ is a module of the guide and linked from the README.
fn guides(guide: &str, readme: &str, pages: &[(String, String)]) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, _) in pages {
        if !guide.contains(&format!("include_str!(\"../../{path}\")")) {
            findings.push(format!("{path}:1: no page of src/guide/mod.rs, so nothing compiles it"));
        }
        if !readme.contains(&format!("]({path})")) {
            findings.push(format!("{path}:1: not linked from README.md"));
        }
    }
    if pages.is_empty() {
        findings.push("docs/: no page found".to_owned());
    }
    findings
}

/// Rule: a relative link of a page, `](path)` or `]: path`, leads to a file.
fn links(pages: &[(String, String)], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    for (page, text) in pages {
        for (at, line) in text.lines().enumerate() {
            let inline = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let defined = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            let defined = defined.and_then(|(_, rest)| rest.strip_prefix(": "));
            for target in inline.chain(defined) {
                if target.contains("://") {
                    continue;
                }
                let path = match target.strip_prefix("../") {
                    Some(path) => path.to_owned(),
                    None if page.starts_with("docs/") => format!("docs/{target}"),
                    None => target.to_owned(),
                };
                if !exists(&path) {
                    let place = format!("{page}:{}", at + 1);
                    findings.push(format!("{place}: {target} leads nowhere: mend the link"));
                }
            }
        }
    }
    findings
}

/// Rule: the first Rust block of a page is the code of an example, from its first `use` on.
fn same_code(page: &str, path: &str, example: &str) -> Vec<String> {
    let block = page.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let code = example.find("\nuse ").map(|at| &example[at + 1..]);
    match (block, code) {
        (Some(block), Some(code)) if block == code => Vec::new(),
        _ => vec![format!("{path}:1: the README's first code is another: make them one")],
    }
}

fn floor_of(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, modules)| modules.contains(&module)).map(|(floor, _)| *floor)
}

fn each(rule: impl Fn(&File) -> Vec<String>) -> Vec<String> {
    tree().iter().flat_map(rule).collect()
}

/// Every Rust file of the repository.
fn tree() -> Vec<File> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR"));
    let texts = ROOTS.iter().flat_map(|root| read_all(base, root, "rs"));
    let files: Vec<File> = texts.map(|(path, text)| File::new(&path, &text)).collect();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "looked in the wrong folder");
    files
}

fn report(findings: Vec<String>) {
    assert!(findings.is_empty(), "{} finding(s):\n{}", findings.len(), findings.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a rule over one bad file and checks that it says exactly these things.
    #[track_caller]
    fn says(rule: impl Fn(&File) -> Vec<String>, path: &str, text: &str, expected: &[&str]) {
        let findings = rule(&File::new(path, text));
        assert_eq!(findings.len(), expected.len(), "{findings:#?}");
        for (finding, expected) in findings.iter().zip(expected) {
            assert!(finding.starts_with(expected), "{finding}\ndoes not start with\n{expected}");
        }
    }

    #[test]
    fn floors_bite() {
        let upward = "use crate::wire::Frame;\nuse crate::{\n    util::Fnv64,\n\
                      client::{self},\n};\nuse ::switchback::server::Server;";
        says(
            floors,
            "src/proto/calls.rs",
            upward,
            &[
                "src/proto/calls.rs:4: `proto` (floor 1) imports `client`",
                "src/proto/calls.rs:6: `proto` (floor 1) imports `server`",
            ],
        );
        let sibling = "fn f(x: crate::balance::Pick) {}";
        says(
            floors,
            "src/policy/retry.rs",
            sibling,
            &["src/policy/retry.rs:1: `policy` (floor 1) imports `balance`"],
        );
        let own_name = "use switchback::server::Server;\nuse switchback::Schema;";
        says(
            floors,
            "src/driver/mod.rs",
            own_name,
            &["src/driver/mod.rs:1: `driver` (floor 3) imports `server`"],
        );
        says(
            floors,
            "src/proto/mod.rs",
            "use crate::observe::names;",
            &["src/proto/mod.rs:1: `proto`"],
        );
        says(
            floors,
            "src/client/mod.rs",
            "use crate::__private::x;",
            &["src/client/mod.rs:1: `__private` is"],
        );
        says(
            floors,
            "src/client/mod.rs",
            "use crate::Server;",
            &["src/client/mod.rs:1: `crate::Server` is no"],
        );
        says(floors, "src/extra.rs", "", &["src/extra.rs:1: module `extra` stands on no floor"]);
    }

    #[test]
    fn floors_allow_what_is_below_and_what_is_quoted() {
        let text = "// crate::server::X\nuse crate::observe::names;\n\
                    const X: &str = \"crate::server\";\n\
                    pub(crate) use crate::client::call::Call;\n";
        says(floors, "src/client/mod.rs", text, &[]);
        says(floors, "src/lib.rs", "pub use crate::server::Server;", &[]);
    }

    /// `super::` is for tests; `pub(super)` is no import.
    #[test]
    fn super_is_for_tests() {
        let text = "use super::head;\npub(super) fn f() {}\n\
                    #[cfg(test)]\nmod tests {\n    use super::*;\n}\n";
        says(floors, "src/wire/frame.rs", text, &["src/wire/frame.rs:1: `super::` outside tests"]);
        let text = "mod tests {\n    use super::*;\n}\n";
        says(floors, "src/wire/frame.rs", text, &["src/wire/frame.rs:2: `super::` outside tests"]);
    }

    #[test]
    fn purity_bites() {
        let path = "src/wire/decoder.rs";
        for bad in [
            "use tokio::io::AsyncRead;",
            "use tokio_util::codec::Decoder;",
            "let now = std::time::Instant::now();",
            "let now = SystemTime::now;",
            "use rand::{Rng, thread_rng as dice};",
            "use std::{fmt, fs};",
            "use std::net::{IpAddr, TcpStream};",
            "std::thread::sleep(pause);",
            "async fn read() {}",
            "let age = start.elapsed();",
            "use std::collections::HashMap;",
        ] {
            let findings = purity(&File::new(path, bad));
            assert!(!findings.is_empty(), "{bad}");
            assert!(
                findings.iter().all(|f| f.starts_with("src/wire/decoder.rs:1: ")),
                "{findings:?}"
            );
        }
        says(purity, HASH_MAPS[0].0, "", &["src/service/schema_impls.rs:1: no hash map here any"]);
    }

    #[test]
    fn purity_allows_types_and_upper_floors_and_tests() {
        let text = "use std::time::{Duration, Instant, SystemTime};\n// never Instant::now\n\
                    fn f(operand: u8, now: Instant) {}\n\
                    #[cfg(test)]\nmod tests {\n    fn now() { Instant::now(); }\n}\n";
        says(purity, "src/proto/timers.rs", text, &[]);
        says(purity, "src/driver/runtime.rs", "use tokio::net::TcpStream;", &[]);
        says(purity, HASH_MAPS[0].0, "use std::collections::{HashMap, HashSet};", &[]);
    }

    #[test]
    fn shape_bites() {
        let header = "src/a.rs:1: no `//!` header";
        says(shape, "src/a.rs", "fn f() {}\n", &[header]);
        says(shape, "src/a.rs", "//! Frames\n", &[header]);
        says(shape, "src/a.rs", "//!\n//! What a frame is made of.\n", &[header]);
        let good = "//! What a frame is made of.\n";
        says(shape, "src/a.rs", &format!("{good}{}", "\n".repeat(599)), &[]);
        says(
            shape,
            "src/a.rs",
            &format!("{good}{}", "\n".repeat(600)),
            &["src/a.rs:601: 601 lines"],
        );
        says(shape, "src/a.rs", &format!("{good}//{}\n", "ä".repeat(98)), &[]);
        says(shape, "src/a.rs", &format!("{good}//{}\n", "ä".repeat(99)), &["src/a.rs:2: 101 col"]);
        let tests = format!("{good}#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(700));
        says(shape, "src/a.rs", &tests, &[]);
        says(
            shape,
            "src/a.rs",
            &format!("{tests}\nfn hidden() {{}}\n"),
            &["src/a.rs:706: code after"],
        );
    }

    #[test]
    fn words_bite() {
        let text = "fn f() {\n    x.unwrap();\n    dbg!(x);\n    println!(\"\");\n    todo!()\n}\n";
        let expected = [
            "src/a.rs:2: `.unwrap()`",
            "src/a.rs:3: `dbg!`",
            "src/a.rs:4: `println!`",
            "src/a.rs:5: `todo!`",
        ];
        says(words, "src/a.rs", text, &expected);
        says(
            words,
            "src/bin/switchback/main.rs",
            "println!(); unimplemented!()",
            &["src/bin/switchback/main.rs:1: `unim"],
        );
        says(
            words,
            "benches/a.rs",
            "// TODO: faster\n// FIXME(12) too",
            &["benches/a.rs:1: write", "benches/a.rs:2: write"],
        );
        let fine = "// x.unwrap(), TODO(#12)\nx.unwrap_or(\"dbg!\");\n\
                    #[cfg(test)]\nmod tests {\n    x.unwrap();\n}\n";
        says(words, "src/a.rs", fine, &[]);
    }

    #[test]
    fn unsafety_bites() {
        says(unsafety, "benches/a.rs", "let x = unsafe { *p };", &["benches/a.rs:1: unsafe"]);
        let expects = "#![expect(unsafe_code, reason = \"fast\")]";
        says(unsafety, "src/a.rs", expects, &["src/a.rs:1: unsafe"]);
        says(unsafety, "src/a.rs", "// unsafe\nlet unsafety = \"unsafe\";", &[]);
    }

    #[test]
    fn reachable_bites() {
        let file = |path: &str, text: &str| File::new(path, text);
        let mut files = vec![
            file("src/lib.rs", "pub mod wire;\n// mod lost;\n"),
            file("src/wire/mod.rs", "mod head;\nmod tests;\n"),
            file("src/wire/head.rs", ""),
            file("src/wire/tests/mod.rs", ""),
            file("src/lost.rs", ""),
            file("tests/it/main.rs", "mod unary;"),
            file("tests/it/never_run.rs", ""),
            file("tests/ui/bad.rs", ""),
        ];
        let expected = [
            "src/wire/mod.rs:2: `mod tests;` without `#[cfg(test)]`",
            "src/lost.rs:1: declared nowhere: `mod lost;`",
            "tests/it/never_run.rs:1: declared nowhere: `mod never_run;`",
        ];
        assert_eq!(reachable(&files), expected);

        files.retain(|file| !file.path.contains("lost") && !file.path.contains("never_run"));
        files[1] = file("src/wire/mod.rs", "mod head;\n#[cfg(test)]\nmod tests;\n");
        assert_eq!(reachable(&files), [""; 0]);
    }

    #[test]
    fn spec_ids_bite() {
        let page = |text: &str| vec![("spec/01.md".to_owned(), text.to_owned())];
        let files = [
            File::new(
                "src/a.rs",
                "// FR-1, FR-9 and UTF-8\n#[cfg(test)]\nmod tests {\n    // FR-2\n}\n",
            ),
            File::new("tests/spec.rs", "#[test]\nfn fr_1_holds() {}\n"),
            File::new("tests/tidy.rs", "// FR-3"),
        ];
        let spec = page(
            "**FR-1** a\n- **FR-2** b\n**FR-3** (later) c\nsee **FR-1** and FR-7\n\
             **FR-1** d\n**FR-3.** e\n",
        );
        let (findings, later) = spec_ids(&spec, &files);
        let expected = [
            "spec/01.md:5: FR-1 is defined at spec/01.md:1",
            "spec/01.md:6: write `**FR-3**`",
            "spec/01.md:6: FR-3 is defined at spec/01.md:3",
            "spec/01.md:4: FR-7 is mentioned, not defined",
            "src/a.rs:1: FR-9 is not in the spec",
            "spec/01.md:2: FR-2 is cited by no code",
        ];
        assert_eq!((findings.len(), later), (expected.len(), 1), "{findings:#?}");
        for (finding, expected) in findings.iter().zip(expected) {
            assert!(finding.starts_with(expected), "{finding}");
        }

        let untested = [File::new("src/a.rs", "// FR-1, FR-2")];
        let (findings, _) = spec_ids(&page("**FR-1** a\n**FR-2** b\n"), &untested);
        let expected = [
            "spec/01.md:1: FR-1 is cited by no test: `fn fr_1_…` proves it",
            "spec/01.md:2: FR-2 is cited by no test: `fn fr_2_…` proves it",
        ];
        assert_eq!(findings, expected);
        assert_eq!(spec_ids(&page("nothing"), &[]).0.len(), 1);
    }

    #[test]
    fn features_bite() {
        let manifest = "[features]\ndefault = [\"a\"]\n# Why.\na = [\n    \"dep:a\",\n]\nb = []\n\
                        [lints]\nc = 1\n";
        let readme = "| feature | what |\n| `a` | first |\n";
        let findings = features("Cargo.toml", manifest, readme);
        assert_eq!(findings.len(), 2, "{findings:#?}");
        assert!(findings[0].starts_with("Cargo.toml:7: feature `b`: say above it"));
        assert!(findings[1].starts_with("Cargo.toml:7: feature `b` has no row"));
    }

    #[test]
    fn metrics_bite() {
        let table = "A = \"switchback_a_total\", Counter;\nB = \"switchback_b\", Gauge;";
        let page = "| metric |\n| `switchback_a_total` | counter |\n| `switchback_c` | gauge |\n";
        let findings = metrics("names.rs", table, page);
        assert_eq!(findings.len(), 2, "{findings:#?}");
        assert!(findings[0].starts_with("names.rs: `switchback_b` has no row"));
        assert!(findings[1].starts_with("docs/metrics.md: `switchback_c` is not"));
        assert_eq!(metrics("names.rs", "", "").len(), 1);
    }

    #[test]
    fn pages_bite() {
        let page = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        let pages = [
            page("docs/a.md", "[b](b.md) [s](../src/x.rs)\n[`T`]: ../src/y.rs\n"),
            page("docs/b.md", "[web](https://example.org) `[x]: no link`\n"),
        ];
        let findings =
            guides("#[doc = include_str!(\"../../docs/a.md\")]", "[b](docs/b.md)", &pages);
        assert_eq!(findings.len(), 2, "{findings:#?}");
        assert!(findings[0].starts_with("docs/a.md:1: not linked"));
        assert!(findings[1].starts_with("docs/b.md:1: no page of"));
        assert_eq!(guides("", "", &[]).len(), 1);

        let findings = links(&pages, |path| path == "src/x.rs");
        assert_eq!(findings.len(), 2, "{findings:#?}");
        assert!(findings[0].starts_with("docs/a.md:1: b.md leads nowhere"));
        assert!(findings[1].starts_with("docs/a.md:2: ../src/y.rs leads nowhere"));
        assert_eq!(
            links(&pages, |path| path.starts_with("docs/") || path.starts_with("src/")),
            [""; 0]
        );
    }

    #[test]
    fn same_code_bites() {
        let example = "//! Header words.\n\nuse a::B;\n\nfn main() {}\n";
        let page =
            |code: &str| format!("text\n```sh\nls\n```\n```rust\n{code}```\n```rust\nx\n```\n");
        let findings = same_code(&page("use a::B;\n\nfn main() {}\n"), "examples/a.rs", example);
        assert_eq!(findings, [""; 0]);
        for other in ["use a::C;\n\nfn main() {}\n", ""] {
            assert_eq!(same_code(&page(other), "examples/a.rs", example).len(), 1);
        }
        assert_eq!(same_code("no code", "examples/a.rs", example).len(), 1);
    }

    #[test]
    fn dependencies_bite() {
        let manifest = "[dependencies]\n# Why.\na = \"1\"\nb = { version = \"1\" }\n\
                        [dev-dependencies]\nc = \"1\"\n\
                        [dependencies.d]\nversion = \"1\"\n\
                        [target.'cfg(unix)'.dependencies]\ne = \"1\"\n";
        let findings = dependencies("Cargo.toml", manifest);
        let expected =
            ["Cargo.toml:4: say above `b`", "Cargo.toml:10: say above `e`", "Cargo.toml:7: write"];
        assert_eq!(findings.len(), expected.len(), "{findings:#?}");
        assert!(
            findings.iter().zip(expected).all(|(f, start)| f.starts_with(start)),
            "{findings:#?}"
        );
    }
}

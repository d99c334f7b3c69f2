//! Enough of a reader of Rust, Markdown and manifests for the rules of tests/tidy.rs.
//!
//! A [`File`] is Rust text whose comments are set apart and whose strings are emptied, line by
//! line, so that a rule never mistakes a quotation for code. [`File::paths`] spreads `use` trees,
//! so that `use std::{fs, io}` names `std::fs`. Nothing here is a parser: macros are read as they
//! are written, and raw identifiers are not known.

use std::fs;
use std::ops::Range;
use std::path::Path;

/// One line of Rust: its code with the inside of strings taken out, and its comment.
#[derive(Default)]
pub(crate) struct Line {
    pub(crate) code: String,
    pub(crate) comment: String,
}

pub(crate) struct File {
    /// From the repository's root, with `/`.
    pub(crate) path: String,
    pub(crate) raw: Vec<String>,
    pub(crate) lines: Vec<Line>,
    /// Lines of the trailing `mod tests`, if there is one.
    pub(crate) tests: Option<Range<usize>>,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let raw: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut lines = split(text);
        lines.truncate(raw.len());
        let mut file = Self { path: path.to_owned(), raw, lines, tests: None };
        let start = file.lines.iter().position(|line| line.code == "mod tests {");
        if let Some(start) = start.filter(|start| file.is_cfg_test(*start)) {
            let length = file.lines[start..].iter().position(|line| line.code == "}");
            file.tests = Some(start..length.map_or(file.lines.len(), |length| start + length + 1));
        }
        file
    }

    /// The module of the library that the file belongs to.
    pub(crate) fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        let module = rest.split('/').next()?.trim_end_matches(".rs");
        (!matches!(module, "lib" | "bin" | "__private")).then_some(module)
    }

    pub(crate) fn is_product(&self) -> bool {
        self.path.starts_with("src/") || self.path.starts_with("macros/src/")
    }

    pub(crate) fn is_test(&self, line: usize) -> bool {
        let path = &self.path;
        path.starts_with("tests/")
            || (self.is_product() && (path.contains("/tests/") || path.ends_with("/tests.rs")))
            || self.tests.as_ref().is_some_and(|tests| tests.contains(&line))
    }

    /// Whether the item in this line has a `#[cfg(test)]` among the attributes above it.
    pub(crate) fn is_cfg_test(&self, line: usize) -> bool {
        let above = self.lines[..line].iter().rev().map(|line| line.code.trim());
        above
            .take_while(|code| !code.is_empty() && !code.ends_with(['}', ';']))
            .any(|code| code.starts_with("#[cfg(test)") || code.starts_with("#[cfg(all(test,"))
    }

    pub(crate) fn product(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines.iter().enumerate().filter(|(line, _)| !self.is_test(*line))
    }

    pub(crate) fn finding(&self, line: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }

    /// Every path in the code, `use` trees spread: `a::{b, c::d}` gives `a::b` and `a::c::d`.
    pub(crate) fn paths(&self) -> Vec<(usize, Vec<String>)> {
        let mut tokens: Vec<(usize, String)> = Vec::new();
        for (line, text) in self.lines.iter().enumerate() {
            let mut before = ' ';
            for char in text.code.chars() {
                match tokens.last_mut() {
                    Some((_, last)) if is_word(before) && is_word(char) => last.push(char),
                    Some((_, last)) if before == ':' && char == ':' => last.push(char),
                    // After a space `::` starts a path, it joins nothing: `use ::std::fs`.
                    _ if before == ' ' && char == ':' => tokens.push((line, " :".to_owned())),
                    _ if char.is_whitespace() => {}
                    _ => tokens.push((line, char.to_string())),
                }
                before = char;
            }
        }
        let (mut found, mut at) = (Vec::new(), 0);
        while at < tokens.len() {
            at = spread(&tokens, at, &[], &mut found);
        }
        found
    }
}

/// Adds the paths of the tree that starts at token `at`; returns the token after it.
fn spread(
    tokens: &[(usize, String)],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |(_, text)| text.as_str());
    let is_name = |at: usize| text(at).starts_with(is_word);
    let is_glob = text(at) == "*" && !prefix.is_empty();
    if !is_name(at) && !is_glob {
        return at + 1;
    }
    let mut path = prefix.to_vec();
    let line = tokens[at].0;
    path.push(text(at).to_owned());
    at += 1;
    while text(at) == "::" && (is_name(at + 1) || text(at + 1) == "*") {
        path.push(text(at + 1).to_owned());
        at += 2;
    }
    if text(at) == "::" && text(at + 1) == "{" {
        at += 2;
        while at < tokens.len() && text(at) != "}" {
            at = spread(tokens, at, &path, found);
        }
        return at + 1;
    }
    found.push((line, path));
    // A rename inside a tree; elsewhere `as` is a cast whose type is a path to be read.
    if !prefix.is_empty() && text(at) == "as" { at + 2 } else { at }
}

/// Splits Rust text into code and comments, line by line, dropping the inside of strings.
fn split(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let (mut lines, mut at) = (vec![Line::default()], 0);
    while at < chars.len() {
        let rest = &chars[at..];
        let line = lines.last_mut().expect("starts with one line, never shrinks");
        let is_comment = matches!(rest, ['/', '/' | '*', ..]);
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|char| *char == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => {
                line.code.push_str("\"\"");
                string(rest, raw_hashes(&line.code))
            }
            ['\'', '\\', _, rest @ ..] => {
                3 + rest.iter().position(|char| *char == '\'').map_or(0, |quote| quote + 1)
            }
            ['\'', _, '\'', ..] => 3,
            _ => {
                line.code.extend(rest.first().filter(|char| **char != '\n'));
                1
            }
        };
        for char in &rest[..length] {
            match lines.last_mut() {
                _ if *char == '\n' => lines.push(Line::default()),
                Some(line) if is_comment => line.comment.push(*char),
                _ => {}
            }
        }
        at += length;
    }
    lines
}

/// The length of the block comment that `chars` starts with; comments nest.
fn block_comment(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => depth += 1,
            ['*', '/', ..] => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    at
}

/// The length of the string that `chars` starts with, its opening quote and closing hashes
/// included; `hashes` if it is a raw one.
fn string(chars: &[char], hashes: Option<usize>) -> usize {
    let mut at = 1;
    while at < chars.len() {
        let closing = chars[at + 1..].iter().take(hashes.unwrap_or(0));
        match chars[at] {
            '\\' if hashes.is_none() => at += 1,
            '"' if closing.filter(|char| **char == '#').count() == hashes.unwrap_or(0) => {
                return at + 1 + hashes.unwrap_or(0);
            }
            _ => {}
        }
        at += 1;
    }
    chars.len()
}

/// The hashes of a raw string whose quotes end `code`; none if it is not a raw one.
fn raw_hashes(code: &str) -> Option<usize> {
    let before = code.trim_end_matches('"');
    let name = before.trim_end_matches('#');
    let is_raw = name.strip_suffix('r').is_some_and(|rest| {
        let rest = rest.strip_suffix(['b', 'c']).unwrap_or(rest);
        !rest.ends_with(is_word)
    });
    is_raw.then_some(before.len() - name.len())
}

/// Entries `name = …` of a manifest's sections: line, name, whether a comment stands above.
pub(crate) fn entries(manifest: &str, wanted: impl Fn(&str) -> bool) -> Vec<(usize, String, bool)> {
    let (mut found, mut section, mut open, mut commented) = (Vec::new(), "", 0_isize, false);
    for (line, text) in manifest.lines().enumerate() {
        let starts = open == 0 && !text.starts_with('#');
        if let Some(name) = text.strip_prefix('[').filter(|_| starts) {
            section = name.trim_end().trim_end_matches(']');
        } else if let Some((name, value)) = text.split_once('=').filter(|_| starts) {
            if wanted(section) {
                found.push((line, name.trim().to_owned(), commented));
            }
            open += brackets(value);
        } else if !text.starts_with('#') {
            open += brackets(text);
        }
        commented = text.starts_with("# ");
    }
    found
}

fn brackets(text: &str) -> isize {
    text.chars().map(|char| isize::from(char == '[') - isize::from(char == ']')).sum()
}

/// The requirement ids in a text: two capitals, a hyphen, a number, as a word of its own.
pub(crate) fn ids(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.match_indices('-').filter_map(|(hyphen, _)| {
        let start = hyphen.checked_sub(2)?;
        let prefix = text.get(start..hyphen)?;
        let after = &text[hyphen + 1..];
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let is_id = prefix.chars().all(|char| char.is_ascii_uppercase())
            && digits > 0
            && !text[..start].ends_with(|char: char| is_word(char) || char == '-')
            && !after[digits..].starts_with(is_word);
        is_id.then(|| (start, text[start..hyphen + 1 + digits].to_owned()))
    })
}

/// The id in a test's name: `fn fr_3_rejects_zero_length` cites FR-3.
pub(crate) fn id_of_test_name(code: &str) -> Option<String> {
    let mut parts = code.split_once("fn ")?.1.split(|c: char| !is_word(c)).next()?.split('_');
    let (prefix, number) = (parts.next()?, parts.next()?);
    let id = format!("{}-{number}", prefix.to_uppercase());
    ids(&id).next().map(|(_, id)| id)
}

pub(crate) fn matches(segments: &[String], pattern: &[&str]) -> bool {
    segments.iter().zip(pattern).all(|(segment, pattern)| {
        let prefix = pattern.strip_suffix('*');
        prefix.map_or(segment == pattern, |prefix| segment.starts_with(prefix))
    })
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

pub(crate) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(start, _)| {
        let (before, after) = (&text[..start], &text[start + word.len()..]);
        let joins_left = word.starts_with(is_word) && before.ends_with(is_word);
        let joins_right = word.ends_with(is_word) && after.starts_with(is_word);
        !joins_left && !joins_right
    })
}

/// Whether every `note` in the comment is followed by `(#number)`.
pub(crate) fn has_issue(comment: &str, note: &str) -> bool {
    comment.match_indices(note).all(|(start, _)| {
        let number = comment[start + note.len()..].strip_prefix("(#");
        let number = number.and_then(|rest| rest.split_once(')')).map(|(number, _)| number);
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    })
}

/// The files under a folder by their ending, sorted; no folder, no files.
pub(crate) fn read_all(base: &Path, folder: &str, ending: &str) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(base.join(folder)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.expect("the folder was just listed");
        let name = entry.file_name().into_string().expect("the repository's names are UTF-8");
        let path = format!("{folder}/{name}");
        if entry.path().is_dir() && !matches!(name.as_str(), "target" | "corpus" | "artifacts") {
            found.extend(read_all(base, &path, ending));
        } else if name.ends_with(&format!(".{ending}")) {
            found.push((path.clone(), read(&path)));
        }
    }
    found.sort();
    found
}

/// A file's text; a missing file is empty, and the rule that needs it says so.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        let lines: Vec<String> = split(text).into_iter().map(|line| line.code).collect();
        lines.join("\n")
    }

    /// Quotations are emptied, comments set apart, and both end where Rust ends them.
    #[test]
    fn strings_and_comments_are_no_code() {
        assert_eq!(code(r#"a("x // \" y", 'b', '"', '\'', '\u{1F}') // c"#), r#"a("", , , , ) "#);
        assert_eq!(code("r#\"a \" b\"# + br\"\\\" + c"), "r#\"\" + br\"\" + c");
        assert_eq!(code("a /* b /* c */ d\n e */ f"), "a \n f");
        assert_eq!(code("a(\"x\n  y\", &'a str)"), "a(\"\"\n, &'a str)");
        assert_eq!(split("x; // why: \"FR-3\"")[0].comment, "// why: \"FR-3\"");
    }

    /// A `use` tree is the list of its paths, renames apart; a path in code stands for itself.
    #[test]
    fn use_trees_are_spread() {
        let file = File::new("src/a.rs", "use a::{b, c::{self, d as e}, *};\nx as ::f::g<h::I>;");
        let paths =
            file.paths().into_iter().map(|(line, path)| format!("{line} {}", path.join("::")));

        let expected = [
            "0 use",
            "0 a::b",
            "0 a::c::self",
            "0 a::c::d",
            "0 a::*",
            "1 x",
            "1 as",
            "1 f::g",
            "1 h::I",
        ];
        assert_eq!(paths.collect::<Vec<_>>(), expected);
    }

    /// Only a `mod tests` that is compiled for tests alone is one.
    #[test]
    fn tests_are_found_by_their_cfg() {
        let range = |text: &str| File::new("src/a.rs", text).tests;
        assert_eq!(range("a\n#[cfg(test)]\nmod tests {\n    b\n}\nc"), Some(2..5));
        assert_eq!(range("#[cfg(all(test, feature = \"tcp\"))]\nmod tests {\n}\n"), Some(1..3));
        assert_eq!(range("#[cfg(test)]\nmod other;\nmod tests {\n}\n"), None);
    }

    #[test]
    fn ids_are_words() {
        let found = |text| ids(text).map(|(_, id)| id).collect::<Vec<_>>();
        assert_eq!(found("(FR-3), HS-12: CA-1..CA-4"), ["FR-3", "HS-12", "CA-1", "CA-4"]);
        assert_eq!(found("UTF-8 CRC-32 X-1 fr-3 FR-x FR-3a A-FR-3 ü-1"), [""; 0]);
        assert_eq!(id_of_test_name("async fn fr_3_rejects() {"), Some("FR-3".to_owned()));
        assert_eq!(id_of_test_name("fn first_3() {"), None);
    }

    #[test]
    fn entries_know_their_section_and_comment() {
        let manifest = "[a]\nx = 1\n# Why.\ny = [\n    \"z = 1\",\n]\n\n[b]\nz = 1\n";
        let found = entries(manifest, |section| section == "a");
        assert_eq!(found, [(1, "x".to_owned(), false), (3, "y".to_owned(), true)]);
    }
}

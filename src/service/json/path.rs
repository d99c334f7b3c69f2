//! Where in a JSON text a byte is: `$.tags[3].name`.
//!
//! Invariants: reads the text once, keeps 64 levels and 40 characters of each name, and works on
//! any text, well formed or not.
//! Why from the text and not by a wrapper that follows the decoding: this costs nothing until there
//! is an error, and no second copy of every type's decoder.

use std::fmt::Write;

/// The path of the value that the byte at `offset`, or the one before it, belongs to.
pub(super) fn path_at(text: &str, offset: usize) -> String {
    let mut place = Place { levels: Vec::new(), deeper: 0 };
    let bytes = &text.as_bytes()[..offset];
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'[' => place.enter(Level::Element(0)),
            b'{' => place.enter(Level::Object),
            b']' | b'}' => place.leave(),
            b',' => place.next(),
            b'"' => {
                at = end_of_string(bytes, at);
                // Bytes before a quote are whole characters.
                place.name(text.get(start + 1..at.saturating_sub(1)).unwrap_or_default());
            }
            _ => {}
        }
    }
    place.to_string()
}

/// The levels that are open at a byte.
struct Place<'t> {
    levels: Vec<Level<'t>>,
    /// Levels below those that are kept.
    deeper: usize,
}

enum Level<'t> {
    /// In an array, at this element.
    Element(usize),
    /// In an object, before a name or in its value.
    Field(&'t str),
    Object,
}

impl<'t> Place<'t> {
    fn enter(&mut self, level: Level<'t>) {
        if self.levels.len() < LEVELS_MAX && self.deeper == 0 {
            self.levels.push(level);
        } else {
            self.deeper += 1;
        }
    }

    fn leave(&mut self) {
        match self.deeper.checked_sub(1) {
            Some(deeper) => self.deeper = deeper,
            None => drop(self.levels.pop()),
        }
    }

    fn next(&mut self) {
        if self.deeper > 0 {
            return;
        }
        match self.levels.last_mut() {
            Some(Level::Element(index)) => *index += 1,
            Some(level) => *level = Level::Object,
            None => {}
        }
    }

    /// A string: the name of a field if one is due.
    fn name(&mut self, name: &'t str) {
        if let (0, Some(level @ Level::Object)) = (self.deeper, self.levels.last_mut()) {
            *level = Level::Field(name);
        }
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_char('$')?;
        for level in &self.levels {
            match level {
                Level::Element(index) => write!(f, "[{index}]")?,
                Level::Field(name) if is_word(name) => write!(f, ".{name}")?,
                Level::Field(name) => {
                    let end = name.char_indices().nth(NAME_CHARS_MAX).map(|(at, _)| at);
                    let short = end.map_or("", |_| "...");
                    write!(f, "[\"{}{short}\"]", &name[..end.unwrap_or(name.len())])?;
                }
                Level::Object => {}
            }
        }
        if self.deeper > 0 { f.write_str("...") } else { Ok(()) }
    }
}

/// The index after the quote that ends a string, or the end.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn is_word(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(is_letter)
}

/// Levels of a path; more are written as `...`.
const LEVELS_MAX: usize = 64;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte belongs to the value it is in or has just ended; after the end of an object, to that.
    #[test]
    fn a_byte_has_a_path() {
        let text = r#"{"id":7,"tags":[1,{"a b":"x,\"]}","n":2}],"end":null}"#;
        let path = |after: &str| path_at(text, text.find(after).unwrap() + after.len());
        assert_eq!(path("{"), "$");
        assert_eq!(path("\"id\""), "$.id");
        assert_eq!(path("7"), "$.id");
        assert_eq!(path("7,"), "$");
        assert_eq!(path("[1"), "$.tags[0]");
        assert_eq!(path("[1,"), "$.tags[1]");
        assert_eq!(path("a b\":"), "$.tags[1][\"a b\"]");
        assert_eq!(path("]}\""), "$.tags[1][\"a b\"]");
        assert_eq!(path("\"n\":2"), "$.tags[1].n");
        assert_eq!(path("2}"), "$.tags[1]");
        assert_eq!(path("2}]"), "$.tags");
        assert_eq!(path("null}"), "$");
    }

    /// Long names and deep values are cut short, and garbage has a path as well.
    #[test]
    fn a_path_is_bounded() {
        let text = format!("{{\"{}\":1", "é".repeat(41));
        assert_eq!(path_at(&text, text.len()), format!("$[\"{}...\"]", "é".repeat(40)));
        let deep = "[".repeat(100_000);
        assert_eq!(path_at(&deep, deep.len()), format!("${}...", "[0]".repeat(64)));
        let up = format!("{deep}{}", "]".repeat(99_998));
        assert_eq!(path_at(&up, up.len()), "$[0][0]");
        for text in ["]]}}", "{\"", "{\"\\", ",,:", "[\"é", "{,\"a\":{]"] {
            for offset in 0..=text.len() {
                assert!(path_at(text, offset).starts_with('$'));
            }
        }
    }
}

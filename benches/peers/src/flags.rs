//! The command line: words in order, flags in any.
//!
//! Why by hand: two dozen lines, and nothing of clap's in the binary that is measured.

use std::fmt::Display;
use std::str::FromStr;

use crate::fault::Fault;

/// What was said, less what was taken.
#[derive(Debug, Default)]
pub struct Flags {
    words: Vec<String>,
    flags: Vec<(String, Option<String>)>,
}

/// Flags that take no value.
const ALONE: &[&str] = &["count", "quick"];

impl Flags {
    /// Takes the arguments apart.
    ///
    /// # Errors
    /// If a flag lacks its value.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, Fault> {
        let mut parsed = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix("--") {
                None => parsed.words.push(argument),
                Some(name) if ALONE.contains(&name) => parsed.flags.push((name.to_owned(), None)),
                Some(name) => {
                    let lacking = || Fault::new(format!("--{name} needs a value"));
                    let value = arguments.next().ok_or_else(lacking)?;
                    parsed.flags.push((name.to_owned(), Some(value)));
                }
            }
        }
        Ok(parsed)
    }

    /// The next word.
    ///
    /// # Errors
    /// If there is none; the fault says what it would be.
    pub fn word(&mut self, what: &str) -> Result<String, Fault> {
        if self.words.is_empty() {
            return Err(Fault::new(format!("missing: {what}")));
        }
        Ok(self.words.remove(0))
    }

    /// Whether a flag without a value is there.
    pub fn is_set(&mut self, name: &str) -> bool {
        self.take(name).is_some()
    }

    /// A flag's value.
    ///
    /// # Errors
    /// If it is not there, or is none of the type.
    pub fn value<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<T, Fault> {
        self.optional(name)?.ok_or_else(|| Fault::new(format!("missing: --{name}")))
    }

    /// A flag's value, or this one.
    ///
    /// # Errors
    /// If it is none of the type.
    pub fn value_or<T: FromStr<Err: Display>>(&mut self, name: &str, or: T) -> Result<T, Fault> {
        Ok(self.optional(name)?.unwrap_or(or))
    }

    /// A flag's value, if it is there.
    ///
    /// # Errors
    /// If it is none of the type.
    pub fn optional<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, Fault> {
        let Some(value) = self.take(name).flatten() else {
            return Ok(None);
        };
        let wrong = |error| Fault::new(format!("--{name} {value}: {error}"));
        value.parse().map(Some).map_err(wrong)
    }

    /// A flag's values between commas, if it is there.
    pub fn list(&mut self, name: &str) -> Option<Vec<String>> {
        let text = self.take(name).flatten();
        text.map(|text| text.split(',').map(str::to_owned).collect())
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// With the first thing that nobody took.
    pub fn end(&self) -> Result<(), Fault> {
        let flag = self.flags.first().map(|(name, _)| format!("--{name}"));
        match self.words.first().cloned().or(flag) {
            Some(left) => Err(Fault::new(format!("not known here: {left}"))),
            None => Ok(()),
        }
    }

    fn take(&mut self, name: &str) -> Option<Option<String>> {
        let at = self.flags.iter().position(|(flag, _)| flag == name)?;
        Some(self.flags.remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, Fault> {
        Flags::parse(line.split_whitespace().map(str::to_owned))
    }

    /// Words keep their order, flags may stand anywhere, what nobody took is refused.
    #[test]
    fn words_and_flags_are_taken() {
        let mut flags = parse("load --count a --rounds 7 b").expect("well formed");

        assert_eq!(flags.word("x").expect("a word"), "load");
        assert_eq!(flags.value::<u32>("rounds").expect("a number"), 7);
        assert!(flags.is_set("count") && !flags.is_set("quick"));
        assert_eq!(flags.word("x").expect("a word"), "a");
        assert!(flags.end().expect_err("b is left").to_string().contains('b'));
    }

    /// A flag without its value, a value of another type, a word that is not there.
    #[test]
    fn what_is_wrong_is_named() {
        assert!(parse("run --rounds").expect_err("no value").to_string().contains("--rounds"));
        let mut flags = parse("run --rounds many").expect("well formed");
        let fault = flags.value::<u32>("rounds").expect_err("no number").to_string();
        assert!(fault.contains("--rounds many"), "{fault}");
        assert!(parse("").expect("empty").word("the peer").is_err());
    }
}

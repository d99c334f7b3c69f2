//! The data that is served: package records, as `dpkg` keeps them.
//!
//! ```text
//!   Package: zlib1g               one paragraph is one record; a line that begins with a blank
//!   Version: 1:1.3.dfsg-1         goes on with the field above it; an empty line ends a record
//! ```
//!
//! Invariants: every record has a name and a version; names are unique (of a package installed for
//! two architectures the first record is taken).

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use switchback::Schema;

/// One line of a record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub(crate) struct Field {
    /// As it is written, for instance `Installed-Size`.
    pub(crate) name: String,
    /// Lines of a long one are kept apart by line breaks.
    pub(crate) value: String,
}

/// Everything known of one package.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Package {
    /// The field `Package`.
    pub(crate) name: String,
    /// The field `Version`.
    pub(crate) version: String,
    /// All fields, these two included.
    pub(crate) fields: Vec<Field>,
}

/// The installed packages.
#[derive(Debug)]
pub(crate) struct Packages {
    list: Vec<Package>,
    by_name: HashMap<String, usize>,
}

impl Packages {
    /// The text of the machine's own packages, or of those that come with the example; and where
    /// it is from.
    pub(crate) fn text_of_machine() -> (String, &'static str) {
        match std::fs::read_to_string(STATUS) {
            Ok(text) if !Self::parse(&text).list.is_empty() => (text, STATUS),
            // No dpkg here, or an image that was stripped of its package list.
            Ok(_) | Err(_) => (SHIPPED.to_owned(), "the records that come with the example"),
        }
    }

    /// Reads a file of records.
    ///
    /// # Errors
    /// If the file cannot be read or holds no record.
    pub(crate) fn load(path: &Path) -> std::io::Result<Self> {
        let packages = Self::parse(&std::fs::read_to_string(path)?);
        if packages.list.is_empty() {
            return Err(std::io::Error::other(format!("no package records in {}", path.display())));
        }
        Ok(packages)
    }

    /// Reads records; paragraphs without a name or a version are none.
    pub(crate) fn parse(text: &str) -> Self {
        let mut packages = Self { list: Vec::new(), by_name: HashMap::new() };
        for paragraph in text.split("\n\n") {
            let fields = fields(paragraph);
            let value = |name| {
                let field = fields.iter().find(|field: &&Field| field.name == name);
                field.map(|field| field.value.clone())
            };
            let (Some(name), Some(version)) = (value(NAME), value(VERSION)) else { continue };
            if packages.by_name.contains_key(&name) {
                continue;
            }
            packages.by_name.insert(name.clone(), packages.list.len());
            packages.list.push(Package { name, version, fields });
        }
        packages
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.list.len()
    }

    /// The one with this number, counted from 0 and round again.
    pub(crate) fn at(&self, number: u64) -> &Package {
        let count = u64::try_from(self.list.len()).expect("a length fits in 64 bits");
        let at = usize::try_from(number % count).expect("below the length of a list");
        &self.list[at]
    }

    /// The one with this name, and its number.
    pub(crate) fn find(&self, name: &str) -> Option<(usize, &Package)> {
        let at = *self.by_name.get(name)?;
        Some((at, &self.list[at]))
    }
}

fn fields(paragraph: &str) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for line in paragraph.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some(field) = fields.last_mut() {
                field.value.push('\n');
                field.value.push_str(&line[1..]);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push(Field { name: name.to_owned(), value: value.trim().to_owned() });
        }
    }
    fields
}

/// The field with a package's name.
pub(crate) const NAME: &str = "Package";
/// The field with its version.
pub(crate) const VERSION: &str = "Version";
const STATUS: &str = "/var/lib/dpkg/status";
const SHIPPED: &str = include_str!("packages.txt");

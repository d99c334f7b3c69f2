//! A map in a sorted vector: for maps that are small, or change seldom.
//!
//! Finding takes a binary search, adding and removing move what comes behind: nothing at the end,
//! where ascending keys go.
//!
//! Invariant: keys ascend and are unique.
//! Why not the standard library's tree: each type of it is about 40 KiB of code in a debug build,
//! and eight of them were a quarter of what this crate took to compile.

use std::borrow::Borrow;

/// Keys with values, ascending.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlatMap<K, V>(Vec<(K, V)>);

impl<K, V> FlatMap<K, V> {
    /// Nothing yet; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How many keys there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps those that `keep` says to, in order.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.0.retain(|(key, value)| keep(key, value));
    }

    /// Takes the lowest key out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        if self.0.is_empty() { None } else { Some(self.0.remove(0)) }
    }

    /// All keys and values, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// All values, ascending by key.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> FlatMap<K, V> {
    /// Sets a key's value; gives the one before back.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// A key's value, which is made if there is none.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let at = self.find(&key).unwrap_or_else(|at| {
            self.0.insert(at, (key, V::default()));
            at
        });
        &mut self.0[at].1
    }

    /// Takes a key out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        Some(self.0.remove(at).1)
    }

    /// A key's value.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// A key's value, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    /// Whether the key is there.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Keys above `after`, ascending; all of them without one.
    pub fn iter_after(&self, after: Option<&K>) -> impl Iterator<Item = (&K, &V)> {
        let from = after.map_or(0, |after| self.0.partition_point(|(key, _)| key <= after));
        self.0[from..].iter().map(|(key, value)| (key, value))
    }

    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        // Ascending keys are added at the end: looked at first.
        match self.0.last() {
            Some((last, _)) if last.borrow() < key => Err(self.0.len()),
            _ => self.0.binary_search_by(|(found, _)| found.borrow().cmp(key)),
        }
    }
}

impl<K, V> Default for FlatMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is done to it, it is the standard library's map.
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0_u8..6, 0_u8..12, 0_u8..9), 0..60)) {
            let (mut flat, mut tree) = (FlatMap::new(), BTreeMap::new());
            for (step, key, value) in steps {
                match step {
                    0 | 1 => prop_assert_eq!(flat.insert(key, value), tree.insert(key, value)),
                    2 => prop_assert_eq!(flat.remove(&key), tree.remove(&key)),
                    3 => prop_assert_eq!(flat.pop_first(), tree.pop_first()),
                    4 => {
                        *flat.or_default(key) += value;
                        *tree.entry(key).or_default() += value;
                    }
                    _ => {
                        flat.retain(|found, _| found % 3 != key % 3);
                        tree.retain(|found, _| found % 3 != key % 3);
                    }
                }
                prop_assert_eq!(flat.len(), tree.len());
                prop_assert_eq!(flat.is_empty(), tree.is_empty());
                prop_assert_eq!(flat.get(&key), tree.get(&key));
                prop_assert_eq!(flat.get_mut(&key), tree.get_mut(&key));
                prop_assert_eq!(flat.contains_key(&key), tree.contains_key(&key));
                prop_assert!(flat.iter().eq(tree.iter()));
                prop_assert!(flat.values().eq(tree.values()));
                let above = tree.iter().filter(|(found, _)| **found > key);
                prop_assert!(flat.iter_after(Some(&key)).eq(above));
                prop_assert!(flat.iter_after(None).eq(tree.iter()));
            }
        }
    }
}

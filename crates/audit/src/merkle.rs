//! The Merkle tree of RFC 6962 section 2.1, as a frontier: enough of the tree to append to it and to name its root.
//!
//! It must never keep the leaves: memory is one hash per level. Tests: at the end of this file, with the published
//! roots of the certificate-transparency reference leaves.

use std::fmt;

use data_encoding::BASE64;
use ring::digest::{Context, SHA256};

/// A SHA-256 hash of the tree: a leaf, a node or the root.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TreeHash([u8; LENGTH]);

impl TreeHash {
    /// Takes the 32 bytes of a hash.
    pub fn from_bytes(bytes: [u8; 32]) -> TreeHash {
        TreeHash(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash of a leaf: `SHA-256(0x00 || data)`.
    pub(crate) fn of_leaf(data: &[u8]) -> TreeHash {
        let mut context = Context::new(&SHA256);
        context.update(&[0x00]);
        context.update(data);
        TreeHash::finish(context)
    }

    /// The hash of two subtrees: `SHA-256(0x01 || left || right)`.
    pub(crate) fn of_node(left: &TreeHash, right: &TreeHash) -> TreeHash {
        let mut context = Context::new(&SHA256);
        context.update(&[0x01]);
        context.update(&left.0);
        context.update(&right.0);
        TreeHash::finish(context)
    }

    /// The root of the empty tree: `SHA-256()`.
    pub(crate) fn of_nothing() -> TreeHash {
        TreeHash::finish(Context::new(&SHA256))
    }

    fn finish(context: Context) -> TreeHash {
        let mut bytes = [0; LENGTH];
        // SHA-256 gives exactly LENGTH bytes, so zip copies all of them.
        for (to, from) in bytes.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        TreeHash(bytes)
    }
}

/// Base64, as a checkpoint writes it.
impl fmt::Display for TreeHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TreeHash({self})")
    }
}

/// The right edge of a tree: the roots of its perfect subtrees, the largest first.
///
/// INVARIANT(peaks): `peaks.len() == size.count_ones()`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frontier {
    size: u64,
    peaks: Vec<TreeHash>,
}

impl Frontier {
    /// Appends a leaf. Amortised one node hash.
    pub(crate) fn push(&mut self, leaf: TreeHash) {
        let mut hash = leaf;
        // Each trailing one bit of the size is a perfect subtree that the new leaf completes (INVARIANT(peaks)).
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = TreeHash::of_node(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// Leaves appended so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The root over all leaves appended so far.
    pub(crate) fn root(&self) -> TreeHash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return TreeHash::of_nothing() };
        peaks.fold(*last, |right, left| TreeHash::of_node(left, &right))
    }
}

const LENGTH: usize = 32;

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    /// The leaves of the certificate-transparency reference tests.
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    /// The published root after each of them.
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    /// RFC 6962 section 2.1, by its recursive definition.
    fn by_definition(leaves: &[Vec<u8>]) -> TreeHash {
        match leaves {
            [] => TreeHash::of_nothing(),
            [leaf] => TreeHash::of_leaf(leaf),
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                TreeHash::of_node(&by_definition(&leaves[..split]), &by_definition(&leaves[split..]))
            }
        }
    }

    #[test]
    fn the_empty_tree_has_the_hash_of_nothing() {
        let hex = HEXLOWER.encode(Frontier::default().root().as_bytes());
        assert_eq!(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn the_reference_leaves_give_the_published_roots() {
        let mut frontier = Frontier::default();
        for (leaf, root) in LEAVES.iter().zip(ROOTS) {
            frontier.push(TreeHash::of_leaf(&HEXLOWER.decode(leaf.as_bytes()).unwrap()));
            assert_eq!(HEXLOWER.encode(frontier.root().as_bytes()), root);
        }
        assert_eq!(frontier.size(), 8);
    }

    proptest! {
        #[test]
        fn the_frontier_agrees_with_the_definition(leaves in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 0..70)) {
            let mut frontier = Frontier::default();
            for leaf in &leaves {
                frontier.push(TreeHash::of_leaf(leaf));
            }
            prop_assert_eq!(frontier.root(), by_definition(&leaves));
            prop_assert_eq!(frontier.peaks.len(), leaves.len().count_ones() as usize);
        }
    }
}

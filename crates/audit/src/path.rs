//! Paths through the tree: which subtrees an inclusion or consistency proof is made of (RFC 6962 section 2.1), and
//! checking one.
//!
//! It must never take a proof of another length than its sizes call for. Tests: at the end of this file, against the
//! recursive definition of the RFC and the published paths of the certificate-transparency reference leaves.

use std::ops::Range;

use crate::merkle::TreeHash;

/// The leaves whose hashes prove that leaf `index` is in the tree of `size` leaves: the leaf's sibling first.
pub(crate) fn inclusion(index: u64, size: u64) -> Vec<Range<u64>> {
    let (mut start, mut end) = (0, size);
    let mut ranges = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    ranges.reverse();
    ranges
}

/// The leaves whose hashes prove that the tree of `old` leaves is the beginning of the tree of `new` leaves. None for an
/// empty old tree, or for two of the same size.
pub(crate) fn consistency(old: u64, new: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    if old == 0 || old >= new {
        return ranges;
    }
    let (mut start, mut end) = (0, new);
    while old != end {
        let middle = start + split(end - start);
        if old <= middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    // A perfect old tree is a node of the new one, and its root is known.
    if start > 0 {
        ranges.push(start..end);
    }
    ranges.reverse();
    ranges
}

/// The root that an inclusion proof leads to, if it has the right length.
pub(crate) fn root_of(leaf: TreeHash, index: u64, size: u64, proof: &[TreeHash]) -> Option<TreeHash> {
    if index >= size {
        return None;
    }
    let ranges = inclusion(index, size);
    if ranges.len() != proof.len() {
        return None;
    }
    Some(ranges.iter().zip(proof).fold(leaf, |hash, (range, sibling)| {
        if range.start > index {
            TreeHash::of_node(&hash, sibling)
        } else {
            TreeHash::of_node(sibling, &hash)
        }
    }))
}

/// Whether `proof` shows that the tree `old` is the beginning of the tree `new`; both are a size and a root.
pub(crate) fn is_consistent(old: (u64, &TreeHash), new: (u64, &TreeHash), proof: &[TreeHash]) -> bool {
    let (old_size, old_root) = old;
    let (new_size, new_root) = new;
    if old_size == 0 || old_size >= new_size {
        let same = old_size < new_size || (old_size == new_size && old_root == new_root);
        return proof.is_empty() && same;
    }
    let ranges = consistency(old_size, new_size);
    if ranges.len() != proof.len() {
        return false;
    }
    let mut pairs = ranges.iter().zip(proof).peekable();
    let base = match pairs.next_if(|(range, _)| range.end == old_size) {
        Some((_, hash)) => *hash,
        None => *old_root,
    };
    let (found_old, found_new) = pairs.fold((base, base), |(old, new), (range, hash)| {
        if range.start >= old_size {
            (old, TreeHash::of_node(&new, hash))
        } else {
            (TreeHash::of_node(hash, &old), TreeHash::of_node(hash, &new))
        }
    });
    found_old == *old_root && found_new == *new_root
}

/// The perfect subtrees, as height and number within it, that a range of these proofs consists of: the largest first.
///
/// Such a range starts at a multiple of a power of two that is not smaller than its length.
pub(crate) fn perfect_parts(range: &Range<u64>) -> Vec<(u32, u64)> {
    let mut parts = Vec::new();
    let mut start = range.start;
    while let Some(height) = range.end.saturating_sub(start).checked_ilog2() {
        parts.push((height, start >> height));
        start = start.saturating_add(1 << height);
    }
    parts
}

/// The root over parts as [`perfect_parts`] orders them.
pub(crate) fn join(parts: &[TreeHash]) -> TreeHash {
    let mut from_right = parts.iter().rev();
    let Some(last) = from_right.next() else { return TreeHash::of_nothing() };
    from_right.fold(*last, |right, left| TreeHash::of_node(left, &right))
}

/// The largest power of two below `leaves`, which is at least 2.
fn split(leaves: u64) -> u64 {
    leaves.saturating_sub(1).checked_ilog2().map_or(1, |height| 1 << height)
}

#[cfg(test)]
pub(crate) mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn leaf(number: u64) -> TreeHash {
        TreeHash::of_leaf(&number.to_be_bytes())
    }

    /// MTH of RFC 6962 section 2.1 over leaves that are numbers.
    pub(crate) fn root(range: Range<u64>) -> TreeHash {
        match range.end - range.start {
            0 => TreeHash::of_nothing(),
            1 => leaf(range.start),
            n => {
                let middle = range.start + n.next_power_of_two() / 2;
                TreeHash::of_node(&root(range.start..middle), &root(middle..range.end))
            }
        }
    }

    /// PATH(m, D[n]) of section 2.1.1, word for word.
    fn path(m: u64, range: Range<u64>) -> Vec<TreeHash> {
        let n = range.end - range.start;
        if n == 1 {
            return Vec::new();
        }
        let k = range.start + n.next_power_of_two() / 2;
        let (mut proof, last) = if range.start + m < k {
            (path(m, range.start..k), root(k..range.end))
        } else {
            (path(range.start + m - k, k..range.end), root(range.start..k))
        };
        proof.push(last);
        proof
    }

    /// SUBPROOF(m, D[n], b) of section 2.1.2, word for word.
    fn subproof(m: u64, range: Range<u64>, whole: bool) -> Vec<TreeHash> {
        let n = range.end - range.start;
        if m == n {
            return if whole { Vec::new() } else { vec![root(range)] };
        }
        let k = n.next_power_of_two() / 2;
        let (mut proof, last) = if m <= k {
            (subproof(m, range.start..range.start + k, whole), root(range.start + k..range.end))
        } else {
            (subproof(m - k, range.start + k..range.end, false), root(range.start..range.start + k))
        };
        proof.push(last);
        proof
    }

    fn hashes(ranges: &[Range<u64>]) -> Vec<TreeHash> {
        ranges.iter().cloned().map(root).collect()
    }

    #[test]
    fn every_small_tree_has_the_proofs_of_the_definition() {
        for size in 1..40 {
            for index in 0..size {
                let proof = hashes(&inclusion(index, size));
                assert_eq!(proof, path(index, 0..size), "{index} in {size}");
                assert_eq!(root_of(leaf(index), index, size, &proof), Some(root(0..size)));
            }
            for old in 1..=size {
                let proof = hashes(&consistency(old, size));
                assert_eq!(proof, subproof(old, 0..size, true), "{old} to {size}");
                assert!(is_consistent((old, &root(0..old)), (size, &root(0..size)), &proof));
            }
        }
    }

    #[test]
    fn the_reference_leaves_have_the_published_path() {
        // Path of the first leaf in the tree of eight, from the certificate-transparency reference tests.
        let published = [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ];
        let hash =
            |text: &str| TreeHash::from_bytes(HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap());
        let root = hash("5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
        assert_eq!(root_of(TreeHash::of_leaf(b""), 0, 8, &published.map(hash)), Some(root));
    }

    proptest! {
        #[test]
        fn a_proof_with_anything_changed_does_not_hold(
            size in 2..300_u64, at in any::<prop::sample::Index>(), kind in 0..4_u8,
        ) {
            let index = at.index(usize::try_from(size).unwrap()) as u64;
            let mut proof = hashes(&inclusion(index, size));
            let place = at.index(proof.len());
            match kind {
                0 => proof[place] = leaf(u64::MAX),
                1 => { proof.remove(place); }
                2 => proof.push(leaf(u64::MAX)),
                _ => {
                    prop_assert_ne!(root_of(leaf(index ^ 1), index, size, &proof), Some(root(0..size)));
                    return Ok(());
                }
            }
            prop_assert_ne!(root_of(leaf(index), index, size, &proof), Some(root(0..size)));
        }

        #[test]
        fn another_history_is_not_consistent(new in 2..300_u64, at in any::<prop::sample::Index>(), kind in 0..3_u8) {
            let old = at.index(usize::try_from(new - 1).unwrap()) as u64 + 1;
            let mut proof = hashes(&consistency(old, new));
            let (mut old_root, mut new_root) = (root(0..old), root(0..new));
            match kind {
                0 => old_root = root(1..old + 1),
                1 => new_root = root(1..new + 1),
                _ => { let place = at.index(proof.len()); proof[place] = leaf(u64::MAX); }
            }
            prop_assert!(!is_consistent((old, &old_root), (new, &new_root), &proof));
        }

        #[test]
        fn the_parts_of_a_range_join_to_its_root(index in 0..500_u64, more in 1..500_u64) {
            for range in inclusion(index, index + more) {
                let parts: Vec<_> =
                    perfect_parts(&range).iter().map(|(height, n)| root(n << height..(n + 1) << height)).collect();
                prop_assert_eq!(join(&parts), root(range));
            }
        }
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        assert_eq!(root_of(leaf(0), 5, 5, &[]), None);
        assert_eq!(root_of(leaf(0), 0, 0, &[]), None);
        assert!(!is_consistent((5, &leaf(0)), (4, &leaf(0)), &[]));
        assert!(!is_consistent((4, &leaf(0)), (4, &leaf(1)), &[]));
        assert!(is_consistent((0, &leaf(0)), (4, &leaf(1)), &[]));
        // A size from a hostile file must not overflow.
        assert_eq!(root_of(leaf(0), u64::MAX - 1, u64::MAX, &[]), None);
        assert!(!is_consistent((u64::MAX - 1, &leaf(0)), (u64::MAX, &leaf(1)), &[]));
    }
}

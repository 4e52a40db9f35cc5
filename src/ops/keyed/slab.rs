//! Many things of one size, by number, without room that nobody needs.
//!
//! They stand in chunks. Only the first chunk grows, as a vector does; each of the others is made once, as large as it will
//! be. So a thing more never moves those that are there, no two copies of them are in memory meanwhile, and what is kept in
//! reserve is one chunk instead of half of all.
//!
//! Bound: that of whoever numbers them; nothing is taken out.

/// Things in a chunk.
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 10;

/// Things by number. Several may have one number: a group of as many as all others.
#[derive(Debug)]
pub(in crate::ops) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    /// How many there are; the number of the next.
    pub(in crate::ops) fn len(&self) -> usize {
        self.len
    }

    /// Adds one.
    pub(in crate::ops) fn push(&mut self, thing: T) {
        self.push_group(1, std::iter::once(thing));
    }

    /// Adds a group of `width`, the same for all.
    pub(in crate::ops) fn push_group(&mut self, width: usize, group: impl Iterator<Item = T>) {
        if self.len.is_multiple_of(CHUNK) {
            let first = self.chunks.is_empty();
            let capacity = if first { 0 } else { CHUNK * width };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let last = self.chunks.last_mut().expect("one has been made");
        if last.len() + width > last.capacity() {
            // The first, which grows to a whole chunk and no further.
            let more = last.len().clamp(4 * width, CHUNK * width - last.len());
            last.reserve_exact(more);
        }
        last.extend(group);
        self.len += 1;
    }

    #[inline]
    pub(in crate::ops) fn get(&self, number: u32) -> &T {
        &self.chunks[chunk(number)][place(number)]
    }

    #[inline]
    pub(in crate::ops) fn get_mut(&mut self, number: u32) -> &mut T {
        &mut self.chunks[chunk(number)][place(number)]
    }

    #[inline]
    pub(in crate::ops) fn group(&self, number: u32, width: usize) -> &[T] {
        let from = place(number) * width;
        &self.chunks[chunk(number)][from..from + width]
    }

    #[inline]
    pub(in crate::ops) fn group_mut(&mut self, number: u32, width: usize) -> &mut [T] {
        let from = place(number) * width;
        &mut self.chunks[chunk(number)][from..from + width]
    }
}

const fn chunk(number: u32) -> usize {
    (number >> CHUNK_BITS) as usize
}

const fn place(number: u32) -> usize {
    number as usize & (CHUNK - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_where_they_were_put_and_one_chunk_is_in_reserve() {
        let (mut single, mut groups) = (Slab::default(), Slab::default());
        let all = 3 * CHUNK as u32 + 1;
        for number in 0..all {
            single.push(number);
            groups.push_group(3, [number, 1, 2].into_iter());
        }
        assert_eq!((single.len(), groups.len()), (all as usize, all as usize));
        for number in 0..all {
            assert_eq!(*single.get(number), number);
            assert_eq!(groups.group(number, 3), [number, 1, 2]);
        }
        groups.group_mut(CHUNK as u32, 3)[2] = 7;
        assert_eq!(groups.group(CHUNK as u32, 3), [CHUNK as u32, 1, 7]);
        let capacity: usize = groups.chunks.iter().map(Vec::capacity).sum();
        assert!(capacity <= 3 * (4 * CHUNK), "{capacity}");
    }
}

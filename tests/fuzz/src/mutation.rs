//! Mutations of corpus inputs, as a proptest strategy, so that a failing input is minimized.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Most mutations of one input, and most octets that one mutation inserts.
const MOST: usize = 12;
/// Most octets of an input that is not derived from the corpus.
const FRESH: usize = 96;

#[derive(Clone, Debug)]
enum Mutation {
    Set(Index, u8),
    FlipBit(Index, u8),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize),
    Truncate(Index),
    /// Overwrites two octets with a length or a limit that decoders compare with.
    SetU16(Index, u16),
}

/// Returns a strategy of mutated corpus inputs, with some inputs that owe nothing to the corpus.
pub(crate) fn mutated(corpus: Vec<Vec<u8>>) -> BoxedStrategy<Vec<u8>> {
    let fresh = vec(any::<u8>(), 0..FRESH);
    if corpus.is_empty() {
        return fresh.boxed();
    }
    let derived = (select(corpus), vec(mutation(), 0..MOST)).prop_map(|(mut input, mutations)| {
        mutations.iter().for_each(|mutation| mutation.apply(&mut input));
        input
    });
    prop_oneof![8 => derived, 1 => fresh].boxed()
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let limits =
        select(vec![0_u16, 1, 2, 3, 4, 18, 19, 23, 29, 127, 128, 255, 256, 4095, 4096, 4097, 65534, 65535]);
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Mutation::Set(at, value)),
        2 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Mutation::FlipBit(at, bit)),
        1 => (any::<Index>(), 1..MOST).prop_map(|(at, count)| Mutation::Remove(at, count)),
        1 => (any::<Index>(), vec(any::<u8>(), 1..MOST)).prop_map(|(at, new)| Mutation::Insert(at, new)),
        1 => (any::<Index>(), 1..MOST).prop_map(|(at, count)| Mutation::Repeat(at, count)),
        1 => any::<Index>().prop_map(Mutation::Truncate),
        2 => (any::<Index>(), limits).prop_map(|(at, value)| Mutation::SetU16(at, value)),
    ]
}

impl Mutation {
    fn apply(&self, input: &mut Vec<u8>) {
        let length = input.len();
        let position = |index: &Index| if length == 0 { 0 } else { index.index(length) };
        match self {
            Self::Set(at, value) => overwrite(input, position(at), &[*value]),
            Self::FlipBit(at, bit) => {
                let at = position(at);
                if let Some(octet) = input.get_mut(at) {
                    *octet ^= 1 << bit;
                }
            }
            Self::Remove(at, count) => {
                let at = position(at);
                let end = (at + count).min(input.len());
                input.drain(at..end);
            }
            Self::Insert(at, octets) => {
                let at = position(at);
                input.splice(at..at, octets.iter().copied());
            }
            Self::Repeat(at, count) => {
                let at = position(at);
                let end = (at + count).min(input.len());
                let repeated = input.get(at..end).unwrap_or_default().to_vec();
                input.splice(at..at, repeated);
            }
            Self::Truncate(at) => {
                let at = position(at);
                input.truncate(at);
            }
            Self::SetU16(at, value) => overwrite(input, position(at), &value.to_be_bytes()),
        }
    }
}

fn overwrite(input: &mut [u8], at: usize, octets: &[u8]) {
    for (target, octet) in input.iter_mut().skip(at).zip(octets) {
        *target = *octet;
    }
}

//! What allocating addresses costs, and how that grows: times by divan, instructions by callgrind.
//!
//! `cargo bench -p fairlead-controller [-- TEXT]` measures the cases whose names contain TEXT and prints one table. The
//! program runs itself twice over: once as a divan benchmark, whose output it reads, and once for each case and size under
//! `valgrind --tool=callgrind`, which counts what happens within [`measured`] and nothing else.

#![allow(missing_docs)]

mod fixtures;
mod index;
mod instructions;
mod ipam;
mod scenario;
mod table;
mod times;

use scenario::{Case, Subject};

fn main() {
    if std::env::var_os(times::WHICH).is_some() {
        return divan::main();
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [instructions::MODE, which] => instructions::act(which.parse().unwrap_or_default()),
        [] => table::print(""),
        [text, ..] => table::print(text),
    }
}

/// All that is measured. Its place in this list is the name of each towards the program itself.
fn all() -> Vec<(&'static str, &'static Case, usize)> {
    let layers = [("Ipam: the allocator alone", ipam::CASES), ("Index: the whole decision", index::CASES)];
    let cases = layers.into_iter().flat_map(|(layer, cases)| cases.iter().map(move |case| (layer, case)));
    cases.flat_map(|(layer, case)| case.sizes.iter().map(move |size| (layer, case, *size))).collect()
}

/// The only code that is measured.
#[inline(never)]
fn measured(subject: &mut dyn Subject) {
    subject.act();
}

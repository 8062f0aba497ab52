//! The cost of allocation, and how it grows: times by divan, instructions by callgrind.
//!
//! `cargo bench -p fairlead-allocator [-- TEXT]` measures the cases whose names contain TEXT and prints one
//! table. The program runs itself as a child process: once as a divan benchmark, whose output it parses, and
//! once per case and size under `valgrind --tool=callgrind`, which counts the instructions within
//! [`measured`] only.

#![allow(missing_docs)]

mod fixtures;
mod index;
mod instructions;
mod ipam;
mod scenario;
mod table;
mod times;

use scenario::{Case, Scenario};

fn main() {
    if std::env::var_os(times::CASES_VARIABLE).is_some() {
        return divan::main();
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [instructions::MODE, number] => instructions::run_once(number.parse().unwrap_or_default()),
        [] => table::print(""),
        [text, ..] => table::print(text),
    }
}

/// Returns every case and size, with the title of its layer. A child process gets a case by its position in
/// this list.
fn all() -> Vec<(&'static str, &'static Case, usize)> {
    let layers =
        [("Ipam: the allocator alone", ipam::CASES), ("Index: from watch event to patch", index::CASES)];
    let cases = layers.into_iter().flat_map(|(layer, cases)| cases.iter().map(move |case| (layer, case)));
    cases.flat_map(|(layer, case)| case.sizes.iter().map(move |size| (layer, case, *size))).collect()
}

/// Runs the measured part. Callgrind finds this function by its name.
#[inline(never)]
fn measured(scenario: &mut dyn Scenario) {
    scenario.run();
}

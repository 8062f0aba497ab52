//! The table of all results.

use crate::{all, instructions, times};

/// Measures the cases whose names contain `text`, and prints the results.
pub(crate) fn print(text: &str) {
    let all = all();
    let numbers: Vec<usize> = (0..all.len()).filter(|number| all[*number].1.name.contains(text)).collect();
    let medians = times::medians(&numbers).unwrap_or_default();
    let counts = if instructions::is_valgrind_installed() {
        instructions::count(&numbers)
    } else {
        println!("valgrind is not installed: times only, no instruction counts\n");
        Default::default()
    };
    println!("{:>9}  {:>10}  {:>12}  {:>6}", "N", "time", "instructions", "growth");
    let mut printed_layer = "";
    let mut printed_case = "";
    let mut previous = None;
    for number in numbers {
        let (layer, case, n) = all[number];
        if printed_layer != layer {
            println!("\n== {layer}");
            printed_layer = layer;
        }
        if printed_case != case.name {
            println!("{}", case.name);
            printed_case = case.name;
            previous = None;
        }
        let operations = case.operations.count(n) as f64;
        let time = medians.get(&number).map(|time| time / operations);
        let count = counts.get(&number).map(|count| count / operations);
        // Sizes are not always a power of ten apart: scale the ratio to a tenfold N.
        let growth = previous.zip(count).map(|((previous_n, previous), count): ((usize, f64), f64)| {
            (count / previous).powf(1.0 / (n as f64 / previous_n as f64).log10())
        });
        let text = |value: Option<String>| value.unwrap_or_else(|| "–".into());
        println!(
            "{:>9}  {:>10}  {:>12}  {:>6}",
            grouped(n as f64),
            text(time.map(duration)),
            text(count.map(grouped)),
            if n == case.sizes[0] {
                String::new()
            } else {
                text(growth.map(|growth| format!("{growth:.2}")))
            },
        );
        previous = count.map(|count| (n, count));
    }
    println!("\ntime and instructions per operation; growth: ratio of instructions for a tenfold N");
}

/// Formats nanoseconds.
fn duration(ns: f64) -> String {
    match ns {
        ..1e3 => format!("{ns:.0} ns"),
        ..1e4 => format!("{:.2} µs", ns / 1e3),
        ..1e5 => format!("{:.1} µs", ns / 1e3),
        ..1e6 => format!("{:.0} µs", ns / 1e3),
        _ => format!("{:.1} ms", ns / 1e6),
    }
}

/// Formats a number with a comma between groups of three digits.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

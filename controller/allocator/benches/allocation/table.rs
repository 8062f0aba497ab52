//! One table of all that was measured.

use crate::{all, instructions, times};

/// Measures the cases whose names contain `text`, and prints.
pub(crate) fn print(text: &str) {
    let all = all();
    let which: Vec<usize> = (0..all.len()).filter(|at| all[*at].1.name.contains(text)).collect();
    let medians = times::medians(&which).unwrap_or_default();
    let counts = if instructions::is_possible() {
        instructions::instructions(&which)
    } else {
        println!("valgrind is not installed: times only, no instruction counts\n");
        Default::default()
    };
    println!("{:>9}  {:>10}  {:>12}  {:>6}", "N", "time", "instructions", "growth");
    let mut layer = "";
    let mut case = "";
    let mut before = None;
    for at in which {
        let (of_layer, of, size) = all[at];
        if layer != of_layer {
            println!("\n== {of_layer}");
            layer = of_layer;
        }
        if case != of.name {
            println!("{}", of.name);
            case = of.name;
            before = None;
        }
        let ops = of.ops.count(size) as f64;
        let time = medians.get(&at).map(|time| time / ops);
        let count = counts.get(&at).map(|count| count / ops);
        // How many times as much ten times the size takes.
        let growth = before.zip(count).map(|((than, was), is): ((usize, f64), f64)| {
            (is / was).powf(1.0 / (size as f64 / than as f64).log10())
        });
        let text = |value: Option<String>| value.unwrap_or_else(|| "–".into());
        println!(
            "{:>9}  {:>10}  {:>12}  {:>6}",
            grouped(size as f64),
            text(time.map(duration)),
            text(count.map(grouped)),
            if size == of.sizes[0] {
                String::new()
            } else {
                text(growth.map(|growth| format!("{growth:.2}")))
            },
        );
        before = count.map(|count| (size, count));
    }
    println!("\ntime and instructions of one operation; growth: of instructions, per tenfold N");
}

fn duration(ns: f64) -> String {
    match ns {
        ..1e3 => format!("{ns:.0} ns"),
        ..1e4 => format!("{:.2} µs", ns / 1e3),
        ..1e5 => format!("{:.1} µs", ns / 1e3),
        ..1e6 => format!("{:.0} µs", ns / 1e3),
        _ => format!("{:.1} ms", ns / 1e6),
    }
}

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

//! What is printed.

use serde::Serialize;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Goal::AtLeast(least) => value >= least,
            Goal::AtMost(most) => value <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Goal::AtLeast(least) => format!("≥ {least}"),
            Goal::AtMost(most) => format!("≤ {most}"),
        }
    }
}

#[derive(Serialize)]
struct Figure<'a> {
    benchmark: &'a str,
    figure: &'a str,
    value: f64,
    unit: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Goal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

/// Prints the figures of one benchmark as they come.
pub struct Report {
    benchmark: &'static str,
}

impl Report {
    /// A report under this name.
    pub fn new(benchmark: &'static str) -> Self {
        eprintln!("\n{benchmark}");
        Self { benchmark }
    }

    /// A figure that explains or that others are compared with.
    pub fn figure(&self, figure: &str, value: f64, unit: &str) {
        self.print(Figure { benchmark: self.benchmark, figure, value, unit, goal: None, met: None });
    }

    /// A figure that has a goal.
    pub fn goal(&self, figure: &str, value: f64, unit: &str, goal: Goal) {
        let met = Some(goal.met(value));
        self.print(Figure { benchmark: self.benchmark, figure, value, unit, goal: Some(goal), met });
    }

    fn print(&self, figure: Figure<'_>) {
        println!("{}", serde_json::to_string(&figure).expect("a figure is plain values"));
        let goal = figure.goal.map_or_else(String::new, |goal| {
            format!("   goal {} {}", goal.text(), if figure.met == Some(true) { "met" } else { "MISSED" })
        });
        eprintln!("  {:<62} {:>12} {:<10}{goal}", figure.figure, digits(figure.value), figure.unit);
    }
}

/// Three digits or more, and no more than the noise allows.
fn digits(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 0.1 || small == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.5}"),
    }
}

//! The picture in the README: calls a second of every peer, logarithmic bars, as SVG.
//!
//! Why by hand: a few rectangles and texts, and nothing in it that changes from day to day.

use std::fmt::Write;

use crate::row::{Row, find};
use crate::run::Plan;
use crate::runtime::Flavour;

/// The workloads it shows, with what is written under them.
const GROUPS: [(&str, &str); 4] = [
    ("1", "1 in flight"),
    ("64", "64 in flight"),
    ("512", "512 in flight"),
    ("16x32", "16 connections x 32"),
];
/// Readable on white and on black, and apart for the colour-blind.
const COLOURS: [&str; 8] =
    ["#d55e00", "#999999", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195"];
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 50.0;
/// The axis, in powers of ten.
const LOWEST: f64 = 3.0;
const HIGHEST: f64 = 7.0;

/// The picture; a peer that lacks a row has no bar there.
pub fn svg(plan: &Plan, rows: &[Row]) -> String {
    let mut out = String::new();
    frame(&mut out, plan);
    let width = (WIDTH - LEFT - RIGHT) / GROUPS.len() as f64;
    let bar = width * 0.88 / plan.peers.len() as f64;
    for (group, (workload, title)) in GROUPS.iter().enumerate() {
        let begin = LEFT + width * (group as f64 + 0.06);
        text(&mut out, begin + width * 0.44, HEIGHT - 28.0, "middle", 13, title);
        for (at, peer) in plan.peers.iter().enumerate() {
            let Some(row) = find(rows, peer, workload, Flavour::Mt2) else {
                continue;
            };
            let rate = row.median(|round| round.rate);
            let (x, y) = (begin + bar * at as f64, height_of(rate));
            let colour = COLOURS[at % COLOURS.len()];
            let (thickness, length) = (bar * 0.86, HEIGHT - BOTTOM - y);
            out.push_str(&format!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{thickness:.1}\" height=\"{length:.1}\" \
                 fill=\"{colour}\"><title>{peer}: {rate:.0} calls/s</title></rect>\n"
            ));
            text(&mut out, x + thickness / 2.0, y - 4.0, "middle", 9, &short(rate));
        }
    }
    out.push_str("</svg>\n");
    out
}

fn frame(out: &mut String, plan: &Plan) {
    out.push_str(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" role=\"img\">\n\
         <title>Calls a second of switchback and its peers</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    ));
    let title = "Calls a second over TCP on loopback, a message of about 50 bytes echoed";
    text(out, LEFT, 24.0, "start", 16, title);
    let under = "tokio multi-thread with 2 workers on both sides, two processes; the axis is \
                 logarithmic; limit is no RPC, but the floor";
    text(out, LEFT, 42.0, "start", 12, under);
    let step = (WIDTH - LEFT - RIGHT) / plan.peers.len() as f64;
    for (at, peer) in plan.peers.iter().enumerate() {
        let (x, colour) = (LEFT + step * at as f64, COLOURS[at % COLOURS.len()]);
        out.push_str(&format!(
            "<rect x=\"{x:.1}\" y=\"54\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\n"
        ));
        text(out, x + 17.0, 64.0, "start", 13, peer);
    }
    for power in LOWEST as i32..=HIGHEST as i32 {
        let rate = 10_f64.powi(power);
        let y = height_of(rate);
        out.push_str(&format!(
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#cccccc\"/>\n",
            WIDTH - RIGHT
        ));
        text(out, LEFT - 6.0, y + 4.0, "end", 12, &short(rate));
    }
    let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
    out.push_str(&format!(
        "<text transform=\"translate(18 {middle:.0}) rotate(-90)\" text-anchor=\"middle\" \
         font-size=\"13\" fill=\"#222222\">calls/s</text>\n"
    ));
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, size: u8, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" \
         fill=\"#222222\">{text}</text>"
    );
}

/// Where a bar of this rate ends.
fn height_of(rate: f64) -> f64 {
    let share = (rate.log10() - LOWEST) / (HIGHEST - LOWEST);
    HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP)
}

fn short(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{}M", digits(rate / 1e6)),
        rate => format!("{}k", digits(rate / 1e3)),
    }
}

/// Two digits, without an end that says nothing.
fn digits(number: f64) -> String {
    if number >= 10.0 || number.fract() == 0.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The axis begins at 1k and ends at 10M; what is beyond ends with it.
    #[test]
    fn bars_stay_inside() {
        assert_eq!(height_of(1e3), HEIGHT - BOTTOM);
        assert_eq!(height_of(1e7), TOP);
        assert_eq!(height_of(1.0), HEIGHT - BOTTOM);
        assert_eq!(height_of(1e9), TOP);
    }

    /// As they are written over the bars.
    #[test]
    fn rates_are_short() {
        assert_eq!(short(1e3), "1k");
        assert_eq!(short(7_770.0), "7.8k");
        assert_eq!(short(504_080.0), "504k");
        assert_eq!(short(4_695_040.0), "4.7M");
    }
}

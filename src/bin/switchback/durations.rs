//! Durations as people write and read them: `500ms`, `1.25 ms`.

use std::time::Duration;

/// Reads `500ms`, `2s`, `1.5m`, `1h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected =
        || format!("expected a number with its unit, 500ms, 10s, 2m or 1h, up to {MAX_HOURS}h");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(expected)?;
    let (number, unit) = text.split_at(digits);
    let unit_secs = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(expected()),
    };
    let secs = number.parse::<f64>().map_err(|_no_number| expected())? * unit_secs;
    if secs <= 0.0 || secs > MAX_HOURS * 3600.0 {
        return Err(expected());
    }
    Duration::try_from_secs_f64(secs).map_err(|_out_of_range| expected())
}

/// Microseconds with three digits that count: `850 us`, `1.25 ms`, `10.0 s`.
pub(crate) fn micros(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1e3 => (us, "us"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let decimals = match value {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

/// More is a typing error.
const MAX_HOURS: f64 = 24.0;

//! Moments as a person types them.

use jiff::civil::{Date, DateTime};
use jiff::{Span, Timestamp, ToSpan, ZonedDateTime};

use crate::Error;

/// Reads a moment: RFC 3339, a date (its end), a date and time, `now`, `yesterday` (this time a day ago), or a span
/// such as `2h ago`. Gives unix milliseconds. `now` is the present moment, with the time zone of the person.
///
/// # Errors
/// [`Error::Argument`] if the text is none of these.
pub fn parse_time(text: &str, now: &ZonedDateTime) -> Result<u64, Error> {
    let text = text.trim();
    let unknown = || {
        Error::Argument(format!(
            "{text:?} is not a time: use 2026-11-20, '2026-11-20 18:00', yesterday, or '2h ago'"
        ))
    };
    let moment: Timestamp = if let Ok(moment) = text.parse() {
        moment
    } else if text == "now" {
        now.timestamp()
    } else if text == "yesterday" {
        now.checked_sub(1.day()).map_err(|_| unknown())?.timestamp()
    } else if let Some(span) = text.strip_suffix("ago") {
        let span: Span = span.trim().parse().map_err(|_| unknown())?;
        now.checked_sub(span).map_err(|_| unknown())?.timestamp()
    } else if !text.contains(':')
        && let Ok(date) = text.parse::<Date>()
    {
        let end = date.at(23, 59, 59, 999_000_000);
        end.to_zoned_datetime(now.time_zone().clone()).map_err(|_| unknown())?.timestamp()
    } else {
        let civil: DateTime = text.parse().map_err(|_| unknown())?;
        civil.to_zoned_datetime(now.time_zone().clone()).map_err(|_| unknown())?.timestamp()
    };
    u64::try_from(moment.as_millisecond()).map_err(|_| unknown())
}

/// Reads a length of time in seconds: a number and a unit (`30d`, `12h`, `90m`, `45s`, `2w`, `1y`), or several.
///
/// # Errors
/// [`Error::Argument`] if the text is none, or longer than time is counted.
pub fn parse_span_s(text: &str) -> Result<u64, Error> {
    let unknown = || Error::Argument(format!("{text:?} is no length of time: use 30d, 12h, 90m, 2w or 1y"));
    let (mut seconds, mut number) = (0u64, None::<u64>);
    for c in text.trim().chars() {
        let unit = match c {
            '0'..='9' => {
                let digit = u64::from(c) - u64::from('0');
                number = Some(
                    number
                        .unwrap_or(0)
                        .checked_mul(10)
                        .and_then(|n| n.checked_add(digit))
                        .ok_or_else(unknown)?,
                );
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            'y' => 365 * 86_400,
            _ => return Err(unknown()),
        };
        let part = number.take().ok_or_else(unknown)?.checked_mul(unit).ok_or_else(unknown)?;
        seconds = seconds.checked_add(part).ok_or_else(unknown)?;
    }
    if number.is_some() || seconds == 0 { Err(unknown()) } else { Ok(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_people_type_are_understood() {
        let now: ZonedDateTime = "2026-11-25T12:00:00+00:00[UTC]".parse().unwrap();
        let at = |text: &str| parse_time(text, &now).unwrap();
        assert_eq!(at("2026-11-25T12:00:00Z"), 1_795_608_000_000);
        assert_eq!(at("now"), 1_795_608_000_000);
        assert_eq!(at("2h ago"), 1_795_608_000_000 - 7_200_000);
        assert_eq!(at("90 minutes ago"), 1_795_608_000_000 - 5_400_000);
        assert_eq!(at("yesterday"), 1_795_608_000_000 - 86_400_000);
        assert_eq!(at("2026-11-25 11:59"), 1_795_608_000_000 - 60_000);
        assert_eq!(at("2026-11-24"), 1_795_608_000_000 - 43_200_000 - 1);
        for bad in ["", "soon", "ago", "2026-13-01", "1969-01-01"] {
            assert!(matches!(parse_time(bad, &now), Err(Error::Argument(_))), "{bad}");
        }
    }

    #[test]
    fn spans_of_time() {
        for (text, seconds) in
            [("30d", 2_592_000), ("12h", 43_200), ("1d12h", 129_600), ("90m", 5_400), ("2w", 1_209_600)]
        {
            assert_eq!(parse_span_s(text).unwrap(), seconds, "{text}");
        }
        for bad in ["", "d", "30", "0d", "3x", "-1d", "99999999999999999999s", "9999999999999999y"] {
            assert!(matches!(parse_span_s(bad), Err(Error::Argument(_))), "{bad}");
        }
    }
}

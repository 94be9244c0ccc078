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
}

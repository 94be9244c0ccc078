//! Arguments that several commands read alike.

/// Reads a number of bytes as people write it: 1500, 20M, 500G, 2T (powers of 1,024).
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no number of bytes: write 1500, 20M, 500G or 2T");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases =
            [("1500", 1_500), ("20M", 20 << 20), ("500g", 500 << 30), ("2TiB", 2 << 40), ("7kb", 7 << 10)];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "0", "G", "-1", "1.5G", "5X", "99999999999999T", "5 G"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}

//! The two texts of a link: `https://HOST/l#PAYLOAD` and `locker:l#PAYLOAD` (`docs/spec/07-links.md`, section 1).
//!
//! One text for one link: base64url without padding and with zero spare bits, and no part that a browser would send.

use std::fmt;
use std::net::Ipv6Addr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::{Link, PAYLOAD_LEN_MAX};
use crate::Refusal;

const SCHEME_LOCKER: &str = "locker:l#";
const SCHEME_HTTPS: &str = "https://";
const PATH: &str = "/l#";
const HOST_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;
const PAYLOAD_CHARS_MAX: usize = PAYLOAD_LEN_MAX.div_ceil(3) * 4;

/// Host and optional port of a web address, as they stand in a link: lower case, ASCII.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebHost(String);

impl WebHost {
    /// Reads `name`, `name:port`, `[v6]` or `[v6]:port`. Names are lower-case labels of letters, digits and hyphens
    /// (others as `xn--`), or IPv4 addresses; IPv6 addresses are in their shortest form.
    ///
    /// # Errors
    /// [`Refusal::Canon`] for everything else.
    pub fn new(text: &str) -> Result<Self, Refusal> {
        let fits = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').is_some_and(|(ip, port)| {
                let shortest = ip.parse::<Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == ip);
                shortest && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
            }),
            None => match text.split_once(':') {
                Some((name, port)) => is_name(name) && is_port(port),
                None => is_name(text),
            },
        };
        if fits { Ok(Self(text.to_owned())) } else { Err(Refusal::Canon) }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WebHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_LEN_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= HOST_LEN_MAX && name.split('.').all(is_label)
}

fn is_port(port: &str) -> bool {
    port.parse::<u16>().is_ok_and(|number| number != 0 && number.to_string() == port)
}

/// What stands in front of the payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TextForm {
    /// `locker:l#`, opened by the program.
    Locker,
    /// `https://HOST/l#`, opened by a web page.
    Https(WebHost),
}

impl Link {
    /// Writes the link's text. It is as secret as the link.
    pub fn to_text(&self, form: &TextForm) -> Zeroizing<String> {
        let mut out = Zeroizing::new(String::with_capacity(
            SCHEME_HTTPS.len() + HOST_LEN_MAX + 8 + PATH.len() + PAYLOAD_CHARS_MAX,
        ));
        match form {
            TextForm::Locker => out.push_str(SCHEME_LOCKER),
            TextForm::Https(host) => {
                out.push_str(SCHEME_HTTPS);
                out.push_str(host.as_str());
                out.push_str(PATH);
            }
        }
        URL_SAFE_NO_PAD.encode_string(&self.encode()[..], &mut out);
        out
    }

    /// Reads a link's text, which must have exactly one of the two forms: no white space around it, no user
    /// information, no query.
    ///
    /// # Errors
    /// [`Refusal::Canon`] for the text form or the base64url; then as [`Link::decode`].
    pub fn parse(text: &str) -> Result<(Self, TextForm), Refusal> {
        let (form, payload) = match text.strip_prefix(SCHEME_LOCKER) {
            Some(payload) => (TextForm::Locker, payload),
            None => {
                let rest = text.strip_prefix(SCHEME_HTTPS).ok_or(Refusal::Canon)?;
                let (host, payload) = rest.split_once(PATH).ok_or(Refusal::Canon)?;
                (TextForm::Https(WebHost::new(host)?), payload)
            }
        };
        if payload.len() > PAYLOAD_CHARS_MAX {
            return Err(Refusal::Canon);
        }
        let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).map_err(|_| Refusal::Canon)?);
        Ok((Self::decode(&payload)?, form))
    }
}

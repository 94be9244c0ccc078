//! The record of 640 bytes: sealing, the checks of a storing node, and the checks of a reader
//! (`docs/spec/09-rendezvous.md`, sections 4.2 and 4.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{DHT_KEY_LEN, DHT_PREFIX, Period};
use crate::Refusal;
use crate::aead::{TAG_LEN, XNONCE_LEN, random_xnonce, xopen, xseal};
use crate::certificate::{CERTIFICATE_LEN, Certificate};
use crate::id::VerifyingKey;
use crate::sign::{self, Domain, SIGNATURE_LEN, Signature, check_key};

/// Length of a record in bytes.
pub const RECORD_LEN: usize = SIGNED_LEN + SIGNATURE_LEN;
/// Most addresses of one record.
pub const ADDRESSES_MAX: usize = 8;
/// Most relays of one record.
pub const RELAYS_MAX: usize = 2;
/// Greatest age of a record in seconds.
pub const AGE_MAX_S: u64 = 30 * 3_600;
/// How far ahead of our clock a record may be issued, in seconds.
pub const AHEAD_MAX_S: u64 = 600;

const NONCE_AT: usize = 40;
const SEALED_AT: usize = NONCE_AT + XNONCE_LEN;
const SIGNED_LEN: usize = SEALED_AT + PLAIN_LEN + TAG_LEN;
const PLAIN_LEN: usize = 496;
const ADDRESS_LEN: usize = 19;
const RELAY_LEN: usize = ADDRESS_LEN + VerifyingKey::LEN;
const ISSUED_STEP_S: u64 = 3_600;

/// How an address is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// QUIC over UDP.
    Quic,
    /// TCP.
    Tcp,
}

/// Where a node may be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// How.
    pub transport: Transport,
    /// The IP address.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
}

/// A relay through which a node may be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relay {
    /// Where the relay is.
    pub address: Address,
    /// The transport key under which it answers, unchecked.
    pub transport_key: VerifyingKey,
}

/// What a record says: who is where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contact {
    /// The device vouches for the transport key that answers.
    pub certificate: Certificate,
    /// At most [`ADDRESSES_MAX`].
    pub addresses: Vec<Address>,
    /// At most [`RELAYS_MAX`].
    pub relays: Vec<Relay>,
}

/// Seals record r of a period at time `now`, unix seconds. The time of issue is rounded down to the hour, so that it
/// tells nothing about the device.
///
/// # Errors
/// [`Refusal::Limit`] for more addresses or relays than fit.
pub fn seal_record<R: CryptoRng + ?Sized>(
    period: &Period,
    r: u8,
    contact: &Contact,
    now: u64,
    dice: &mut R,
) -> Result<[u8; RECORD_LEN], Refusal> {
    let plain = encode_contact(contact)?;
    let signing = period.signing(r);
    let nonce = random_xnonce(dice);

    let mut out = [0; RECORD_LEN];
    out[..32].copy_from_slice(signing.verifying_key().as_bytes());
    out[32..NONCE_AT].copy_from_slice(&(now - now % ISSUED_STEP_S).to_le_bytes());
    out[NONCE_AT..SEALED_AT].copy_from_slice(&nonce);
    let sealed = xseal(period.sealing_key().expose(), &nonce, &out[..NONCE_AT], &plain[..]);
    out[SEALED_AT..SIGNED_LEN].copy_from_slice(&sealed);
    let signature = signing.sign(Domain::Rdv, &out[..SIGNED_LEN]);
    out[SIGNED_LEN..].copy_from_slice(&signature);
    Ok(out)
}

/// Checks what a storing node can check, who has no R: checks 1 to 4. Returns the time of issue; of two records under
/// one key the later counts.
///
/// # Errors
/// In this order: [`Refusal::Canon`] for length, key prefix or a publisher; [`Refusal::Key`]; [`Refusal::Sig`];
/// [`Refusal::Time`].
pub fn check_record(key: &[u8], value: &[u8], publisher: Option<&[u8]>, now: u64) -> Result<u64, Refusal> {
    let value: &[u8; RECORD_LEN] = value.try_into().map_err(|_| Refusal::Canon)?;
    let named = match key.split_first_chunk() {
        Some((DHT_PREFIX, named)) if key.len() == DHT_KEY_LEN => VerifyingKey::from_slice(named)?,
        _ => return Err(Refusal::Canon),
    };
    if publisher.is_some() {
        return Err(Refusal::Canon);
    }
    if value[..32] != named.as_bytes()[..] {
        return Err(Refusal::Key);
    }
    check_key(&named)?;
    let (signed, signature) = value.split_last_chunk::<SIGNATURE_LEN>().ok_or(Refusal::Canon)?;
    let signature: &Signature = signature;
    sign::verify(&named, Domain::Rdv, signed, signature)?;
    let issued = u64::from_le_bytes(value[32..NONCE_AT].try_into().map_err(|_| Refusal::Canon)?);
    let early = issued > now.saturating_add(AHEAD_MAX_S);
    let late = now.saturating_sub(issued) > AGE_MAX_S;
    if early || late { Err(Refusal::Time) } else { Ok(issued) }
}

/// Opens an answer of the DHT to the question for [`Period::dht_key`]: all checks. `expected` is the device that the
/// reader looks for. Under a link's or contact's secret several devices publish and the reader may know none of them:
/// he passes `None`, and the session decides who answered.
///
/// # Errors
/// Those of [`check_record`]; then [`Refusal::Tag`]; those of [`Certificate::verify`]; [`Refusal::Limit`] for counts,
/// [`Refusal::Canon`] for address kinds, [`Refusal::Pad`] for bytes that must be zero.
pub fn open_record(
    period: &Period,
    key: &[u8],
    value: &[u8],
    publisher: Option<&[u8]>,
    expected: Option<&VerifyingKey>,
    now: u64,
) -> Result<Contact, Refusal> {
    check_record(key, value, publisher, now)?;
    let nonce = value[NONCE_AT..SEALED_AT].try_into().map_err(|_| Refusal::Canon)?;
    let sealed = &value[SEALED_AT..SIGNED_LEN];
    let plain = Zeroizing::new(xopen(period.sealing_key().expose(), nonce, &value[..NONCE_AT], sealed)?);
    let (certificate, rest) = plain.split_at_checked(CERTIFICATE_LEN).ok_or(Refusal::Canon)?;
    let certificate = Certificate::decode(certificate)?;
    certificate.verify(expected.unwrap_or(&certificate.device()), now)?;
    decode_addresses(certificate, rest)
}

fn encode_contact(contact: &Contact) -> Result<Zeroizing<[u8; PLAIN_LEN]>, Refusal> {
    let mut plain = Vec::with_capacity(PLAIN_LEN);
    plain.extend_from_slice(&contact.certificate.encode());
    plain.push(count(contact.addresses.len(), ADDRESSES_MAX)?);
    for address in &contact.addresses {
        put_address(&mut plain, address);
    }
    plain.push(count(contact.relays.len(), RELAYS_MAX)?);
    for relay in &contact.relays {
        put_address(&mut plain, &relay.address);
        plain.extend_from_slice(relay.transport_key.as_bytes());
    }
    let mut out = Zeroizing::new([0; PLAIN_LEN]);
    out[..plain.len()].copy_from_slice(&plain);
    Ok(out)
}

fn count(len: usize, most: usize) -> Result<u8, Refusal> {
    if len > most {
        return Err(Refusal::Limit);
    }
    u8::try_from(len).map_err(|_| Refusal::Limit)
}

fn put_address(out: &mut Vec<u8>, address: &Address) {
    let kind = match (address.transport, address.ip) {
        (Transport::Quic, IpAddr::V4(_)) => 1,
        (Transport::Quic, IpAddr::V6(_)) => 2,
        (Transport::Tcp, IpAddr::V4(_)) => 3,
        (Transport::Tcp, IpAddr::V6(_)) => 4,
    };
    let mut ip = [0; 16];
    match address.ip {
        IpAddr::V4(v4) => ip[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => ip = v6.octets(),
    }
    out.push(kind);
    out.extend_from_slice(&ip);
    out.extend_from_slice(&address.port.to_le_bytes());
}

/// Reads what follows the certificate: first both counts, then the kinds, then the zeros, as the table of checks
/// orders them.
fn decode_addresses(certificate: Certificate, bytes: &[u8]) -> Result<Contact, Refusal> {
    let (addresses, bytes) = split_items::<ADDRESS_LEN>(bytes, ADDRESSES_MAX)?;
    let (relays, tail) = split_items::<RELAY_LEN>(bytes, RELAYS_MAX)?;
    let mut zero = tail.iter().all(|byte| *byte == 0);

    let addresses = addresses.iter().map(|item| get_address(item, &mut zero)).collect::<Result<_, _>>()?;
    let relays = relays
        .iter()
        .map(|item| {
            let (address, key) = item.split_first_chunk().ok_or(Refusal::Canon)?;
            Ok(Relay {
                address: get_address(address, &mut zero)?,
                transport_key: VerifyingKey::from_slice(key)?,
            })
        })
        .collect::<Result<_, Refusal>>()?;
    if zero { Ok(Contact { certificate, addresses, relays }) } else { Err(Refusal::Pad) }
}

fn split_items<const N: usize>(bytes: &[u8], most: usize) -> Result<(&[[u8; N]], &[u8]), Refusal> {
    let (count, rest) = bytes.split_first().ok_or(Refusal::Limit)?;
    let count = usize::from(*count);
    if count > most {
        return Err(Refusal::Limit);
    }
    let (items, rest) = rest.split_at_checked(count * N).ok_or(Refusal::Limit)?;
    Ok((items.as_chunks().0, rest))
}

/// Reads an address and clears `zero` if the unused part of an IPv4 address is not zero.
fn get_address(item: &[u8; ADDRESS_LEN], zero: &mut bool) -> Result<Address, Refusal> {
    let [kind, ip @ .., port_low, port_high] = item;
    let transport = match kind {
        1 | 2 => Transport::Quic,
        3 | 4 => Transport::Tcp,
        _ => return Err(Refusal::Canon),
    };
    let [a, b, c, d, unused @ ..] = *ip;
    let ip = if matches!(kind, 1 | 3) {
        *zero &= unused == [0; 12];
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        IpAddr::V6(Ipv6Addr::from(*ip))
    };
    Ok(Address { transport, ip, port: u16::from_le_bytes([*port_low, *port_high]) })
}

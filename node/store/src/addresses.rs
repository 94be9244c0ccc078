//! Where other devices of the person were reached last (`docs/spec/08-at-rest.md`, "Tables"): with it they meet again when
//! nobody else can tell.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use locker_crypto::id::VerifyingKey;

use crate::StoreError;
use crate::snapshot::Reads;
use crate::tables::ADDRESSES;
use crate::transaction::WriteTxn;

/// Addresses that are kept of one device.
pub const ADDRESSES_MAX: usize = 4;

const LEN: usize = 18;

/// Returns where a device was reached, the last place first.
///
/// # Errors
/// As every reading: [`StoreError::Corrupt`], [`StoreError::Io`], [`StoreError::Poisoned`].
pub fn of<R: Reads>(reads: &R, device: &VerifyingKey) -> Result<Vec<SocketAddr>, StoreError> {
    let Some(value) = reads.view().get(ADDRESSES, device.as_bytes())? else { return Ok(Vec::new()) };
    let (places, rest) = value.as_chunks::<LEN>();
    if !rest.is_empty() || places.len() > ADDRESSES_MAX {
        return Err(StoreError::corrupt("the addresses of a device"));
    }
    Ok(places.iter().map(decode).collect())
}

/// Notes that a device was reached at an address.
///
/// # Errors
/// As [`of`].
pub fn note(txn: &mut WriteTxn<'_>, device: &VerifyingKey, address: SocketAddr) -> Result<(), StoreError> {
    let mut places = of(txn, device)?;
    places.retain(|known| *known != address);
    places.insert(0, address);
    places.truncate(ADDRESSES_MAX);
    let value: Vec<u8> = places.iter().flat_map(encode).collect();
    txn.put(ADDRESSES, device.as_bytes(), &value);
    Ok(())
}

/// IPv6, or IPv4 in its mapped form, then the port.
fn encode(address: &SocketAddr) -> [u8; LEN] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut out = [0; LEN];
    out[..16].copy_from_slice(&ip.octets());
    out[16..].copy_from_slice(&address.port().to_le_bytes());
    out
}

fn decode(bytes: &[u8; LEN]) -> SocketAddr {
    let [ip @ .., low, high] = *bytes;
    SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), u16::from_le_bytes([low, high]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_kit::begin;

    #[test]
    fn the_last_places_are_kept_in_order() {
        let home = tempfile::tempdir().unwrap();
        let store = begin(&home.path().join("home"));
        let (one, other) = (VerifyingKey([1; 32]), VerifyingKey([2; 32]));
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let places = ["192.0.2.1:1", "[2001:db8::1]:2", "192.0.2.3:3", "192.0.2.4:4", "192.0.2.5:5"].map(at);
        for place in places {
            store.write::<_, StoreError>(|txn| note(txn, &one, place)).unwrap();
        }
        store.write::<_, StoreError>(|txn| note(txn, &one, places[2])).unwrap();
        let kept = of(&store.read().unwrap(), &one).unwrap();
        assert_eq!(kept, [places[2], places[4], places[3], places[1]]);
        assert_eq!(of(&store.read().unwrap(), &other).unwrap(), []);
    }
}

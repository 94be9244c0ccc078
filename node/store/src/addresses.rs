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

/// Of these, places that a device was seen to come from push out none.
const DIALED_KEPT: usize = 2;

const LEN: usize = 18;

/// How a place came to be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Met {
    /// The device answered there.
    Dialed,
    /// It came from there. Behind a router that may be a port of that one connection, where nobody ever answers.
    Came,
}

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

/// Notes where a device was met: where it answered, first; where it came from, behind the first two, so that a device
/// that comes from one passing port after the other is still found where it answers.
///
/// # Errors
/// As [`of`].
pub fn note(
    txn: &mut WriteTxn<'_>,
    device: &VerifyingKey,
    address: SocketAddr,
    met: Met,
) -> Result<(), StoreError> {
    let mut places = of(txn, device)?;
    match met {
        Met::Dialed => {
            places.retain(|known| *known != address);
            places.insert(0, address);
        }
        Met::Came if places.contains(&address) => return Ok(()),
        Met::Came => places.insert(places.len().min(DIALED_KEPT), address),
    }
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
            store.write::<_, StoreError>(|txn| note(txn, &one, place, Met::Dialed)).unwrap();
        }
        store.write::<_, StoreError>(|txn| note(txn, &one, places[2], Met::Dialed)).unwrap();
        let kept = of(&store.read().unwrap(), &one).unwrap();
        assert_eq!(kept, [places[2], places[4], places[3], places[1]]);
        assert_eq!(of(&store.read().unwrap(), &other).unwrap(), []);
        for port in 20_000..20_009 {
            let passing = at(&format!("198.51.100.1:{port}"));
            store.write::<_, StoreError>(|txn| note(txn, &one, passing, Met::Came)).unwrap();
        }
        store.write::<_, StoreError>(|txn| note(txn, &one, places[4], Met::Came)).unwrap();
        let kept = of(&store.read().unwrap(), &one).unwrap();
        assert_eq!(kept[..2], [places[2], places[4]]);
        assert_eq!(kept[2..], ["198.51.100.1:20008", "198.51.100.1:20007"].map(at));
    }
}

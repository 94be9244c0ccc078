//! What goes over the wire: every frame of every interface, as an observer of the network sees it.
//!
//! Meant for a network of the test's own ([`crate::enclosure`]), where nothing else is sent. Needs the right to open
//! packet sockets. On loopback each frame is seen twice, on its way out and on its way in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};

/// Every protocol, in the byte order of the network (`ETH_P_ALL`).
const ALL: u32 = 0x0003_u16.to_be() as u32;
/// Longest frame: segments of loopback are put together by the kernel.
const FRAME_MAX: usize = 1 << 18;
/// Frames that may wait for us, in bytes.
const BUFFER: usize = 64 << 20;
/// How often it is looked whether the capture is over.
const LOOK: Duration = Duration::from_millis(50);

const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const IPV6_HEADER: usize = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A frame as it was on the wire, Ethernet header first.
#[derive(Clone, Debug)]
pub struct Packet(pub Vec<u8>);

/// Ports and content of a datagram or segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content<'a> {
    /// Where it comes from.
    pub from_port: u16,
    /// Where it goes.
    pub to_port: u16,
    /// What it says.
    pub bytes: &'a [u8],
}

impl Packet {
    fn kind(&self) -> u16 {
        self.0.get(12..14).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// The addresses from and to, of an IP packet.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        let at = |from: usize, len: usize| self.0.get(ETHERNET + from..ETHERNET + from + len);
        match self.kind() {
            IPV4 => {
                let ip = |from| Some(Ipv4Addr::from(<[u8; 4]>::try_from(at(from, 4)?).ok()?).into());
                Some((ip(12)?, ip(16)?))
            }
            IPV6 => {
                let ip = |from| Some(Ipv6Addr::from(<[u8; 16]>::try_from(at(from, 16)?).ok()?).into());
                Some((ip(8)?, ip(24)?))
            }
            _ => None,
        }
    }

    /// The content of a packet of one protocol of IP, and where that protocol's header begins.
    fn transport(&self, protocol: u8) -> Option<&[u8]> {
        let ip = self.0.get(ETHERNET..)?;
        let (named, header) = match self.kind() {
            IPV4 => (*ip.get(9)?, usize::from(ip.first()? & 0x0f) * 4),
            IPV6 => (*ip.get(6)?, IPV6_HEADER),
            _ => return None,
        };
        if named == protocol { ip.get(header..) } else { None }
    }

    fn content(&self, protocol: u8, header: impl Fn(&[u8]) -> Option<usize>) -> Option<Content<'_>> {
        let segment = self.transport(protocol)?;
        let port = |at: usize| Some(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?]));
        let bytes = segment.get(header(segment)?..)?;
        Some(Content { from_port: port(0)?, to_port: port(2)?, bytes })
    }

    /// The datagram, of a UDP packet.
    pub fn udp(&self) -> Option<Content<'_>> {
        self.content(UDP, |_| Some(8))
    }

    /// The segment, of a TCP packet.
    pub fn tcp(&self) -> Option<Content<'_>> {
        self.content(TCP, |segment| Some(usize::from(segment.get(12)? >> 4) * 4))
    }
}

/// A capture that runs.
pub struct Capture {
    packets: Arc<Mutex<Vec<Packet>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Begins to listen on every interface of the network in which this thread is.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub fn start() -> std::io::Result<Self> {
        let protocol = Protocol::from_raw(NonZeroU32::new(ALL).unwrap());
        let socket =
            socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
        // Without the right to more, the buffer stays as it is; what is lost then shows in the controls of the tests.
        let _ = set_socket_recv_buffer_size_force(&socket, BUFFER);
        set_socket_timeout(&socket, Timeout::Recv, Some(LOOK))?;
        let (packets, is_over) = (Arc::<Mutex<Vec<Packet>>>::default(), Arc::<AtomicBool>::default());
        let (kept, stop) = (Arc::clone(&packets), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; FRAME_MAX];
            loop {
                match recv(&socket, &mut buffer[..], RecvFlags::empty()) {
                    Ok((_, len)) => kept.lock().unwrap().push(Packet(buffer[..len].to_vec())),
                    // Nothing came for a while: what was sent before the end of the capture is here.
                    Err(_) if stop.load(Ordering::Relaxed) => return,
                    Err(_) => {}
                }
            }
        });
        Ok(Self { packets, is_over, thread: Some(thread) })
    }

    /// Looks at what was captured so far.
    pub fn with<T>(&self, look: impl FnOnce(&[Packet]) -> T) -> T {
        look(&self.packets.lock().unwrap())
    }

    /// Ends the capture once nothing comes any more, and gives all of it.
    pub fn finish(mut self) -> Vec<Packet> {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        std::mem::take(&mut *self.packets.lock().unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(hex_text: &str) -> Packet {
        Packet(hex::decode(hex_text.replace(' ', "")).unwrap())
    }

    #[test]
    fn addresses_ports_and_content_are_read() {
        let ethernet = "000000000000 000000000000";
        let udp = packet(&format!(
            "{ethernet} 0800 4500 0020 0000 4000 4011 0000 0a4d0001 efff4c4b 1234 60bd 000c 0000 61626364"
        ));
        assert_eq!(udp.addresses(), Some(("10.77.0.1".parse().unwrap(), "239.255.76.75".parse().unwrap())));
        let content = Content { from_port: 0x1234, to_port: 24_765, bytes: b"abcd" };
        assert_eq!((udp.udp(), udp.tcp()), (Some(content), None));
        let tcp = packet(&format!(
            "{ethernet} 86dd 6000 0000 0019 0640 {}{} 0001 0002 00000000 00000000 5018 0000 0000 0000 7a",
            "00".repeat(15) + "01",
            "00".repeat(15) + "02",
        ));
        assert_eq!(tcp.tcp(), Some(Content { from_port: 1, to_port: 2, bytes: b"z" }));
        assert_eq!(tcp.addresses().unwrap().1, "::2".parse::<IpAddr>().unwrap());
        let arp = packet(&format!("{ethernet} 0806 0001"));
        assert_eq!((arp.addresses(), arp.udp()), (None, None));
        assert_eq!(Packet(Vec::new()).addresses(), None);
    }
}

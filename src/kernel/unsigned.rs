//! What is said where the connection file has an empty key: whoever reaches the ports runs cells as this user.

use std::net::{IpAddr, ToSocketAddrs as _};

use jupyter_protocol::{ConnectionInfo, Transport};

/// The warning that this connection file deserves.
pub fn warning(connection: &ConnectionInfo) -> Option<String> {
    if !connection.key.is_empty() || connection.transport == Transport::IPC {
        return None;
    }
    let ip = &connection.ip;
    let who = if is_of_this_machine(ip) {
        "every user and program of this machine"
    } else {
        "EVERYBODY WHO REACHES THIS MACHINE OVER THE NETWORK"
    };
    Some(format!(
        "WARNING: the key in the connection file is empty, so messages are not signed: {who} can run code as you \
         through the ports at {ip}. Let Jupyter write the connection file (it makes a key), or put a long random `key` into it."
    ))
}

/// Whether only this machine reaches the address.
fn is_of_this_machine(ip: &str) -> bool {
    let ip = ip.trim_start_matches('[').trim_end_matches(']');
    match ip.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        // A name: by all that it stands for.
        Err(_) => (ip, 0)
            .to_socket_addrs()
            .is_ok_and(|mut all| all.all(|address| address.ip().is_loopback())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(ip: &str, key: &str, transport: Transport) -> Option<String> {
        warning(&ConnectionInfo {
            ip: ip.to_owned(),
            transport,
            shell_port: 1,
            iopub_port: 2,
            stdin_port: 3,
            control_port: 4,
            hb_port: 5,
            key: key.to_owned(),
            signature_scheme: "hmac-sha256".to_owned(),
            kernel_name: None,
        })
    }

    #[test]
    fn an_empty_key_is_said_louder_where_more_can_use_it() {
        for ip in ["0.0.0.0", "*", "192.168.1.7", "::", "[::]", "2001:db8::1"] {
            let said = warned(ip, "", Transport::TCP).expect(ip);
            assert!(said.contains("EVERYBODY"), "{said}");
        }
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"] {
            let said = warned(ip, "", Transport::TCP).expect(ip);
            assert!(said.contains("of this machine"), "{said}");
        }
        assert_eq!(warned("0.0.0.0", "a key", Transport::TCP), None);
        assert_eq!(warned("/run/kernel", "", Transport::IPC), None);
    }
}

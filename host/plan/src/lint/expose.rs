//! EXPOSE: ports of the container, nothing of the host's.

use cofferdam_dockerfile::{
    Instruction,
    lint::{Findings, Reach, Rule},
};

/// `80/TCP`.
pub static EXPOSE_PROTO_CASING: Rule = Rule {
    name: "ExposeProtoCasing",
    description: "Protocol in EXPOSE instruction should be lowercase",
    format: "Defined protocol '{}' in EXPOSE instruction should be lowercase",
    help: "write the protocol in small letters",
    experimental: false,
    reach: Reach::Stage,
    bad: "FROM scratch\nEXPOSE 80/TCP\n",
    good: "FROM scratch\nEXPOSE 80/tcp\n",
};

/// `127.0.0.1:80:80`, `8080:80`.
pub static EXPOSE_INVALID_FORMAT: Rule = Rule {
    name: "ExposeInvalidFormat",
    description: "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in \
                  a future release",
    format: "EXPOSE instruction should not define an IP address or host-port mapping, found '{}'",
    help: "write the container's port alone; where it is published is said when the container is started",
    experimental: false,
    reach: Reach::Stage,
    bad: "FROM scratch\nEXPOSE 8080:80\n",
    good: "FROM scratch\nEXPOSE 80\n",
};

pub(super) fn check(instruction: &Instruction, ports: &[String], findings: &mut Findings<'_>) {
    for port in ports {
        let (host, container) = port.rsplit_once(':').unwrap_or(("", port));
        let protocol = container.split_once('/').map_or("", |(_, protocol)| protocol);
        if protocol != protocol.to_lowercase() {
            findings.report(&EXPOSE_PROTO_CASING, instruction, &[port]);
        }
        if !host.is_empty() {
            findings.report(&EXPOSE_INVALID_FORMAT, instruction, &[port]);
        }
    }
}

//! The NoCloud seed: what a guest learns about itself at its first boot. An ISO 9660 volume `cidata` that cloud-init and
//! the small image read alike.

use std::fmt::Write;

use super::host_key::HostKey;
use super::iso;

/// How a guest's interfaces are named, addressed and told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The name under `ethernets`.
    pub name: &'static str,
    /// Its hardware address, lower case.
    pub mac: String,
    /// Its address with the prefix length; `None` when it asks for one by DHCP.
    pub address: Option<String>,
    /// The default gateway, on the interface that leads outside.
    pub gateway: Option<String>,
    /// Name servers.
    pub nameservers: Vec<String>,
}

/// What goes into a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed<'a> {
    /// Changes when the guest shall take itself for a new one.
    pub instance_id: String,
    /// The host name.
    pub hostname: &'a str,
    /// SSH public keys that may log in, one OpenSSH line each.
    pub ssh_keys: &'a [String],
    /// The tenant's own cloud-init data.
    pub user_data: Option<&'a str>,
    /// The host key it shall present.
    pub host_key: &'a HostKey,
    /// Its interfaces.
    pub interfaces: &'a [Interface],
}

impl Seed<'_> {
    /// The volume.
    pub fn to_iso(&self) -> Vec<u8> {
        iso::image(
            "cidata",
            &[
                ("meta-data", self.meta_data().as_bytes()),
                ("user-data", self.user_data.unwrap_or("#cloud-config\n{}\n").as_bytes()),
                ("vendor-data", self.vendor_data().as_bytes()),
                ("network-config", self.network_config().as_bytes()),
            ],
        )
    }

    fn meta_data(&self) -> String {
        let mut text =
            format!("instance-id: {}\nlocal-hostname: {}\n", quoted(&self.instance_id), quoted(self.hostname));
        if !self.ssh_keys.is_empty() {
            text.push_str("public-keys:\n");
            for key in self.ssh_keys {
                let _ = writeln!(text, "  - {}", quoted(key));
            }
        }
        text
    }

    /// Merged by cloud-init under the tenant's own data, which so has the last word.
    fn vendor_data(&self) -> String {
        let mut text = "#cloud-config\nssh_keys:\n  ed25519_private: |\n".to_owned();
        for line in self.host_key.private_pem().lines() {
            let _ = writeln!(text, "    {line}");
        }
        let _ = writeln!(text, "  ed25519_public: {}", quoted(&self.host_key.public_line()));
        // The root partition and its file system fill the disk, which is larger than the image's.
        text.push_str("growpart:\n  mode: auto\n  devices: [\"/\"]\n");
        text
    }

    fn network_config(&self) -> String {
        let mut text = "version: 2\nethernets:\n".to_owned();
        for interface in self.interfaces {
            let _ = writeln!(text, "  {}:\n    match:\n      macaddress: {}", interface.name, quoted(&interface.mac));
            let _ = match &interface.address {
                Some(address) => writeln!(text, "    addresses:\n      - {}", quoted(address)),
                None => writeln!(text, "    dhcp4: true"),
            };
            if let Some(gateway) = &interface.gateway {
                let _ = writeln!(text, "    gateway4: {}", quoted(gateway));
            }
            if !interface.nameservers.is_empty() {
                text.push_str("    nameservers:\n      addresses:\n");
                for server in &interface.nameservers {
                    let _ = writeln!(text, "        - {}", quoted(server));
                }
            }
        }
        text
    }
}

/// A YAML double-quoted scalar: nothing in `text` can end it.
fn quoted(text: &str) -> String {
    let mut out = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_reads_back() {
        let host_key = HostKey::from_seed([7; 32]);
        let keys = vec!["ssh-ed25519 AAAA me".to_owned()];
        let interfaces = [
            Interface {
                name: "outside",
                mac: "52:54:00:00:00:01".into(),
                address: None,
                gateway: None,
                nameservers: vec!["10.0.2.3".into()],
            },
            Interface {
                name: "private",
                mac: "52:54:00:00:00:02".into(),
                address: Some("10.77.0.5/16".into()),
                gateway: None,
                nameservers: vec![],
            },
        ];
        let seed = Seed {
            instance_id: "cmp_1".into(),
            hostname: "web-1",
            ssh_keys: &keys,
            user_data: Some("#!/bin/sh\necho hi\n"),
            host_key: &host_key,
            interfaces: &interfaces,
        };
        let (label, files) = iso::tests::read(&seed.to_iso());
        assert_eq!(label, "cidata");
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["meta-data", "network-config", "user-data", "vendor-data"]);
        let text = |i: usize| String::from_utf8(files[i].1.clone()).unwrap();
        assert_eq!(
            text(0),
            "instance-id: \"cmp_1\"\nlocal-hostname: \"web-1\"\npublic-keys:\n  - \"ssh-ed25519 AAAA me\"\n"
        );
        assert_eq!(
            text(1),
            "version: 2\nethernets:\n  outside:\n    match:\n      macaddress: \"52:54:00:00:00:01\"\n    dhcp4: true\n    \
             nameservers:\n      addresses:\n        - \"10.0.2.3\"\n  \
             private:\n    match:\n      macaddress: \"52:54:00:00:00:02\"\n    addresses:\n      - \"10.77.0.5/16\"\n"
        );
        assert_eq!(text(2), "#!/bin/sh\necho hi\n");
        assert!(text(3).starts_with("#cloud-config\nssh_keys:\n  ed25519_private: |\n    -----BEGIN OPENSSH"));
        assert!(text(3).contains(&host_key.public_line()));
    }

    #[test]
    fn nothing_escapes_a_scalar() {
        assert_eq!(quoted("a\"b\\c\nd\u{2028}"), "\"a\\\"b\\\\c\\u000ad\\u2028\"");
    }
}

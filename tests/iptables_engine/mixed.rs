//! Programs that are not of the mode that they are taken for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use kumatp::error::Error;
use kumatp::model::IptablesMode;

use crate::netns::isolated;
use crate::outside::{network, program, programs};
use crate::{config, everything, install, loopback_address, ours_is_there, uninstall};

#[test]
fn programs_of_both_modes_are_refused() {
    isolated(|| {
        network();
        for mode in IptablesMode::ALL {
            let other =
                programs("iptables", if mode == IptablesMode::Nft { IptablesMode::Legacy } else { IptablesMode::Nft });
            let before = everything();
            let mut mixed = [config(mode), config(mode)];
            mixed[0].iptables_executables.v4.restore = other.restore;
            mixed[1].iptables_executables.v4.save = other.save;
            for config in mixed {
                let error = install(&config).unwrap_err().to_string();
                assert!(error.contains(&format!("not all of iptables-{mode}")), "{error}");
                assert_eq!((everything(), loopback_address()), (before.clone(), false));
            }
        }
    });
}

/// A program with a name of one mode that is of the other.
fn lying(family: &str, end: &str, is: IptablesMode, says: IptablesMode) -> PathBuf {
    let path = PathBuf::from(format!("/run/{family}-{says}{end}"));
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", program(family, is, end).display());
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn rules_that_land_elsewhere_are_not_taken_for_an_installation() {
    isolated(|| {
        network();
        for (is, says) in [(IptablesMode::Nft, IptablesMode::Legacy), (IptablesMode::Legacy, IptablesMode::Nft)] {
            let mut config = config(is);
            for (family, given) in
                [("iptables", &mut config.iptables_executables.v4), ("ip6tables", &mut config.iptables_executables.v6)]
            {
                given.tables = Some(lying(family, "", is, says));
                given.save = Some(lying(family, "-save", is, says));
                given.restore = Some(lying(family, "-restore", is, says));
            }
            let error = install(&config).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::Conflict { .. }), "{text}");
            assert!(text.contains(&format!("no table of iptables-{says} has them")), "{text}");
            // They are in force, and an uninstallation finds them.
            assert!(ours_is_there("iptables", is));
            uninstall();
            assert!(!ours_is_there("iptables", is) && !ours_is_there("iptables", says));
        }
    });
}

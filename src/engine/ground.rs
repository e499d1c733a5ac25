//! The host that this process runs on, as the ground of back ends: `::6` by way of netlink, and the record in a file.

use nix::libc;

use super::loopback;
use super::messages::not_permitted;
use super::passthrough::{Added, Ground, Presence};
use super::record::Record;
use super::record_store::RecordStore;
use super::report::Report;
use crate::error::Error;
use crate::facts::{self, look_for_ipv6};
use crate::model::IpFamilyMode;
use crate::netlink::{Dump, Kernel, KernelTable, LegacyView, Socket, Stop};

impl Ground for Kernel {
    fn record(&mut self) -> Result<Record, Error> {
        RecordStore::recall(self)
    }

    fn store(&mut self, record: &Record) -> Result<(), Error> {
        self.no_records = false;
        RecordStore::of(self)?.store(record)
    }

    fn address(&mut self) -> Result<Presence, Error> {
        loopback::look(self)
    }

    fn is_marked(&mut self) -> Result<bool, Error> {
        let dump = match self.netfilter().and_then(Socket::rules) {
            Ok(dump) => dump,
            // There is no table in what the kernel does not have.
            Err(Stop::Missing) => Dump::default(),
            Err(stop) => return Err(stop.into()),
        };
        let markers = [&dump.v4, &dump.v6].into_iter().flatten().filter_map(KernelTable::marker);
        Ok(markers.into_iter().any(|marker| marker.address))
    }

    fn add_address(&mut self, mode: IpFamilyMode, report: &mut Report) -> Result<Added, Error> {
        match loopback::add_where_possible(self, mode, report) {
            // Adding an address that is there needs the privilege as well.
            Err(Error::Os { errno: Some(libc::EPERM), .. }) => Err(not_permitted()),
            added => added,
        }
    }

    fn remove_address(&mut self) -> Result<bool, Error> {
        loopback::remove_by(self)
    }

    fn ipv6_is_off(&mut self) -> bool {
        facts::ipv6_is_off(self)
    }

    fn left_open(&mut self) -> Option<String> {
        // What cannot be looked at is taken to be there.
        look_for_ipv6(self, &mut Vec::new()).left_open().map(str::to_owned)
    }

    fn changed(&mut self) {
        self.legacy = LegacyView::default();
    }
}

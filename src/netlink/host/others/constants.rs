//! Numbers that only rules of other programs have, named as in linux/netfilter/nf_tables.h and its neighbours.

pub(super) const NFPROTO_ARP: u8 = 3;
pub(super) const NFPROTO_BRIDGE: u8 = 7;

pub(super) const NF_INET_INGRESS: u32 = 5;
pub(super) const NF_NETDEV_INGRESS: u32 = 0;
pub(super) const NF_NETDEV_EGRESS: u32 = 1;

pub(super) const NFTA_HOOK_DEV: u16 = 3;
pub(super) const NFTA_HOOK_DEVS: u16 = 4;

pub(super) const NFT_REG_4: u32 = 4;
pub(super) const NFT_REG32_00: u32 = 8;
pub(super) const NFT_REG32_15: u32 = 23;

pub(super) const NFT_META_PROTOCOL: u32 = 1;
pub(super) const NFT_META_IIF: u32 = 4;
pub(super) const NFT_META_OIF: u32 = 5;
pub(super) const NFT_META_NFPROTO: u32 = 15;
pub(super) const NFTA_META_SREG: u16 = 3;
pub(super) const NFTA_PAYLOAD_SREG: u16 = 5;
pub(super) const NFTA_EXTHDR_DREG: u16 = 1;
pub(super) const NFTA_NUMGEN_DREG: u16 = 1;
pub(super) const NFTA_HASH_DREG: u16 = 2;
pub(super) const NFTA_RT_DREG: u16 = 1;
pub(super) const NFTA_OSF_DREG: u16 = 1;
pub(super) const NFTA_XFRM_DREG: u16 = 1;
pub(super) const NFTA_TUNNEL_DREG: u16 = 2;

pub(super) const NFT_BITWISE_BOOL: u32 = 0;
pub(super) const NFT_CMP_LT: u32 = 2;
pub(super) const NFT_CMP_GT: u32 = 4;
pub(super) const NFT_RANGE_EQ: u32 = 0;

pub(super) const NFTA_DYNSET_EXPR: u16 = 7;
pub(super) const NFTA_DYNSET_EXPRESSIONS: u16 = 10;

pub(super) const NFTA_OBJREF_IMM_TYPE: u16 = 1;
pub(super) const NFT_OBJECT_QUOTA: u32 = 2;
pub(super) const NFT_OBJECT_LIMIT: u32 = 4;
pub(super) const NFT_OBJECT_CONNLIMIT: u32 = 5;
pub(super) const NFT_OBJECT_SYNPROXY: u32 = 10;

pub(super) const NFT_CONTINUE: i32 = -1;
pub(super) const NFT_NAT_SNAT: u32 = 0;

pub(super) const NFT_SET_EVAL: u32 = 0x20;
pub(super) const NFTA_SET_ELEM_DATA: u16 = 2;
pub(super) const NFTA_SET_ELEM_KEY_END: u16 = 10;
pub(super) const NFT_SET_ELEM_CATCHALL: u32 = 2;

pub(super) const ETH_P_IP: u16 = 0x0800;
pub(super) const ETH_P_IPV6: u16 = 0x86dd;

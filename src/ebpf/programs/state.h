/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What is shared with the loader and between the programs. The loader's types are generated from these. */
#ifndef KUMATP_STATE_H
#define KUMATP_STATE_H

#include "kernel.h"

/* An IPv6 address in network byte order; an IPv4 address in its mapped form ::ffff:a.b.c.d. */
struct address {
	u32 words[4];
};

/* For each of 64 ports a bit; bit 0 is the lowest port. */
struct port_block {
	/* Outbound connections to it pass without the sidecar. */
	u64 outbound_excluded;
	/* Outbound connections to it are redirected, if nothing else is against it. */
	u64 outbound_included;
	/* Inbound connections to it are redirected. */
	u64 inbound_redirected;
};

enum setting {
	/* Connections from the workload are redirected. */
	SETTING_OUTBOUND = 1,
	/* Connections to the workload are redirected. */
	SETTING_INBOUND = 2,
	/* Each for IPv4, and its double for IPv6. */
	SETTING_V4 = 4,
	SETTING_V6 = 8,
	/* DNS queries are redirected. */
	SETTING_V4_DNS = 16,
	SETTING_V6_DNS = 32,
	/* Those to any server, and not only to those that are listed. */
	SETTING_DNS_ALL = 64,
	/* DNS over TCP passes without the sidecar. */
	SETTING_V4_DNS_OVER_TCP_PASSES = 128,
	SETTING_V6_DNS_OVER_TCP_PASSES = 256,
	/* Only outbound connections to listed networks are redirected. */
	SETTING_NETWORKS_INCLUDED = 512,
	/* There are exclusions for users, for groups. */
	SETTING_USERS = 1024,
	SETTING_GROUPS = 2048,
};

/* What does not change while the programs are loaded. The verifier knows the values, and drops what they rule out. */
struct settings {
	/* The network namespace that is dealt with; 0 on kernels that cannot tell: all of the cgroup. */
	u64 netns_cookie;
	/* The programs act while this is the generation in force. */
	u64 generation;
	/* Which build of the programs this is. Not for the programs. */
	u64 build;
	/* Of enum setting. */
	u32 flags;
	u32 sidecar_uid;
	u16 outbound_port;
	u16 inbound_port;
	u16 dns_port;
	u16 unused;
	struct port_block ports[1024];
};

/* What is known of a network. That of the longest prefix counts, so the loader adds what is known of wider ones. */
enum network {
	NETWORK_OUTBOUND_EXCLUDED = 1,
	NETWORK_OUTBOUND_INCLUDED = 2,
	/* Connections from it pass without the sidecar. */
	NETWORK_INBOUND_EXCLUDED = 4,
	/* Addresses of this host. */
	NETWORK_LOCAL = 8,
	/* A DNS server whose queries are redirected. */
	NETWORK_DNS_SERVER = 16,
};

struct network_key {
	u32 prefix_bits;
	struct address address;
};

enum owner {
	OWNER_USER = 1,
	OWNER_GROUP = 2,
};

/* Users and groups that have exclusions, by prefixes of their numbers in network byte order. */
struct owner_key {
	u32 prefix_bits;
	/* Of enum owner. */
	u32 kind;
	u32 id;
};

/* The ports that a class of users or groups reaches without the sidecar, by prefixes. */
struct owner_port_key {
	u32 prefix_bits;
	u32 class;
	u16 protocol;
	/* In network byte order. */
	u16 port;
};

enum role {
	ROLE_NONE = 0,
	/* A socket of the workload that was redirected, and where it wanted to go. */
	ROLE_CLIENT = 1,
	/* A socket that the sidecar accepted, and where its client wanted to go. */
	ROLE_ACCEPTED = 2,
};

/*
 * What is remembered of a socket, for as long as it lives. It counts while the socket goes to the listener: one that
 * failed to connect may be used again for what is not redirected.
 */
struct original {
	struct address address;
	/* Where it was sent instead. */
	struct address listener;
	/* In host byte order, as all ports here but those of prefixes. */
	u16 port;
	u16 listener_port;
	/* Of enum role. */
	u32 role;
};

/* A redirected connection that the sidecar has yet to accept. */
struct pair {
	u64 netns_cookie;
	struct address client;
	struct address listener;
	u16 client_port;
	u16 listener_port;
	u32 unused;
};

enum counter {
	COUNTER_OUTBOUND_REDIRECTED,
	COUNTER_INBOUND_REDIRECTED,
	/* Connections of the sidecar to this very host, which are inbound. */
	COUNTER_SIDECAR_TO_ITSELF,
	COUNTER_DNS_REDIRECTED,
	/* Connections that were refused since where they wanted to go could not be noted down. */
	COUNTER_OUTBOUND_REFUSED,
	/* Connections that were refused since the sidecar does not listen. */
	COUNTER_INBOUND_REFUSED,
	COUNTERS,
};

/* Slots for the inbound listeners of a family: a socket that listens is in one of them. */
enum listener {
	LISTENERS_V4 = 0,
	LISTENERS_V6 = 16,
	LISTENERS_OF_FAMILY = 16,
	LISTENERS = 32,
};

struct map_definition {
	u32 type;
	u32 key_size;
	u32 value_size;
	/* 0 if the loader decides. */
	u32 max_entries;
	u32 flags;
};

#define MAP(name, kind, key, value, entries, options)                                                \
	struct map_definition name SECTION("maps") = {                                               \
		.type = BPF_MAP_TYPE_##kind,                                                         \
		.key_size = sizeof(key),                                                             \
		.value_size = sizeof(value),                                                         \
		.max_entries = entries,                                                              \
		.flags = options,                                                                    \
	}

/* Of one generation of the programs. */
const volatile struct settings settings SECTION(".rodata");
MAP(networks, LPM_TRIE, struct network_key, u32, 0, BPF_F_NO_PREALLOC);
/* The class of a user or group. */
MAP(owners, LPM_TRIE, struct owner_key, u32, 0, BPF_F_NO_PREALLOC);
MAP(owner_ports, LPM_TRIE, struct owner_port_key, u32, 0, BPF_F_NO_PREALLOC);

/* Shared by all generations: connections that one redirected are known to the next. */
/* The generation in force; none if 0. One store switches. */
volatile u64 generation_in_force SECTION(".data");
MAP(sockets, SK_STORAGE, u32, struct original, 0, BPF_F_NO_PREALLOC);
/* Entries are removed when the sidecar accepts, so that only connections under way, and refused ones, are in it. */
MAP(pairs, LRU_HASH, struct pair, struct original, 32768, 0);
MAP(listeners, SOCKMAP, u32, u64, LISTENERS, 0);
MAP(counters, PERCPU_ARRAY, u32, u64, COUNTERS, 0);

char license[] SECTION(".license") = "Dual MIT/GPL";

INLINE void count(u32 counter)
{
	u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		*value += 1;
}

INLINE bool has(u32 setting)
{
	return (settings.flags & setting) != 0;
}

INLINE struct address from_v4(u32 v4)
{
	return (struct address){ { 0, 0, swap32(0xffff), v4 } };
}

INLINE bool is_v4(const struct address *address)
{
	return address->words[0] == 0 && address->words[1] == 0 && address->words[2] == swap32(0xffff);
}

/* 127.0.0.0/8 or ::1. */
INLINE bool is_loopback(const struct address *address)
{
	if (is_v4(address))
		return (address->words[3] & swap32(0xff000000)) == swap32(0x7f000000);
	return address->words[0] == 0 && address->words[1] == 0 && address->words[2] == 0 &&
	       address->words[3] == swap32(1);
}

/* 0.0.0.0 or ::. */
INLINE bool is_unspecified(const struct address *address)
{
	if (is_v4(address))
		return address->words[3] == 0;
	return (address->words[0] | address->words[1] | address->words[2] | address->words[3]) == 0;
}

INLINE bool is_equal(const struct address *one, const struct address *other)
{
	return one->words[0] == other->words[0] && one->words[1] == other->words[1] &&
	       one->words[2] == other->words[2] && one->words[3] == other->words[3];
}

/* What is known of the network of an address. */
INLINE u32 network_of(const struct address *address)
{
	struct network_key key = { .prefix_bits = 128, .address = *address };
	u32 *known = bpf_map_lookup_elem(&networks, &key);

	return known ? *known : 0;
}

/*
 * The block of a port. Which bounds it has, the compiler knows, and the verifier of most kernels forgets when bytes are
 * swapped; so it is told by an instruction that the compiler cannot drop.
 */
INLINE const volatile struct port_block *block_of(u16 port)
{
	u64 index = port >> 6;

	asm volatile("%0 &= 1023" : "+r"(index));
	return &settings.ports[index];
}

INLINE bool has_port(u64 block, u16 port)
{
	return (block >> (port & 63)) & 1;
}

/*
 * Whether the socket that the context is about is in the namespace that is dealt with. Where the cookie is 0, the
 * verifier drops the call, which some kernels do not have for every kind of program.
 */
INLINE bool in_namespace(void *context)
{
	return settings.netns_cookie == 0 || bpf_get_netns_cookie(context) == settings.netns_cookie;
}

INLINE bool in_force(void)
{
	return generation_in_force == settings.generation;
}

#endif

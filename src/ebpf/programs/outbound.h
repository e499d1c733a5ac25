/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Where connections and queries from the workload go. The order of the questions is that of the rules in the chains
 * OUTPUT and KUMA_MESH_OUTBOUND of the other engines.
 */
#ifndef KUMATP_OUTBOUND_H
#define KUMATP_OUTBOUND_H

#include "state.h"

enum way {
	/* Where it wants to go. */
	WAY_DIRECT,
	WAY_OUTBOUND_LISTENER,
	WAY_INBOUND_LISTENER,
	WAY_DNS_LISTENER,
};

struct destination {
	struct address address;
	u16 port;
	u16 protocol;
};

INLINE bool is_excluded(u32 kind, u32 id, const struct destination *to)
{
	struct owner_key who = { .prefix_bits = 64, .kind = kind, .id = swap32(id) };
	struct owner_port_key what = { .prefix_bits = 64, .protocol = to->protocol, .port = swap16(to->port) };
	u32 *class = bpf_map_lookup_elem(&owners, &who);

	if (!class)
		return false;
	what.class = *class;
	return bpf_map_lookup_elem(&owner_ports, &what) != NULL;
}

/* Whether the socket is bound to the address from which the sidecar hands passed-through connections to the workload. */
INLINE bool is_from_passthrough(struct bpf_sock_addr *context, bool v6)
{
	void *socket = LOAD_POINTER(context, struct bpf_sock_addr, sk);

	if (!v6)
		return LOAD32(socket, struct bpf_sock, src_ip4) == swap32(0x7f000006);
	return LOAD32(socket, struct bpf_sock, src_ip6[0]) == 0 && LOAD32(socket, struct bpf_sock, src_ip6[1]) == 0 &&
	       LOAD32(socket, struct bpf_sock, src_ip6[2]) == 0 &&
	       LOAD32(socket, struct bpf_sock, src_ip6[3]) == swap32(6);
}

INLINE enum way way_of_query(const struct destination *to, bool v6, bool by_sidecar, u32 network)
{
	if (to->port != 53 || by_sidecar || !has(v6 ? SETTING_V6_DNS : SETTING_V4_DNS))
		return WAY_DIRECT;
	return has(SETTING_DNS_ALL) || (network & NETWORK_DNS_SERVER) ? WAY_DNS_LISTENER : WAY_DIRECT;
}

INLINE enum way way_of_connection(struct bpf_sock_addr *context, const struct destination *to, bool v6,
				  bool by_sidecar, u32 network)
{
	const volatile struct port_block *block = block_of(to->port);

	if (to->port == 53 && !by_sidecar &&
	    has(v6 ? SETTING_V6_DNS_OVER_TCP_PASSES : SETTING_V4_DNS_OVER_TCP_PASSES))
		return WAY_DIRECT;
	if (!has(SETTING_OUTBOUND) || has_port(block->outbound_excluded, to->port))
		return WAY_DIRECT;
	if (network & NETWORK_LOCAL) {
		/* The address of the loopback rules: 127.0.0.1, and for IPv6 ::1; 0.0.0.0 and :: mean the same. */
		const struct address *address = &to->address;
		u32 last = address->words[3];
		bool localhost = last == 0 || last == (v6 ? swap32(1) : swap32(0x7f000001));

		if (v6)
			localhost = localhost && !address->words[0] && !address->words[1] && !address->words[2];
		/* What the sidecar passes through is for the workload; redirecting it would send it round for ever. */
		if (!by_sidecar || localhost || is_from_passthrough(context, v6))
			return WAY_DIRECT;
		/* A call of the sidecar for this very workload is inbound, and must meet the inbound policies. */
		return WAY_INBOUND_LISTENER;
	}
	if (by_sidecar || (has(SETTING_NETWORKS_INCLUDED) && !(network & NETWORK_OUTBOUND_INCLUDED)))
		return WAY_DIRECT;
	return has_port(block->outbound_included, to->port) ? WAY_OUTBOUND_LISTENER : WAY_DIRECT;
}

INLINE enum way way_of(struct bpf_sock_addr *context, const struct destination *to)
{
	bool v6 = !is_v4(&to->address);
	u64 owner;
	bool by_sidecar;
	u32 network;

	if (!in_force() || !in_namespace(context) || !has(v6 ? SETTING_V6 : SETTING_V4))
		return WAY_DIRECT;
	owner = bpf_get_current_uid_gid();
	if (has(SETTING_USERS) && is_excluded(OWNER_USER, (u32)owner, to))
		return WAY_DIRECT;
	if (has(SETTING_GROUPS) && is_excluded(OWNER_GROUP, owner >> 32, to))
		return WAY_DIRECT;
	network = network_of(&to->address);
	if (network & NETWORK_OUTBOUND_EXCLUDED)
		return WAY_DIRECT;
	by_sidecar = (u32)owner == settings.sidecar_uid;
	if (to->protocol == IPPROTO_UDP)
		return way_of_query(to, v6, by_sidecar, network);
	return way_of_connection(context, to, v6, by_sidecar, network);
}

/* Notes down where a socket wanted to go, and where it goes. */
INLINE bool remember(struct bpf_sock_addr *context, const struct destination *to, const struct destination *listener)
{
	void *socket = LOAD_POINTER(context, struct bpf_sock_addr, sk);
	struct original *original = bpf_sk_storage_get(&sockets, socket, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (!original)
		return false;
	original->address = to->address;
	original->port = to->port;
	original->listener = listener->address;
	original->listener_port = listener->port;
	original->role = ROLE_CLIENT;
	return true;
}

/* What is known of a socket that was redirected to this peer. */
INLINE struct original *recall(struct bpf_sock_addr *context, const struct destination *peer)
{
	void *socket = LOAD_POINTER(context, struct bpf_sock_addr, sk);
	struct original *original = bpf_sk_storage_get(&sockets, socket, NULL, 0);

	if (!original || original->role != ROLE_CLIENT || original->listener_port != peer->port)
		return NULL;
	return is_equal(&original->listener, &peer->address) ? original : NULL;
}

INLINE void read_v4(struct bpf_sock_addr *context, struct destination *to)
{
	to->address = from_v4(LOAD32(context, struct bpf_sock_addr, user_ip4));
	to->port = swap16((u16)LOAD32(context, struct bpf_sock_addr, user_port));
	to->protocol = LOAD32(context, struct bpf_sock_addr, protocol);
}

INLINE void read_v6(struct bpf_sock_addr *context, struct destination *to)
{
	to->address.words[0] = LOAD32(context, struct bpf_sock_addr, user_ip6[0]);
	to->address.words[1] = LOAD32(context, struct bpf_sock_addr, user_ip6[1]);
	to->address.words[2] = LOAD32(context, struct bpf_sock_addr, user_ip6[2]);
	to->address.words[3] = LOAD32(context, struct bpf_sock_addr, user_ip6[3]);
	to->port = swap16((u16)LOAD32(context, struct bpf_sock_addr, user_port));
	to->protocol = LOAD32(context, struct bpf_sock_addr, protocol);
}

INLINE void write_port(struct bpf_sock_addr *context, u16 port)
{
	STORE32(context, struct bpf_sock_addr, user_port, swap16(port));
}

INLINE void write_v4(struct bpf_sock_addr *context, u32 address)
{
	STORE32(context, struct bpf_sock_addr, user_ip4, address);
}

INLINE void write_v6(struct bpf_sock_addr *context, const struct address *address)
{
	STORE32(context, struct bpf_sock_addr, user_ip6[0], address->words[0]);
	STORE32(context, struct bpf_sock_addr, user_ip6[1], address->words[1]);
	STORE32(context, struct bpf_sock_addr, user_ip6[2], address->words[2]);
	STORE32(context, struct bpf_sock_addr, user_ip6[3], address->words[3]);
}

/* The loopback address of the family of another one. */
INLINE struct address loopback_beside(const struct address *address)
{
	if (is_v4(address))
		return from_v4(swap32(0x7f000001));
	return (struct address){ { 0, 0, 0, swap32(1) } };
}

/* What becomes of a destination. */
enum fate {
	FATE_SAME,
	FATE_REPLACED,
	FATE_REFUSED,
};

/* Has a socket go to a listener, if where it wanted to go can be noted down. */
INLINE enum fate send_to(struct bpf_sock_addr *context, struct destination *to, const struct destination *listener,
			 u32 counter)
{
	if (!remember(context, to, listener)) {
		count(COUNTER_OUTBOUND_REFUSED);
		return FATE_REFUSED;
	}
	count(counter);
	*to = *listener;
	return FATE_REPLACED;
}

/* Tells the kernel, in the terms of a program at a cgroup. */
INLINE int answer_v4(struct bpf_sock_addr *context, const struct destination *to, enum fate fate)
{
	if (fate == FATE_REPLACED) {
		write_v4(context, to->address.words[3]);
		write_port(context, to->port);
	}
	return fate == FATE_REFUSED ? REFUSE : ALLOW;
}

INLINE int answer_v6(struct bpf_sock_addr *context, const struct destination *to, enum fate fate)
{
	if (fate == FATE_REPLACED) {
		write_v6(context, &to->address);
		write_port(context, to->port);
	}
	return fate == FATE_REFUSED ? REFUSE : ALLOW;
}

/* Shows the workload, instead of the listener, whom it wanted to reach. */
INLINE int show_original_v4(struct bpf_sock_addr *context)
{
	struct original *original;
	struct destination peer;

	read_v4(context, &peer);
	original = recall(context, &peer);
	if (original) {
		write_v4(context, original->address.words[3]);
		write_port(context, original->port);
	}
	return ALLOW;
}

INLINE int show_original_v6(struct bpf_sock_addr *context)
{
	struct original *original;
	struct destination peer;

	read_v6(context, &peer);
	original = recall(context, &peer);
	if (original) {
		write_v6(context, &original->address);
		write_port(context, original->port);
	}
	return ALLOW;
}

#endif

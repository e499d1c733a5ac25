/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Which socket gets a connection that arrives: the sidecar's inbound listener. The packets stay as they are, so the
 * address that the client asked for is the one of the accepted socket. The order of the questions is that of the rules in
 * the chain KUMA_MESH_INBOUND of the other engines.
 */
#include "state.h"

INLINE void read_ends(struct bpf_sk_lookup *context, struct address *local, struct address *remote)
{
	if (LOAD32(context, struct bpf_sk_lookup, family) == AF_INET) {
		*remote = from_v4(LOAD32(context, struct bpf_sk_lookup, remote_ip4));
		*local = from_v4(LOAD32(context, struct bpf_sk_lookup, local_ip4));
		return;
	}
	remote->words[0] = LOAD32(context, struct bpf_sk_lookup, remote_ip6[0]);
	remote->words[1] = LOAD32(context, struct bpf_sk_lookup, remote_ip6[1]);
	remote->words[2] = LOAD32(context, struct bpf_sk_lookup, remote_ip6[2]);
	remote->words[3] = LOAD32(context, struct bpf_sk_lookup, remote_ip6[3]);
	local->words[0] = LOAD32(context, struct bpf_sk_lookup, local_ip6[0]);
	local->words[1] = LOAD32(context, struct bpf_sk_lookup, local_ip6[1]);
	local->words[2] = LOAD32(context, struct bpf_sk_lookup, local_ip6[2]);
	local->words[3] = LOAD32(context, struct bpf_sk_lookup, local_ip6[3]);
}

/*
 * Whether the connection goes to the sidecar. By which interface it came does not tell: the kernel gives that of the
 * address for what this host sends to itself.
 */
INLINE bool is_inbound(struct bpf_sk_lookup *context, u16 port)
{
	struct address local, remote;
	u32 network;

	if (!has(SETTING_INBOUND) || !has_port(block_of(port)->inbound_redirected, port))
		return false;
	if (!has(LOAD32(context, struct bpf_sk_lookup, family) == AF_INET ? SETTING_V4 : SETTING_V6))
		return false;
	read_ends(context, &local, &remote);
	/* This host to itself. Its addresses may have changed since they were listed, but not for loopback ones. */
	if (is_loopback(&local) || is_equal(&local, &remote))
		return false;
	network = network_of(&remote);
	/* Whoever connects to it is answered by this host itself; whoever comes from it is anybody on the link. */
	if (is_unspecified(&remote))
		network &= ~NETWORK_LOCAL;
	return !(network & (NETWORK_LOCAL | NETWORK_INBOUND_EXCLUDED));
}

/* Gives the connection to a listener of these slots, if there is one that takes it. */
INLINE bool assign(struct bpf_sk_lookup *context, u32 first)
{
	long failed = -1;

#pragma clang loop unroll(disable)
	for (u32 slot = 0; slot < LISTENERS_OF_FAMILY; slot++) {
		u32 key = first + slot;
		void *socket = bpf_map_lookup_elem(&listeners, &key);

		if (socket) {
			failed = bpf_sk_assign(context, socket, 0);
			bpf_sk_release(socket);
			if (failed == 0)
				return true;
		}
	}
	return false;
}

SECTION("netns/sk_lookup") int sk_lookup(struct bpf_sk_lookup *context)
{
	u16 port = LOAD32(context, struct bpf_sk_lookup, local_port);

	if (LOAD32(context, struct bpf_sk_lookup, protocol) != IPPROTO_TCP || !in_force() || !is_inbound(context, port))
		return SK_PASS;
	if (LOAD32(context, struct bpf_sk_lookup, family) == AF_INET && assign(context, LISTENERS_V4)) {
		count(COUNTER_INBOUND_REDIRECTED);
		return SK_PASS;
	}
	/* An IPv6 socket takes IPv4 connections too, unless it is told not to. */
	if (assign(context, LISTENERS_V6)) {
		count(COUNTER_INBOUND_REDIRECTED);
		return SK_PASS;
	}
	/* The sidecar does not listen: refused, as a redirected packet would be. */
	count(COUNTER_INBOUND_REFUSED);
	return SK_DROP;
}

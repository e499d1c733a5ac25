/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What happens to TCP sockets: hands over from the socket of the workload to the one that the sidecar accepts where the
 * connection wanted to go, and knows the sidecar's inbound listeners.
 */
#include "state.h"

INLINE u64 netns_cookie_of(struct bpf_sock_ops *context)
{
	return settings.netns_cookie == 0 ? 0 : bpf_get_netns_cookie(context);
}

/* The two ends of a connection. That of an IPv6 socket may be an IPv4 connection. */
INLINE void ends(struct bpf_sock_ops *context, struct address *local, struct address *remote)
{
	*remote = from_v4(LOAD32(context, struct bpf_sock_ops, remote_ip4));
	*local = from_v4(LOAD32(context, struct bpf_sock_ops, local_ip4));
	if (LOAD32(context, struct bpf_sock_ops, family) == AF_INET)
		return;
	if (LOAD32(context, struct bpf_sock_ops, remote_ip6[0]) == 0 &&
	    LOAD32(context, struct bpf_sock_ops, remote_ip6[1]) == 0 &&
	    LOAD32(context, struct bpf_sock_ops, remote_ip6[2]) == swap32(0xffff))
		return;
	remote->words[0] = LOAD32(context, struct bpf_sock_ops, remote_ip6[0]);
	remote->words[1] = LOAD32(context, struct bpf_sock_ops, remote_ip6[1]);
	remote->words[2] = LOAD32(context, struct bpf_sock_ops, remote_ip6[2]);
	remote->words[3] = LOAD32(context, struct bpf_sock_ops, remote_ip6[3]);
	local->words[0] = LOAD32(context, struct bpf_sock_ops, local_ip6[0]);
	local->words[1] = LOAD32(context, struct bpf_sock_ops, local_ip6[1]);
	local->words[2] = LOAD32(context, struct bpf_sock_ops, local_ip6[2]);
	local->words[3] = LOAD32(context, struct bpf_sock_ops, local_ip6[3]);
}

/* A redirected socket has its source port now, and its first packet has yet to leave. */
INLINE void publish(struct bpf_sock_ops *context, void *socket)
{
	struct original *original = bpf_sk_storage_get(&sockets, socket, NULL, 0);
	struct pair pair = {};

	if (!original || original->role != ROLE_CLIENT)
		return;
	pair.netns_cookie = netns_cookie_of(context);
	ends(context, &pair.client, &pair.listener);
	pair.client_port = LOAD32(context, struct bpf_sock_ops, local_port);
	pair.listener_port = swap32(LOAD32(context, struct bpf_sock_ops, remote_port));
	if (original->listener_port != pair.listener_port || !is_equal(&original->listener, &pair.listener))
		return;
	bpf_map_update_elem(&pairs, &pair, original, BPF_ANY);
}

/* The sidecar accepts, perhaps, a redirected connection. */
INLINE void adopt(struct bpf_sock_ops *context, void *socket)
{
	struct original *published, *original;
	struct pair pair = {};

	pair.netns_cookie = netns_cookie_of(context);
	ends(context, &pair.listener, &pair.client);
	pair.listener_port = LOAD32(context, struct bpf_sock_ops, local_port);
	pair.client_port = swap32(LOAD32(context, struct bpf_sock_ops, remote_port));
	if (pair.listener_port != settings.outbound_port && pair.listener_port != settings.inbound_port)
		return;
	published = bpf_map_lookup_elem(&pairs, &pair);
	if (!published)
		return;
	original = bpf_sk_storage_get(&sockets, socket, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (original) {
		original->address = published->address;
		original->port = published->port;
		original->role = ROLE_ACCEPTED;
	}
	bpf_map_delete_elem(&pairs, &pair);
}

/*
 * A socket listens, perhaps for inbound connections. It gets a free slot, so that it does not take that of one that outlives
 * it; the kernel frees the slot when the socket is closed. Beyond that many sockets, those in slots stand for the others of
 * their SO_REUSEPORT group.
 */
INLINE void enlist(struct bpf_sock_ops *context)
{
	u32 first = LOAD32(context, struct bpf_sock_ops, family) == AF_INET6 ? LISTENERS_V6 : LISTENERS_V4;

	if (LOAD32(context, struct bpf_sock_ops, local_port) != settings.inbound_port || !in_namespace(context))
		return;
#pragma clang loop unroll(disable)
	for (u32 slot = 0; slot < LISTENERS_OF_FAMILY; slot++) {
		u32 key = first + slot;

		if (bpf_sock_map_update(context, &listeners, &key, BPF_NOEXIST) == 0)
			return;
	}
}

SECTION("cgroup/sockops") int sockops(struct bpf_sock_ops *context)
{
	u32 event = LOAD32(context, struct bpf_sock_ops, op);
	void *socket;

	if (event == BPF_SOCK_OPS_TCP_LISTEN_CB) {
		enlist(context);
		return ALLOW;
	}
	if (event != BPF_SOCK_OPS_TCP_CONNECT_CB && event != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return ALLOW;
	socket = LOAD_POINTER(context, struct bpf_sock_ops, sk);
	if (!socket)
		return ALLOW;
	if (event == BPF_SOCK_OPS_TCP_CONNECT_CB)
		publish(context, socket);
	else
		adopt(context, socket);
	return ALLOW;
}

/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* getsockopt(2): answers SO_ORIGINAL_DST, as connection tracking does where packets are translated. */
#include "state.h"

/* struct sockaddr_in and struct sockaddr_in6. */
struct address_v4 {
	u16 family;
	u16 port;
	u32 address;
	u64 zero;
};

struct address_v6 {
	u16 family;
	u16 port;
	u32 flow;
	u32 address[4];
	u32 scope;
};

/*
 * The buffer that programs see has no more than a page, and the kernel would cut a longer answer to it. A length of 0
 * makes it leave the caller's buffer as it is.
 */
INLINE int not_ours(struct bpf_sockopt *context)
{
	if (LOAD32(context, struct bpf_sockopt, optlen) > 4096)
		STORE32(context, struct bpf_sockopt, optlen, 0);
	return ALLOW;
}

/*
 * Where the client of a socket of the sidecar wanted to go. Inbound connections are handed to the sidecar as they are, so
 * there it is the socket's own address. If connection tracking has an answer, that is the right one for them.
 */
INLINE bool find(struct bpf_sockopt *context, struct original *found)
{
	void *socket = LOAD_POINTER(context, struct bpf_sockopt, sk);
	struct original *original = bpf_sk_storage_get(&sockets, socket, NULL, 0);

	if (original && original->role == ROLE_ACCEPTED) {
		*found = *original;
		return true;
	}
	if (LOAD32(context, struct bpf_sockopt, retval) == 0 || !in_force() || !in_namespace(context))
		return false;
	if ((u32)bpf_get_current_uid_gid() != settings.sidecar_uid)
		return false;
	found->port = LOAD32(socket, struct bpf_sock, src_port);
	if (LOAD32(socket, struct bpf_sock, family) == AF_INET) {
		found->address = from_v4(LOAD32(socket, struct bpf_sock, src_ip4));
	} else {
		found->address.words[0] = LOAD32(socket, struct bpf_sock, src_ip6[0]);
		found->address.words[1] = LOAD32(socket, struct bpf_sock, src_ip6[1]);
		found->address.words[2] = LOAD32(socket, struct bpf_sock, src_ip6[2]);
		found->address.words[3] = LOAD32(socket, struct bpf_sock, src_ip6[3]);
	}
	/*
	 * No inbound connection is for a loopback address. One that is came to the outbound listener, either of its own accord
	 * or without what is known of it; with this for an answer, the sidecar would call itself for ever.
	 */
	return !is_loopback(&found->address);
}

SECTION("cgroup/getsockopt") int getsockopt(struct bpf_sockopt *context)
{
	u32 level = LOAD32(context, struct bpf_sockopt, level);
	void *buffer, *end;
	struct original found = {};

	if (LOAD32(context, struct bpf_sockopt, optname) != SO_ORIGINAL_DST || (level != SOL_IP && level != SOL_IPV6))
		return not_ours(context);
	if (!find(context, &found) || is_v4(&found.address) != (level == SOL_IP))
		return not_ours(context);
	buffer = LOAD_POINTER(context, struct bpf_sockopt, optval);
	end = LOAD_POINTER(context, struct bpf_sockopt, optval_end);
	if (level == SOL_IP) {
		struct address_v4 *answer = buffer;

		if ((void *)(answer + 1) > end)
			return not_ours(context);
		answer->family = AF_INET;
		answer->port = swap16(found.port);
		answer->address = found.address.words[3];
		answer->zero = 0;
		STORE32(context, struct bpf_sockopt, optlen, sizeof(*answer));
	} else {
		struct address_v6 *answer = buffer;

		if ((void *)(answer + 1) > end)
			return not_ours(context);
		answer->family = AF_INET6;
		answer->port = swap16(found.port);
		answer->flow = 0;
		answer->address[0] = found.address.words[0];
		answer->address[1] = found.address.words[1];
		answer->address[2] = found.address.words[2];
		answer->address[3] = found.address.words[3];
		answer->scope = 0;
		STORE32(context, struct bpf_sockopt, optlen, sizeof(*answer));
	}
	STORE32(context, struct bpf_sockopt, retval, 0);
	return ALLOW;
}

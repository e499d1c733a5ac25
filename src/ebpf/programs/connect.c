/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* connect(2): sends connections, and the queries of connected sockets, to the sidecar. */
#include "outbound.h"

/*
 * To one address, there are only as many connections as ephemeral ports. So the connections of the workload are spread
 * over 127.128.0.0/16; the outbound listener is bound to 0.0.0.0. IPv6 has but one loopback address.
 */
INLINE struct address outbound_listener(const struct address *wanted)
{
	if (!is_v4(wanted))
		return loopback_beside(wanted);
	return from_v4(swap32(0x7f800000 | (bpf_get_prandom_u32() & 0xffff)));
}

/* Whether the destination is now another one; a negative number if the connection has to be refused. */
INLINE int redirect(struct bpf_sock_addr *context, struct destination *to)
{
	struct original *before;
	enum way way;

	if (to->protocol != IPPROTO_TCP && to->protocol != IPPROTO_UDP)
		return 0;
	way = way_of(context, to);
	if (way == WAY_DIRECT) {
		/* A socket that failed to connect may be used again. */
		before = recall(context);
		if (before)
			before->role = ROLE_NONE;
		return 0;
	}
	if (!remember(context, to)) {
		count(COUNTER_OUTBOUND_REFUSED);
		return -1;
	}
	switch (way) {
	case WAY_DNS_LISTENER:
		count(COUNTER_DNS_REDIRECTED);
		to->address = loopback_beside(&to->address);
		to->port = settings.dns_port;
		break;
	case WAY_INBOUND_LISTENER:
		/* The address stays, so that the connection comes from where it would have come from. */
		count(COUNTER_SIDECAR_TO_ITSELF);
		to->port = settings.inbound_port;
		break;
	default:
		count(COUNTER_OUTBOUND_REDIRECTED);
		to->address = outbound_listener(&to->address);
		to->port = settings.outbound_port;
	}
	return 1;
}

SECTION("cgroup/connect4") int connect4(struct bpf_sock_addr *context)
{
	struct destination to;
	int redirected;

	read_v4(context, &to);
	redirected = redirect(context, &to);
	if (redirected > 0) {
		write_v4(context, to.address.words[3]);
		write_port(context, to.port);
	}
	return redirected < 0 ? REFUSE : ALLOW;
}

/* Also called for IPv4 destinations of IPv6 sockets, in their mapped form. */
SECTION("cgroup/connect6") int connect6(struct bpf_sock_addr *context)
{
	struct destination to;
	int redirected;

	read_v6(context, &to);
	redirected = redirect(context, &to);
	if (redirected > 0) {
		write_v6(context, &to.address);
		write_port(context, to.port);
	}
	return redirected < 0 ? REFUSE : ALLOW;
}

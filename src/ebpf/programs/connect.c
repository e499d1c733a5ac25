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

/*
 * While one generation of the programs takes the place of another, both are called, and the later one sees what the earlier
 * one has made of the destination.
 */
INLINE enum fate redirect(struct bpf_sock_addr *context, struct destination *to)
{
	struct destination listener = *to;
	u32 counter;

	if (to->protocol != IPPROTO_TCP && to->protocol != IPPROTO_UDP)
		return FATE_SAME;
	switch (way_of(context, to)) {
	case WAY_DIRECT:
		return FATE_SAME;
	case WAY_DNS_LISTENER:
		counter = COUNTER_DNS_REDIRECTED;
		listener.address = loopback_beside(&to->address);
		listener.port = settings.dns_port;
		break;
	case WAY_INBOUND_LISTENER:
		/* The address stays, so that the connection comes from where it would have come from. */
		counter = COUNTER_SIDECAR_TO_ITSELF;
		listener.port = settings.inbound_port;
		break;
	default:
		counter = COUNTER_OUTBOUND_REDIRECTED;
		listener.address = outbound_listener(&to->address);
		listener.port = settings.outbound_port;
	}
	/* The earlier generation has sent it there already, and this one is in force by now. */
	if (recall(context, to))
		return FATE_SAME;
	return send_to(context, to, &listener, counter);
}

SECTION("cgroup/connect4") int connect4(struct bpf_sock_addr *context)
{
	struct destination to;

	read_v4(context, &to);
	return answer_v4(context, &to, redirect(context, &to));
}

/* Also called for IPv4 destinations of IPv6 sockets, in their mapped form. */
SECTION("cgroup/connect6") int connect6(struct bpf_sock_addr *context)
{
	struct destination to;

	read_v6(context, &to);
	return answer_v6(context, &to, redirect(context, &to));
}

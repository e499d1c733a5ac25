/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * sendmsg(2) and recvmsg(2) of UDP sockets: sends the DNS queries of sockets that are not connected to the sidecar, and
 * gives its answers the address of the server that was asked. A socket that asks several servers gets all answers from
 * the last one.
 */
#include "outbound.h"

INLINE int redirect(struct bpf_sock_addr *context, struct destination *to)
{
	struct destination listener = *to;

	if (to->protocol != IPPROTO_UDP || way_of(context, to) != WAY_DNS_LISTENER)
		return 0;
	listener.address = loopback_beside(&to->address);
	listener.port = settings.dns_port;
	if (!remember(context, to, &listener)) {
		count(COUNTER_OUTBOUND_REFUSED);
		return -1;
	}
	count(COUNTER_DNS_REDIRECTED);
	*to = listener;
	return 1;
}

SECTION("cgroup/sendmsg4") int sendmsg4(struct bpf_sock_addr *context)
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

SECTION("cgroup/sendmsg6") int sendmsg6(struct bpf_sock_addr *context)
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

SECTION("cgroup/recvmsg4") int recvmsg4(struct bpf_sock_addr *context)
{
	struct destination from;
	struct original *asked;

	read_v4(context, &from);
	asked = recall(context, &from);
	if (asked) {
		write_v4(context, asked->address.words[3]);
		write_port(context, asked->port);
	}
	return ALLOW;
}

SECTION("cgroup/recvmsg6") int recvmsg6(struct bpf_sock_addr *context)
{
	struct destination from;
	struct original *asked;

	read_v6(context, &from);
	asked = recall(context, &from);
	if (asked) {
		write_v6(context, &asked->address);
		write_port(context, asked->port);
	}
	return ALLOW;
}

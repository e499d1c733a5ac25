/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * sendmsg(2) and recvmsg(2) of UDP sockets: sends the DNS queries of sockets that are not connected to the sidecar, and
 * gives its answers the address of the server that was asked. A socket that asks several servers gets all answers from
 * the last one.
 */
#include "outbound.h"

INLINE int redirect(struct bpf_sock_addr *context, struct destination *to)
{
	if (to->protocol != IPPROTO_UDP || way_of(context, to) != WAY_DNS_LISTENER)
		return 0;
	if (!remember(context, to)) {
		count(COUNTER_OUTBOUND_REFUSED);
		return -1;
	}
	count(COUNTER_DNS_REDIRECTED);
	to->address = loopback_beside(&to->address);
	to->port = settings.dns_port;
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

/* The server that was asked, if this is an answer of the sidecar's listener. */
INLINE struct original *server_asked(struct bpf_sock_addr *context, const struct destination *from)
{
	struct address listener;

	if (from->port != settings.dns_port)
		return NULL;
	listener = loopback_beside(&from->address);
	return is_equal(&from->address, &listener) ? recall(context) : NULL;
}

SECTION("cgroup/recvmsg4") int recvmsg4(struct bpf_sock_addr *context)
{
	struct destination from;
	struct original *asked;

	read_v4(context, &from);
	asked = server_asked(context, &from);
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
	asked = server_asked(context, &from);
	if (asked) {
		write_v6(context, &asked->address);
		write_port(context, asked->port);
	}
	return ALLOW;
}
